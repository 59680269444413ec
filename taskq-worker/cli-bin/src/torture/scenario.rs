//! One run, from empty queues to the verdict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use taskq::BoxError;
use taskq::broker::{BrokerError, QUARANTINE_SUFFIX, QueueSpec};
use taskq::internal::bare;
use taskq::{Client, TaskId};
use tokio::time::Instant;

use super::catalog::Fault;
use super::checker::check;
use super::dice::Dice;
use super::fleet::{Fleet, WorkerRecipe};
use super::ledger::{Affected, Fact, Ledger, LedgerTail};
use super::network::Network;
use super::options::TortureOptions;
use super::plan::Plan;
use super::producer::Producer;
use super::proxy::Proxy;
use super::report::{Verdict, Versions};
use super::strikes::{StrikeContext, strike};
use super::timeline::SharedTimeline;
use super::{processes, reader, strikes};

/// The `unknown_task_grace` of the workers of a run.
const UNKNOWN_TASK_GRACE: &str = "4s";

/// How long a run waits for copies that are on their way, once everything has ended. They come back within ten seconds.
const COPIES_BOUND: Duration = Duration::from_secs(25);

/// The number of looks in a row at which the queues must be empty: a copy that a worker holds for the moment is not
/// visible.
const EMPTY_LOOKS: u32 = 10;

/// The number of levels of the delay ladder on which copies of this run may be.
const LADDER: u32 = 12;

/// How long the last processes may take to end.
const LAST_BOUND: Duration = Duration::from_secs(10);

/// A run: its workers, queues, proxies and ledger.
struct Scenario<'a> {
    options: &'a TortureOptions,
    client: &'a Client,
    folder: PathBuf,
    queues: Vec<String>,
    prefix: String,
    ledger: Arc<Ledger>,
    network: Network,
    fleet: Fleet,
    timeline: SharedTimeline,
}

/// Runs, and returns the verdict. An error means that the run was not possible, and says nothing about the promise.
pub async fn run(options: &TortureOptions, client: &Client) -> Result<Verdict, BoxError> {
    let begun = Instant::now();
    let versions = versions(client).await?;
    let scenario = Scenario::set_up(options, client).await?;
    let played = tokio::select! {
        played = scenario.play() => played,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => "interrupted".into(),
            Err(error) => error.into(),
        }),
    };
    let cleared = scenario.clear().await;
    let hindered = played.map_err(|error| scenario.with_folder(&error))?;
    cleared?;

    let pause_ms_max = options.pause_max.map(|pause| pause.as_millis() as u64);
    let findings = scenario.timeline.look(|timeline| check(timeline, u64::from(options.concurrency), pause_ms_max));
    let verdict = Verdict::new(options, findings, begun.elapsed(), versions, hindered);
    if verdict.held && options.folder.is_none() {
        std::fs::remove_dir_all(&scenario.folder)?;
        return Ok(verdict);
    }
    Ok(verdict.kept(Some(scenario.folder)))
}

async fn versions(client: &Client) -> Result<Versions, BoxError> {
    let broker = client.broker().info().await?;
    let results = match client.results() {
        Ok(results) => results.info().await?.into_iter().next().unwrap_or_default(),
        Err(_) => "none".to_owned(),
    };
    Ok(Versions {
        taskq: env!("CARGO_PKG_VERSION"),
        broker: format!("{} {}", broker.product, broker.version),
        results,
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

impl<'a> Scenario<'a> {
    /// Creates the folder, the ledger, the queues and the proxies.
    async fn set_up(options: &'a TortureOptions, client: &'a Client) -> Result<Self, BoxError> {
        // The last part of an id is the random one.
        let fresh = TaskId::new();
        let run = fresh.as_str().rsplit('-').next().unwrap_or_default().to_owned();
        let folder =
            options.folder.clone().unwrap_or_else(|| std::env::temp_dir().join(format!("taskq-torture-{run}")));
        std::fs::create_dir_all(&folder)?;
        let path = std::path::absolute(folder.join("ledger"))?;
        if path.exists() {
            return Err(format!("{} is there already; name a folder without one", path.display()).into());
        }
        let ledger = Arc::new(Ledger::open(&path, true)?);
        let queues: Vec<String> = ["a", "b"].map(|part| format!("torture.{run}.{part}")).into();
        for queue in &queues {
            client.declare_as(&QueueSpec::quorum(queue.as_str())).await?;
        }
        let settings = client.settings();
        let network = Network::for_faults(&options.faults, settings.broker_url(), settings.result_url()).await?;
        let recipe = recipe(options, client, &network, &queues, &path)?;
        Ok(Self {
            options,
            client,
            folder,
            prefix: format!("torture-{run}"),
            queues,
            ledger,
            network,
            fleet: Fleet::new(recipe),
            timeline: SharedTimeline::new(client.results().is_ok()),
        })
    }

    /// Runs from the start of the workers to their end. Returns why faults could not strike.
    async fn play(&self) -> Result<Vec<String>, BoxError> {
        let mut tail = LedgerTail::open(&self.fleet.recipe().ledger)?;
        let mut hindered = Vec::new();
        tokio::select! {
            played = self.act(&mut hindered) => played?,
            followed = reader::follow(LedgerTail::open(&self.fleet.recipe().ledger)?, &self.timeline) => followed?,
            noted = self.note_ends() => noted?,
            () = self.watch_memory() => {}
        }
        // The ledger is read once more from its beginning, now that it is complete.
        self.timeline.clear();
        reader::catch_up(&mut tail, &self.timeline)?;
        Ok(hindered)
    }

    async fn note_ends(&self) -> Result<(), BoxError> {
        match self.client.results() {
            Ok(results) => reader::note_ends(results, &self.timeline, &self.ledger).await,
            Err(_) => std::future::pending().await,
        }
    }

    async fn act(&self, hindered: &mut Vec<String>) -> Result<(), BoxError> {
        let TortureOptions { seed, faults, times, hold, .. } = self.options;
        for _ in 0..self.options.workers {
            self.fleet.add().await?;
        }
        let plan = Plan::make(*seed, self.options.load(), faults, *times);
        let span = plan.span(*hold);
        let sender = match self.network.producer() {
            Some(proxy) => {
                Client::builder().settings(self.client.settings().clone()).broker(proxy.url()).build().await?
            }
            None => self.client.clone(),
        };
        let ledger = Arc::clone(&self.ledger);
        let producer = Arc::new(Producer::new(sender, self.queues.clone(), self.prefix.clone(), ledger));
        let sending = tokio::spawn(Arc::clone(&producer).send(plan.tasks, span));
        self.strike(&producer, &plan.strikes, hindered).await?;
        self.network.heal();
        sending.await??;

        if !self.over_within(self.options.patience).await {
            self.ledger.note(Fact::PatienceOver)?;
            // Tasks that new workers find were stuck; tasks that they do not find are lost.
            let affected = Affected::Processes(self.fleet.processes());
            self.ledger.note(Fact::Struck { fault: "rescue".to_owned(), affected })?;
            self.fleet.kill().await?;
            self.ledger.note(Fact::Over { fault: "rescue".to_owned() })?;
            self.fleet.add().await?;
            self.over_within(self.options.patience).await;
        }
        self.copies_are_gone().await;
        self.fleet.drain().await?;
        self.look_around().await
    }

    /// Lets the faults strike one after the other. Those that could not strike are added to `hindered`.
    async fn strike(
        &self,
        producer: &Producer,
        strikes: &[(Duration, Fault)],
        hindered: &mut Vec<String>,
    ) -> Result<(), BoxError> {
        let mut context = StrikeContext {
            options: self.options,
            fleet: &self.fleet,
            network: &self.network,
            client: self.client,
            producer,
            ledger: &self.ledger,
            timeline: &self.timeline,
            queues: &self.queues,
            dice: Dice::new(self.options.seed ^ 0x5eed),
        };
        // By the clock, so that all of them strike among tasks, however long each takes.
        let mut due = Instant::now();
        for (pause, fault) in strikes {
            due += *pause;
            tokio::time::sleep_until(due).await;
            due += fault.takes(self.options.hold);
            if let Err(why) = strike(*fault, &mut context).await {
                hindered.push(format!("{fault}: {why}"));
                self.network.heal();
                self.ledger.note(Fact::Over { fault: fault.name().to_owned() })?;
            }
        }
        Ok(())
    }

    /// Waits until every acknowledged task has ended; returns `false` if for `patience` none did while some have not.
    async fn over_within(&self, patience: Duration) -> bool {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            // The timeline may be a moment behind the ledger, so the first look comes after a pause.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let open = self.timeline.look(|timeline| timeline.open().len());
            if open < least {
                (least, since) = (open, Instant::now());
            }
            if open == 0 || since.elapsed() > patience {
                return open == 0;
            }
        }
    }

    /// Lists the queues of this run and their quarantine queues.
    fn all_queues(&self) -> Vec<String> {
        let quarantine = self.queues.iter().map(|queue| format!("{queue}{QUARANTINE_SUFFIX}"));
        self.queues.iter().cloned().chain(quarantine).collect()
    }

    /// Waits until nothing is left in the queues or on the delay ladder. On servers that are also used otherwise the
    /// ladder may never be empty, so the wait is bounded.
    async fn copies_are_gone(&self) {
        let begun = Instant::now();
        let ladder = (0..LADDER).map(|level| format!("taskq.delay.{level}")).chain(["taskq.delay.late".to_owned()]);
        let places: Vec<String> = self.all_queues().into_iter().chain(ladder).collect();
        let mut looks = 0;
        while looks < EMPTY_LOOKS && begun.elapsed() < COPIES_BOUND {
            let mut left = 0;
            for place in &places {
                // A level that was never needed does not exist.
                left += self.client.broker().stats(place).await.map_or(0, |stats| stats.ready);
            }
            looks = if left == 0 { looks + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Notes everything that should not be there after the run has ended.
    async fn look_around(&self) -> Result<(), BoxError> {
        let mark = self.fleet.recipe().ledger.display().to_string();
        let begun = Instant::now();
        let mut left = processes::with_argument(&mark);
        while !left.is_empty() && begun.elapsed() < LAST_BOUND {
            tokio::time::sleep(Duration::from_millis(50)).await;
            left = processes::with_argument(&mark);
        }
        if !left.is_empty() {
            self.ledger.note(Fact::Wrong { what: format!("the processes {left:?} were left over") })?;
        }
        if self.options.faults.contains(&Fault::Block) && !self.logs_warn_of("torture.blocking")? {
            self.ledger
                .note(Fact::Wrong { what: "no log warns of torture.blocking, which blocked its thread".to_owned() })?;
        }
        for queue in &self.all_queues() {
            let ready = match self.client.broker().stats(queue).await {
                Ok(stats) => stats.ready,
                Err(BrokerError::NoQueue { .. }) => 0,
                Err(error) => return Err(error.into()),
            };
            if ready > 0 {
                self.ledger.note(Fact::Wrong { what: format!("{ready} messages were left in {queue}") })?;
            }
        }
        if let Ok(results) = self.client.results() {
            reader::read_again(results, &self.timeline, &self.ledger).await?;
        }
        reader::empty_dead_set(self.client, &self.prefix, &self.ledger).await
    }

    /// Returns whether the log of a worker has a warning that names `task`.
    fn logs_warn_of(&self, task: &str) -> Result<bool, BoxError> {
        for entry in std::fs::read_dir(&self.fleet.recipe().folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
                if log.lines().any(|line| line.contains("WARN") && line.contains(task)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Notes the largest memory of the processes, and their growth since they were warm, for ever.
    async fn watch_memory(&self) {
        /// The number of runs of bodies after which a process is warm.
        const WARM: u32 = 150;
        let mut warm: std::collections::HashMap<u32, u64> = Default::default();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for pid in self.fleet.processes() {
                let Some(kb) = processes::resident_kb(pid) else { continue };
                let is_warm = self.timeline.look(|timeline| timeline.begun(pid)) >= WARM;
                let at_first = if is_warm { *warm.entry(pid).or_insert(kb) } else { kb };
                let growth = (kb * 100 / at_first.max(1)).saturating_sub(100);
                // If the ledger cannot be written, the run is stopped elsewhere.
                drop(self.ledger.note_all([
                    Fact::Figure { name: "memory_max_kb".to_owned(), value: kb },
                    Fact::Figure { name: "memory_growth_percent".to_owned(), value: growth },
                ]));
            }
        }
    }

    /// Removes everything that the run created on the servers, however it ended.
    async fn clear(&self) -> Result<(), BoxError> {
        self.network.heal();
        self.fleet.kill().await?;
        if let Ok(results) = self.client.results() {
            let ids: Vec<TaskId> =
                self.timeline.look(|timeline| timeline.ids().filter_map(|id| TaskId::parse(id).ok()).collect());
            for some in ids.chunks(500) {
                results.forget(some).await?;
            }
        }
        // A run that was interrupted has not done this yet.
        reader::empty_dead_set(self.client, &self.prefix, &self.ledger).await?;
        let url = self.client.settings().broker_url();
        if url.starts_with("amqp") {
            let others = strikes::other_queues(&self.queues);
            bare::delete_queues(url, &[self.all_queues(), others.into()].concat()).await?;
        }
        Ok(())
    }

    fn with_folder(&self, error: &BoxError) -> BoxError {
        format!("{error} (the ledger and the logs are in {})", self.folder.display()).into()
    }
}

/// Returns how the workers of this run are started.
fn recipe(
    options: &TortureOptions,
    client: &Client,
    network: &Network,
    queues: &[String],
    ledger: &Path,
) -> Result<WorkerRecipe, BoxError> {
    let folder = ledger.parent().map(Path::to_owned).unwrap_or_default();
    let mut arguments: Vec<OsString> = vec!["torture-worker".into(), ledger.into()];
    arguments.extend(["--loglevel", "warn"].map(Into::into));
    arguments.extend(["--queues".into(), queues.join(",").into()]);
    arguments.extend(["--concurrency".into(), options.concurrency.to_string().into()]);
    arguments.extend(["--grace".into(), format!("{}s", options.grace().as_secs()).into()]);
    if let Some(processes) = options.processes {
        arguments.extend(["--processes".into(), processes.to_string().into()]);
        arguments.extend(["--state-dir".into(), folder.join("state").into()]);
    }
    arguments.extend(options.worker_arguments.iter().cloned());
    let settings = client.settings();
    let mut variables = vec![
        ("TASKQ_BROKER_URL", network.broker().map_or(settings.broker_url(), Proxy::url).to_owned().into()),
        // Those above and below are in place of the files that this process may have read them from.
        ("TASKQ_BROKER_URL_FILE", String::new().into()),
        ("TASKQ_RESULT_URL_FILE", String::new().into()),
        ("TASKQ_UNKNOWN_TASK_GRACE", UNKNOWN_TASK_GRACE.to_owned().into()),
        // Hundreds of tasks panic in a run; otherwise resolving symbols would dominate the measurement.
        ("RUST_BACKTRACE", "0".to_owned().into()),
    ];
    if let Some(results) = network.results().map(Proxy::url).or(settings.result_url()) {
        variables.push(("TASKQ_RESULT_URL", results.to_owned().into()));
    }
    // Without a supervisor there is no health.
    let probed = options.processes.is_some() && options.faults.iter().any(|fault| fault.is_probed());
    let program = std::env::current_exe()?;
    Ok(WorkerRecipe { program, arguments, variables, folder, ledger: ledger.to_owned(), probed })
}
