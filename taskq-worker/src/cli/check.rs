//! `check`: is everything there, and where did each setting come from.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use taskq::TaskId;
use taskq::backend::{self, BackendOptions, KvExt, ResultBackendExt};
use taskq::broker::{self, BrokerError, BrokerOptions};
use taskq::definition::Registry;
use taskq::settings::Settings;
use taskq_beat::internal::leader;
use taskq_beat::{BeatError, entry};
use tokio::time::Instant;

use super::exit::Exit;
use super::failure::Failure;
use super::output::plain;
use super::session::Session;

/// Check the settings, the broker, the result backend and the schedule, with the mend for each fault
///
/// Shows every setting and where it came from, connects to both servers, makes a round trip to each, and looks at every
/// entry of beat. It sends no message, and declares and changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq check
  taskq check --broker amqp://guest:guest@localhost:5672/%2f --results redis://localhost:6379/0")]
pub(super) struct CheckCommand {}

/// All that was found.
#[derive(Serialize)]
struct Report {
    settings: Vec<Setting>,
    broker: Server,
    results: Server,
    schedule: Schedule,
}

/// What beat would send.
#[derive(Default, Serialize)]
struct Schedule {
    /// How many entries this program and taskq.toml have.
    entries: usize,
    /// What is wrong with them, each with its place and the mend.
    faults: Vec<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Serialize)]
struct Setting {
    key: &'static str,
    value: String,
    origin: String,
}

/// What was found at one of the two servers.
#[derive(Default, Serialize)]
struct Server {
    /// What it is and can do, and what should be known of its configuration.
    facts: Vec<String>,
    /// How long one question and its answer took, in milliseconds.
    round_trip_ms: Option<f64>,
    /// What is wrong, with the mend.
    fault: Option<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

impl CheckCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let settings = session.settings()?;
        let rows = settings.report().into_iter().map(|(key, value, origin)| {
            let origin = origin.to_string();
            Setting { key, value, origin }
        });
        let report = Report {
            settings: rows.collect(),
            broker: Server::of(ask_broker(&settings).await),
            results: Server::of(ask_results(&settings).await),
            schedule: Schedule::of(&settings).await,
        };
        session.output().say(&report, describe)?;
        let exits = [report.schedule.exit, report.broker.exit, report.results.exit];
        Ok(exits.into_iter().flatten().next().unwrap_or(Exit::Ok))
    }
}

async fn ask_broker(settings: &Settings) -> Result<Server, Failure> {
    let options = BrokerOptions {
        publish_timeout: settings.publish_timeout,
        strict: settings.strict,
        name: "taskq check".to_owned(),
        ..BrokerOptions::default()
    };
    let broker = broker::connect(settings.broker_url(), options).await?;
    let info = broker.info().await?;
    let asked = Instant::now();
    // Any answer will do: whether the queue exists is not the question.
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
            "it lives in one process only; for several set TASKQ_BROKER_URL=sqlite:taskq.db, or a server's".to_owned(),
        );
    }
    Ok(Server { facts, round_trip_ms: Some(milliseconds(round_trip)), ..Server::default() })
}

async fn ask_results(settings: &Settings) -> Result<Server, Failure> {
    let Some(url) = settings.result_url() else {
        // Tasks run without results; so this is no fault.
        let facts = vec![
            "none: results, progress and unique keys have no place; set TASKQ_RESULT_URL=redis://host:6379/0"
                .to_owned(),
        ];
        return Ok(Server { facts, ..Server::default() });
    };
    let options = BackendOptions { result_ttl: settings.result_ttl, ..BackendOptions::default() };
    let backend = backend::connect(url, options).await?;
    let facts = backend.results.info().await?;
    let nobody = TaskId::new();
    let asked = Instant::now();
    backend.results.read_one(&nobody).await?;
    let round_trip = asked.elapsed();
    backend.kv.get_json::<serde_json::Value>(&format!("check/{nobody}")).await?;
    Ok(Server { facts, round_trip_ms: Some(milliseconds(round_trip)), ..Server::default() })
}

impl Schedule {
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
                let store =
                    backend::connect(url, BackendOptions::default()).await.map_err(|error| one(error.into()))?;
                leader::holder(&store.kv).await.map_err(|error| one(error.into()))?;
            }
            _ => {}
        }
        Ok(entries.len())
    }

    fn describe(&self) -> String {
        let faults: Vec<String> = self.faults.iter().map(|fault| format!("\n  FAULT: {}", plain(fault))).collect();
        match (self.entries, faults.is_empty()) {
            (0, true) => "schedule\n  nothing is sent by itself".to_owned(),
            (entries, true) => format!("schedule\n  {entries} entries"),
            _ => format!("schedule{}", faults.concat()),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

impl Server {
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
        let fault = self.fault.as_ref().map(|fault| format!("FAULT: {}", plain(fault)));
        let lines: Vec<String> = facts.chain(time).chain(fault).map(|line| format!("\n  {line}")).collect();
        format!("{name}{}", lines.concat())
    }
}

fn describe(report: &Report) -> String {
    let width =
        |text: fn(&Setting) -> &str| report.settings.iter().map(|setting| text(setting).len()).max().unwrap_or(0);
    let (keys, values) = (width(|setting| setting.key), width(|setting| &setting.value));
    let line = |Setting { key, value, origin }: &Setting| format!("\n  {key:keys$}  {value:values$}  {origin}");
    let settings: Vec<String> = report.settings.iter().map(line).collect();
    let (broker, results) = (report.broker.describe("broker"), report.results.describe("results"));
    let schedule = report.schedule.describe();
    format!("settings{}\n\n{broker}\n\n{results}\n\n{schedule}", settings.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_beside_what_is_well() {
        let well = Server { facts: vec!["Redis 7".into()], round_trip_ms: Some(0.25), ..Server::default() };
        let ill = Server::of(Err(Failure::new(Exit::Unreachable, "nobody answers")));
        assert_eq!(ill.exit, Some(Exit::Unreachable));
        let settings = vec![Setting { key: "strict", value: "false".into(), origin: "default".into() }];
        let expected = "settings\n  strict  false  default\n\nbroker\n  FAULT: nobody answers\n\nresults\n  Redis 7\n  \
                        a round trip took 0.25 ms\n\nschedule\n  nothing is sent by itself";
        let schedule = Schedule::default();
        assert_eq!(describe(&Report { settings, broker: ill, results: well, schedule }), expected);
    }
}
