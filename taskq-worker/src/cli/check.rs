//! `check`: checks the settings, the servers and the schedule, and shows where each setting came from.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use taskq::TaskId;
use taskq::backend::{self, BackendOptions, KvExt, ResultBackendExt};
use taskq::broker::{self, BrokerError, BrokerOptions};
use taskq::definition::Registry;
use taskq::internal::clock::{Clock, measure_store_clock};
use taskq::internal::fault::full_message;
use taskq::settings::Settings;
use taskq_beat::internal::leader;
use taskq_beat::{BeatError, entry};
use tokio::time::Instant;

use super::exit::Exit;
use super::failure::Failure;
use super::output::plain;
use super::session::Session;

/// The distance between two clocks that is worth a warning.
const CLOCKS_APART: Duration = Duration::from_secs(1);

/// Check the settings, the broker, the result backend and the schedule, with the remedy for each fault
///
/// Shows every setting and where it came from, connects to both servers, makes a round trip to each, and looks at every
/// entry of beat. It sends no message, and declares and changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq check
  taskq check --broker amqp://guest:guest@localhost:5672/%2f --results redis://localhost:6379/0")]
pub(super) struct CheckCommand {}

/// The result of all checks.
#[derive(Serialize)]
struct Report {
    settings: Vec<SettingRow>,
    /// The files that more users may use than is right, each with the remedy.
    exposure: Vec<String>,
    broker: ServerReport,
    results: ServerReport,
    schedule: ScheduleReport,
}

/// The schedule that a beat would send.
#[derive(Default, Serialize)]
struct ScheduleReport {
    /// The number of entries of this program and of taskq.toml.
    entries: usize,
    /// The mistakes in them, each with its place and the remedy.
    faults: Vec<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Serialize)]
struct SettingRow {
    key: &'static str,
    value: String,
    origin: String,
}

/// The state of one of the two servers.
#[derive(Default, Serialize)]
struct ServerReport {
    /// The product, its capabilities, and warnings about its configuration.
    facts: Vec<String>,
    /// The time of a round trip in milliseconds.
    round_trip_ms: Option<f64>,
    /// How far its clock is ahead of this machine's, in milliseconds, where it tells its time.
    clock_ahead_ms: Option<i64>,
    /// The fault, with the remedy.
    fault: Option<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

impl CheckCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let rows = settings.report().into_iter().map(|setting| SettingRow {
            key: setting.key,
            value: setting.value,
            origin: setting.origin.to_string(),
        });
        let mut report = Report {
            settings: rows.collect(),
            exposure: Vec::new(),
            broker: ServerReport::of(ask_broker(&settings).await),
            results: ServerReport::of(ask_results(&settings).await),
            schedule: ScheduleReport::of(&settings).await,
        };
        // Once the files are open: SQLite has made those beside them.
        report.exposure = settings.exposure();
        session.output().say(&report, describe)?;
        let exits = [report.schedule.exit, report.broker.exit, report.results.exit];
        Ok(exits.into_iter().flatten().next().unwrap_or(Exit::Ok))
    }
}

async fn ask_broker(settings: &Settings) -> Result<ServerReport, Failure> {
    let options = BrokerOptions::default().with(|options| {
        options.publish_timeout = settings.publish_timeout;
        options.strict = settings.strict;
        options.file_mode = settings.file_mode;
        options.tls = settings.tls.clone();
        "taskq check".clone_into(&mut options.name);
    });
    let broker = broker::connect(settings.broker_url(), options).await?;
    let info = broker.info().await?;
    let asked = Instant::now();
    // Any answer will do: the queue need not exist.
    match broker.stats(&settings.default_queue).await {
        Ok(_) | Err(BrokerError::NoQueue { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let round_trip = asked.elapsed();
    broker.close().await;
    let mut facts = vec![format!("{} {}", info.product, info.version)];
    facts.extend(info.capabilities);
    if settings.is_in_process() {
        facts.push(
            "it exists in one process only; for several set TASKQ_BROKER_URL=sqlite:taskq.db, or a server's".to_owned(),
        );
    }
    Ok(ServerReport { facts, round_trip_ms: Some(milliseconds(round_trip)), ..ServerReport::default() })
}

async fn ask_results(settings: &Settings) -> Result<ServerReport, Failure> {
    let Some(url) = settings.result_url() else {
        // Tasks run without results, so this is no fault.
        let facts = vec![
            "none: results, progress and unique keys cannot be stored; set TASKQ_RESULT_URL=redis://host:6379/0"
                .to_owned(),
        ];
        return Ok(ServerReport { facts, ..ServerReport::default() });
    };
    let options = BackendOptions::default().with(|options| {
        options.result_ttl = settings.result_ttl;
        options.file_mode = settings.file_mode;
        options.tls = settings.tls.clone();
    });
    let backend = backend::connect(url, options).await?;
    let mut facts = backend.results.info().await?;
    let nobody = TaskId::new();
    let asked = Instant::now();
    backend.results.read_one(&nobody).await?;
    let round_trip = asked.elapsed();
    backend.kv.get_json::<serde_json::Value>(&format!("check/{nobody}")).await?;
    let ahead = measure_store_clock(&*backend.kv, &Clock::system()).await;
    let clock_ahead_ms = match ahead {
        Ok(ahead) => ahead.map(|ahead| ahead.num_milliseconds()),
        Err(error) => {
            facts.push(format!("its time is not known: {}", full_message(&error)));
            None
        }
    };
    facts.extend(clock_ahead_ms.and_then(clocks_apart));
    let round_trip_ms = Some(milliseconds(round_trip));
    Ok(ServerReport { facts, round_trip_ms, clock_ahead_ms, ..ServerReport::default() })
}

/// The warning about a clock that differs notably from this machine's.
fn clocks_apart(ahead_ms: i64) -> Option<String> {
    let side = if ahead_ms < 0 { "behind" } else { "ahead of" };
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    (apart >= CLOCKS_APART).then(|| {
        format!(
            "its clock is {:.1} s {side} this machine's: the times of calls are compared between machines; synchronize \
             their clocks",
            apart.as_secs_f64()
        )
    })
}

impl ScheduleReport {
    async fn of(settings: &Settings) -> Self {
        match Self::look(settings).await {
            Ok(entries) => Self { entries, ..Self::default() },
            Err((exit, faults)) => Self { entries: 0, faults, exit: Some(exit) },
        }
    }

    async fn look(settings: &Settings) -> Result<usize, (Exit, Vec<String>)> {
        let one = |failure: Failure| (failure.exit, failure.message().map(str::to_owned).into_iter().collect());
        let registry = Registry::collect().map_err(|error| one(error.into()))?;
        let entries = entry::collect(&registry, settings)
            .map_err(|mistakes| (Exit::Config, mistakes.iter().map(ToString::to_string).collect()))?;
        match settings.beat_store() {
            None if !entries.is_empty() => return Err(one(BeatError::NoStore.into())),
            Some(url) if settings.result_url() != Some(url) => {
                let options = BackendOptions::default().with(|options| {
                    options.file_mode = settings.file_mode;
                    options.tls = settings.tls.clone();
                });
                let store = backend::connect(url, options).await.map_err(|error| one(error.into()))?;
                leader::holder(&store.kv).await.map_err(|error| one(error.into()))?;
            }
            _ => {}
        }
        Ok(entries.len())
    }

    fn describe(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|fault| format!("\n  FAULT: {}", plain(fault))).collect();
        match (self.entries, faults.is_empty()) {
            (0, true) => "schedule\n  no entries".to_owned(),
            (entries, true) => format!("schedule\n  {entries} entries"),
            _ => format!("schedule{}", faults.concat()),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

impl ServerReport {
    fn of(found: Result<Self, Failure>) -> Self {
        found.unwrap_or_else(|failure| Self {
            fault: failure.message().map(str::to_owned),
            exit: Some(failure.exit),
            ..Self::default()
        })
    }

    fn describe(&self, name: &str) -> String {
        let facts = self.facts.iter().map(|fact| plain(fact));
        let time = self.round_trip_ms.map(|time| format!("a round trip took {time} ms"));
        let clock = self.clock_ahead_ms.map(|ahead| format!("its clock is {ahead} ms ahead of this machine's"));
        let fault = self.fault.as_ref().map(|fault| format!("FAULT: {}", plain(fault)));
        let lines: Vec<String> =
            facts.chain(time).chain(clock).chain(fault).map(|line| format!("\n  {line}")).collect();
        format!("{name}{}", lines.concat())
    }
}

fn describe(report: &Report) -> String {
    let width =
        |text: fn(&SettingRow) -> &str| report.settings.iter().map(|setting| text(setting).len()).max().unwrap_or(0);
    let (keys, values) = (width(|setting| setting.key), width(|setting| &setting.value));
    let line = |SettingRow { key, value, origin }: &SettingRow| {
        format!("\n  {key:keys$}  {}", plain(&format!("{value:values$}  {origin}")))
    };
    let settings: Vec<String> = report.settings.iter().map(line).collect();
    let (broker, results) = (report.broker.describe("broker"), report.results.describe("results"));
    let schedule = report.schedule.describe();
    let exposure: Vec<String> = report.exposure.iter().map(|warning| format!("\n  {}", plain(warning))).collect();
    let exposure = if exposure.is_empty() { String::new() } else { format!("\n\nfiles{}", exposure.concat()) };
    format!("settings{}{exposure}\n\n{broker}\n\n{results}\n\n{schedule}", settings.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told_with_the_side() {
        assert_eq!((clocks_apart(999), clocks_apart(-999), clocks_apart(0)), (None, None, None));
        for (ahead_ms, text) in [(60_200, "60.2 s ahead of"), (-1000, "1.0 s behind")] {
            let warning = clocks_apart(ahead_ms).expect("it is worth one");
            assert!(warning.contains(text) && warning.contains("synchronize"), "{warning}");
        }
    }

    #[test]
    fn a_fault_is_shown_beside_a_healthy_server() {
        let well = ServerReport { facts: vec!["Redis 7".into()], round_trip_ms: Some(0.25), ..ServerReport::default() };
        let ill = ServerReport::of(Err(Failure::new(Exit::Unreachable, "no answer")));
        assert_eq!(ill.exit, Some(Exit::Unreachable));
        let settings = vec![SettingRow { key: "strict", value: "false".into(), origin: "default".into() }];
        let expected = "settings\n  strict  false  default\n\nbroker\n  FAULT: no answer\n\nresults\n  Redis 7\n  \
                        a round trip took 0.25 ms\n\nschedule\n  no entries";
        let schedule = ScheduleReport::default();
        let mut report = Report { settings, exposure: Vec::new(), broker: ill, results: well, schedule };
        assert_eq!(describe(&report), expected);
        report.exposure = vec!["others may use it".into()];
        assert!(describe(&report).contains("\n\nfiles\n  others may use it\n\nbroker"));
    }
}
