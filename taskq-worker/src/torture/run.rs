//! One run, from the empty queues to the verdict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use taskq::BoxError;
use taskq::broker::amqp::bare;
use taskq::broker::{BrokerError, QUARANTINE_SUFFIX, QueueSpec};
use taskq::{Client, TaskId};

use super::checker::check;
use super::faults::{Fault, Field, Network};
use super::fleet::{Fleet, Recipe};
use super::ledger::{Fact, Ledger, Tail, Whom};
use super::options::Options;
use super::plan::{Dice, Plan};
use super::producer::Producer;
use super::report::{Verdict, Versions};
use super::story::Story;
use super::{processes, reader};

/// How long messages with an unknown task are put back in a run.
const UNKNOWN_TASK_GRACE: &str = "4s";

/// How long is waited for copies that are on their way, once everything has ended. They come back within ten seconds.
const COPIES_BOUND: Duration = Duration::from_secs(25);

/// At so many looks in a row nothing may be left: a copy that a worker holds for the moment is nowhere to be seen.
const EMPTY_LOOKS: u32 = 10;

/// The levels of the delay ladder on which copies of this run may be.
const LADDER: u32 = 12;

/// How long the last processes may take to go.
const LAST_BOUND: Duration = Duration::from_secs(10);

/// Everything that a run has.
struct Stage<'a> {
    options: &'a Options,
    client: &'a Client,
    folder: PathBuf,
    queues: Vec<String>,
    prefix: String,
    ledger: Arc<Ledger>,
    network: Network,
    fleet: Fleet,
    story: Mutex<Story>,
}

/// Runs, and says what it came to. An error means that the run could not be made, and nothing about the promise.
pub(crate) async fn run(options: &Options, client: &Client) -> Result<Verdict, BoxError> {
    let begun = Instant::now();
    let versions = versions(client).await?;
    let stage = Stage::set(options, client).await?;
    let played = tokio::select! {
        played = stage.play() => played,
        interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
            Ok(()) => "interrupted".into(),
            Err(error) => error.into(),
        }),
    };
    let cleared = stage.clear().await;
    let hindered = played.map_err(|error| stage.with_folder(&error))?;
    cleared?;

    let findings = check(&stage.story.lock().unwrap_or_else(PoisonError::into_inner), u64::from(options.concurrency));
    let verdict = Verdict::new(options, findings, begun.elapsed(), versions, hindered);
    if verdict.held && options.folder.is_none() {
        std::fs::remove_dir_all(&stage.folder)?;
        return Ok(verdict);
    }
    Ok(verdict.kept(Some(stage.folder)))
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

impl<'a> Stage<'a> {
    /// Makes folder, ledger, queues and proxies.
    async fn set(options: &'a Options, client: &'a Client) -> Result<Self, BoxError> {
        // The end of an id is what is random about it.
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
        let queues: Vec<String> = ["a", "b"].map(|part| format!("taskq.torture.{run}.{part}")).into();
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
            story: Mutex::new(Story::new(client.results().is_ok())),
        })
    }

    /// The run itself. Says which faults could not strike.
    async fn play(&self) -> Result<Vec<String>, BoxError> {
        let mut tail = Tail::open(&self.fleet.recipe().ledger)?;
        let mut hindered = Vec::new();
        tokio::select! {
            played = self.act(&mut hindered) => played?,
            followed = reader::follow(Tail::open(&self.fleet.recipe().ledger)?, &self.story) => followed?,
            noted = self.note_ends() => noted?,
            () = self.watch_memory() => {}
        }
        // The story is told once more from its beginning, now that it is whole.
        *self.story.lock().unwrap_or_else(PoisonError::into_inner) = Story::new(self.client.results().is_ok());
        reader::catch_up(&mut tail, &self.story)?;
        Ok(hindered)
    }

    async fn note_ends(&self) -> Result<(), BoxError> {
        match self.client.results() {
            Ok(results) => reader::note_ends(results, &self.story, &self.ledger).await,
            Err(_) => std::future::pending().await,
        }
    }

    async fn act(&self, hindered: &mut Vec<String>) -> Result<(), BoxError> {
        let Options { seed, faults, times, hold, .. } = self.options;
        for _ in 0..self.options.workers {
            self.fleet.add().await?;
        }
        let plan = Plan::make(*seed, self.options.load(), faults, *times);
        let span = plan.span(*hold);
        let sender = match self.network.producer() {
            Some(url) => Client::builder().settings(self.client.settings().clone()).broker(url).build().await?,
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
            // What new workers find was stuck; what they do not find is lost.
            let whom = Whom::Processes(self.fleet.processes());
            self.ledger.note(Fact::Struck { fault: "rescue".to_owned(), whom })?;
            self.fleet.kill().await?;
            self.ledger.note(Fact::Over { fault: "rescue".to_owned() })?;
            self.fleet.add().await?;
            self.over_within(self.options.patience).await;
        }
        self.copies_are_gone().await;
        self.fleet.drain().await?;
        self.look_around().await
    }

    async fn strike(
        &self,
        producer: &Producer,
        strikes: &[(Duration, Fault)],
        hindered: &mut Vec<String>,
    ) -> Result<(), BoxError> {
        let mut field = Field {
            options: self.options,
            fleet: &self.fleet,
            network: &self.network,
            client: self.client,
            producer,
            ledger: &self.ledger,
            story: &self.story,
            queues: &self.queues,
            dice: Dice::new(self.options.seed ^ 0x5eed),
        };
        // By the clock, so that all of them strike among tasks, however long each takes.
        let mut due = Instant::now();
        for (pause, fault) in strikes {
            due += *pause;
            tokio::time::sleep_until(due.into()).await;
            due += fault.takes(self.options.hold);
            if let Err(why) = fault.strike(&mut field).await {
                hindered.push(format!("{fault}: {why}"));
                self.network.heal();
                self.ledger.note(Fact::Over { fault: fault.name().to_owned() })?;
            }
        }
        Ok(())
    }

    /// Waits until everything that was acknowledged has ended; false if for `patience` nothing more has.
    async fn over_within(&self, patience: Duration) -> bool {
        let (mut least, mut since) = (usize::MAX, Instant::now());
        loop {
            // The story may be a moment behind the ledger: nothing is over at the first look.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let open = self.story.lock().unwrap_or_else(PoisonError::into_inner).open().len();
            if open < least {
                (least, since) = (open, Instant::now());
            }
            if open == 0 || since.elapsed() > patience {
                return open == 0;
            }
        }
    }

    /// The queues that were sent to, and those in which suspects of theirs wait.
    fn all_queues(&self) -> Vec<String> {
        let alone = self.queues.iter().map(|queue| format!("{queue}{QUARANTINE_SUFFIX}"));
        self.queues.iter().cloned().chain(alone).collect()
    }

    /// Waits until nothing is left in the queues, nor on the ladder. On servers that others use, too, the ladder may
    /// never be empty, so there is a bound.
    async fn copies_are_gone(&self) {
        let begun = Instant::now();
        let ladder = (0..LADDER).map(|level| format!("taskq.delay.{level}")).chain(["taskq.delay.late".to_owned()]);
        let places: Vec<String> = self.all_queues().into_iter().chain(ladder).collect();
        let mut looks = 0;
        while looks < EMPTY_LOOKS && begun.elapsed() < COPIES_BOUND {
            let mut left = 0;
            for place in &places {
                // A level that nobody has needed yet is not there.
                left += self.client.broker().stats(place).await.map_or(0, |stats| stats.ready);
            }
            looks = if left == 0 { looks + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is there after everything has ended, and should not be.
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
            reader::read_again(results, &self.story, &self.ledger).await?;
        }
        reader::empty_dead_set(self.client, &self.prefix, &self.ledger).await
    }

    /// Whether the log of a worker has a warning that names `task`.
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

    /// Notes how much memory processes take at most, and by how much they have grown since they were warm, for ever.
    async fn watch_memory(&self) {
        /// A process is warm after so many runs of bodies.
        const WARM: u32 = 150;
        let mut warm: std::collections::HashMap<u32, u64> = Default::default();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for pid in self.fleet.processes() {
                let Some(kb) = processes::resident_kb(pid) else { continue };
                let is_warm = self.story.lock().unwrap_or_else(PoisonError::into_inner).begun(pid) >= WARM;
                let at_first = if is_warm { *warm.entry(pid).or_insert(kb) } else { kb };
                let growth = (kb * 100 / at_first.max(1)).saturating_sub(100);
                // A ledger that cannot be written to stops the run elsewhere.
                drop(self.ledger.note_all([
                    Fact::Figure { name: "memory_max_kb".to_owned(), value: kb },
                    Fact::Figure { name: "memory_growth_percent".to_owned(), value: growth },
                ]));
            }
        }
    }

    /// Leaves nothing behind, however the run ended.
    async fn clear(&self) -> Result<(), BoxError> {
        self.network.heal();
        self.fleet.kill().await?;
        if let Ok(results) = self.client.results() {
            let ids: Vec<TaskId> = {
                let story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
                story.ids().filter_map(|id| TaskId::parse(id).ok()).collect()
            };
            for some in ids.chunks(500) {
                results.forget(some).await?;
            }
        }
        // Of a run that was interrupted.
        reader::empty_dead_set(self.client, &self.prefix, &self.ledger).await?;
        let url = self.client.settings().broker_url();
        if url.starts_with("amqp") {
            bare::delete_queues(url, &self.all_queues()).await?;
        }
        Ok(())
    }

    fn with_folder(&self, error: &BoxError) -> BoxError {
        format!("{error} (the ledger and the logs are in {})", self.folder.display()).into()
    }
}

/// How the workers of this run are started.
fn recipe(
    options: &Options,
    client: &Client,
    network: &Network,
    queues: &[String],
    ledger: &Path,
) -> Result<Recipe, BoxError> {
    let folder = ledger.parent().map(Path::to_owned).unwrap_or_default();
    let mut arguments: Vec<OsString> = ["worker", "--loglevel", "warn", "--torture"].map(Into::into).into();
    arguments.push(ledger.into());
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
        ("TASKQ_BROKER_URL", network.broker().unwrap_or(settings.broker_url()).to_owned()),
        ("TASKQ_UNKNOWN_TASK_GRACE", UNKNOWN_TASK_GRACE.to_owned()),
        // Tasks panic by the hundred here; resolving the symbols of each would be what is measured.
        ("RUST_BACKTRACE", "0".to_owned()),
    ];
    if let Some(results) = network.results().or(settings.result_url()) {
        variables.push(("TASKQ_RESULT_URL", results.to_owned()));
    }
    Ok(Recipe { program: std::env::current_exe()?, arguments, variables, folder, ledger: ledger.to_owned() })
}
