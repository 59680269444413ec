//! The supervisor at work: it waits for the next thing that happens, lets [`Group`] decide, and does what that says.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::child::Place;
use super::group::{Action, Group, Id};
use super::health::{Health, Target};
use super::link::{Begin, News};
use super::losses::{self, Losses};
use super::notify::Notify;
use super::process::{Heard, Process};
use super::signals::{Asked, Signals};
use super::unix;
use super::{Outcome, Plan, Program};

/// How much of what children say may wait to be read.
const HEARD_MAX: usize = 256;

/// How long a dead child's last words are waited for. Something else may hold its link and its stderr open.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// How many of a child's last words are told when the supervisor gives up.
const LAST_WORDS_TOLD: usize = 5;

/// What the supervisor has to know.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What the children are.
    pub(crate) program: Program,
    /// How many, and what becomes of them.
    pub(crate) plan: Plan,
    /// The worker's name.
    pub(crate) node: String,
    /// The children's names, where they have others than the command line says.
    pub(crate) nodes: Option<Vec<String>>,
    /// The machine's name.
    pub(crate) host: String,
    /// Where to keep what dead children were running; somewhere for this user, if not said.
    pub(crate) state_dir: Option<PathBuf>,
    /// Where to tell whether all is well.
    pub(crate) health: Option<Target>,
    /// Says when there is a new build. It may end.
    pub(crate) new_builds: mpsc::Receiver<()>,
}

/// What has come of it.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// What the children did, summed: numbers by name.
    pub(crate) summary: BTreeMap<String, u64>,
    /// How many of them died.
    pub(crate) deaths: u64,
}

/// Everything that is going on.
struct Supervisor {
    setup: Setup,
    group: Group,
    processes: BTreeMap<Id, Process>,
    sender: mpsc::Sender<(Id, Heard)>,
    losses: Losses,
    health: Health,
    notify: Notify,
    stops: u32,
    /// All children have just become ready: what was needed for that is not needed any more.
    has_begun: bool,
    ready: Option<Value>,
    last_words: Vec<String>,
    finished: Finished,
}

/// Supervises until it is asked to end, or there is no point in going on. When all children are ready, `say_ready` is given
/// what one of them says of itself.
pub(crate) async fn run(setup: Setup, mut say_ready: impl FnMut(&Value)) -> io::Result<Finished> {
    let mut signals = Signals::listen()?;
    unix::adopt_orphans()?;
    let health = Health::at(setup.health.clone()).await?;
    let losses = Losses::open(setup.state_dir.as_deref(), &setup.node, &setup.host)?;
    let (sender, mut heard) = mpsc::channel(HEARD_MAX);
    let outcome = Outcome::AtOnce;
    let mut supervisor = Supervisor {
        group: Group::new(setup.plan, Instant::now(), chance),
        processes: BTreeMap::new(),
        sender,
        losses,
        health,
        notify: Notify::from_env(),
        stops: 0,
        has_begun: false,
        ready: None,
        last_words: Vec::new(),
        finished: Finished { outcome, summary: BTreeMap::new(), deaths: 0 },
        setup,
    };
    loop {
        // Do.
        while let Some(action) = supervisor.group.next_action() {
            if let Action::Over(outcome) = action {
                return Ok(supervisor.end(outcome));
            }
            supervisor.act(action, &mut say_ready);
        }
        supervisor.tell_others();
        // Wait.
        let look_at = supervisor.group.look_at(Instant::now());
        tokio::select! {
            // And decide. What was said comes before the time that has passed, so that nobody counts as silent for
            // words that are there and were not read.
            biased;
            asked = signals.next() => supervisor.asked(asked),
            Some((id, heard)) = heard.recv() => supervisor.heard(id, heard),
            Some(()) = supervisor.setup.new_builds.recv() => {
                tracing::info!("there is a new build: every process is replaced by a new one");
                supervisor.group.roll(Instant::now());
            }
            () = tokio::time::sleep_until(look_at) => {
                supervisor.reap();
                supervisor.group.look(Instant::now(), unix::is_stopped);
                if std::mem::take(&mut supervisor.has_begun) {
                    unix::forget_code();
                }
            }
        }
        supervisor.bury();
    }
}

/// A number from 0 to 1, another one each time.
fn chance() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

impl Supervisor {
    fn act(&mut self, action: Action, say_ready: &mut impl FnMut(&Value)) {
        match action {
            Action::Start(id, place) => self.start(id, place),
            Action::Tell(id, order) => self.tell(id, order),
            Action::Kill(pid) => unix::kill(pid),
            Action::AllReady => {
                self.notify.ready();
                self.has_begun = true;
                say_ready(self.ready.as_ref().unwrap_or(&Value::Null));
            }
            Action::Rolling => self.notify.reloading(),
            Action::Rolled => self.notify.ready(),
            Action::Over(_) => unreachable!("the loop ends with it"),
        }
    }

    fn start(&mut self, id: Id, place: Place) {
        let node = match (place, &self.setup.nodes) {
            (Place::Of(at), Some(nodes)) => nodes.get(at).cloned(),
            _ => None,
        };
        let alone = if place == Place::Alone { self.group.alone_queue() } else { None };
        if let Some(queue) = &alone {
            tracing::info!(queue, "a process is started that runs, one at a time, tasks that processes have died of");
        }
        let begin = Begin { node, flight: self.losses.flight(id), is_first: id == 1, alone };
        match Process::start(&self.setup.program, id, begin, &self.sender) {
            Ok(process) => {
                tracing::debug!(pid = process.pid, "a process is started");
                self.group.started(id, process.pid);
                self.processes.insert(id, process);
            }
            Err(error) => {
                let how = format!("{} cannot be started: {error}", self.setup.program.path().display());
                tracing::error!("{how}");
                self.group.gone(id, None, &how, Instant::now());
            }
        }
    }

    fn tell(&mut self, id: Id, order: super::link::Order) {
        if let Some(process) = self.processes.get(&id)
            && !process.tell(order)
        {
            // It is ended by force when it is late, as one that cannot obey.
            tracing::warn!(pid = process.pid, "the process does not read what it is told");
        }
    }

    fn asked(&mut self, asked: Asked) {
        let now = Instant::now();
        match asked {
            Asked::Reap => return self.reap(),
            Asked::Renew => {
                tracing::info!("asked to begin anew: every process is replaced by a new one");
                return self.group.roll(now);
            }
            Asked::Stop => self.stops += 1,
            Asked::StopNow => self.stops = 3,
        }
        self.notify.stopping();
        match self.stops {
            1 => self.group.drain(now),
            2 => {
                tracing::warn!("asked again: what still runs is told to stop and given back");
                self.group.cancel(now);
            }
            _ => {
                tracing::warn!("ending now; what was running comes back to its queue and runs again");
                self.group.end_now();
            }
        }
    }

    fn heard(&mut self, id: Id, heard: Heard) {
        let now = Instant::now();
        let Some(process) = self.processes.get_mut(&id) else { return };
        match heard {
            Heard::Word(line) => process.word(&line),
            Heard::NoMoreWords => process.stderr_is_closed(),
            Heard::Silence => process.link_is_closed(),
            Heard::News(News::Ready { ready, kept_in }) => {
                self.losses.adopt(&kept_in);
                self.ready.get_or_insert(ready);
                self.group.ready(id, now);
            }
            Heard::News(News::Beat { done, running: _, live, trouble }) => {
                let limit = self.setup.plan.limits.memory_max;
                let memory = limit.and_then(|_| unix::memory_of(process.pid));
                // A child of an earlier build does not say what it meets.
                let unsaid = || "takes no messages, or cannot reach its servers".to_owned();
                let trouble = (!live).then(|| trouble.unwrap_or_else(unsaid));
                self.group.beat(id, done, trouble, memory, now);
            }
            Heard::News(News::Stuck { task, id: task_id }) => {
                let pid = process.pid;
                tracing::error!(pid, task, id = task_id, "the task cannot be stopped: another process takes its place");
                self.group.stuck(id, now);
            }
            Heard::News(News::AloneWanted { queues }) => self.group.alone_wanted(queues, now),
            Heard::News(News::Reported { file }) => self.losses.reported(&file),
            Heard::News(News::Ended { summary, interrupted }) => {
                self.group.ended(id, interrupted);
                let counted = summary.as_object().into_iter().flatten();
                for (name, count) in counted.filter_map(|(name, count)| Some((name, count.as_u64()?))) {
                    *self.finished.summary.entry(name.clone()).or_default() += count;
                }
            }
        }
    }

    /// Notices who has ended.
    fn reap(&mut self) {
        while let Some((pid, end)) = unix::reap() {
            // Anybody else is an orphan.
            if let Some(process) = self.processes.values_mut().find(|process| process.pid == pid) {
                process.end = Some((end, Instant::now()));
            }
        }
    }

    /// Those who have ended, and from whom nothing more is to be heard.
    fn bury(&mut self) {
        let now = Instant::now();
        let is_over = |process: &Process| {
            process.end.is_some_and(|(_, at)| !process.may_be_heard() || now - at >= LAST_WORDS_WITHIN)
        };
        let over: Vec<Id> = self.processes.iter().filter(|(_, process)| is_over(process)).map(|(id, _)| *id).collect();
        for id in over {
            let Some(process) = self.processes.remove(&id) else { continue };
            let (pid, end) = (process.pid, process.end.map(|(end, _)| end));
            let how = end.map_or_else(String::new, |end| match end {
                unix::End::Code(_) => format!("ended with {end}"),
                unix::End::Signal(_) => format!("was ended by {end}"),
            });
            self.losses.take_back(id);
            if self.group.end_is_planned(id) {
                tracing::debug!(pid, "the process {how}");
                self.losses.forget(id);
            } else {
                // Whatever it had started works for a task that will run again.
                unix::kill(pid);
                self.finished.deaths += 1;
                match self.losses.note(id, end, self.group.was_ready(id)) {
                    Some(recording) => {
                        tracing::error!(pid, "the process {how}; it was running {}", losses::describe(&recording));
                    }
                    // It has said itself why it does not start.
                    None if self.group.is_refusal(end) => tracing::debug!(pid, "the process {how}"),
                    None => tracing::error!(pid, "the process {how}; no task was running"),
                }
            }
            self.last_words = process.last_words();
            self.group.gone(id, end, &how, now);
        }
    }

    /// Lets everybody know how things are, and children what there is to write down.
    fn tell_others(&mut self) {
        let now = Instant::now();
        let ready: Vec<Id> = self.group.ready_children().collect();
        for id in ready {
            for order in self.losses.give(id) {
                self.tell(id, order);
            }
        }
        let before = self.health.verdict();
        self.health.tell(self.group.health(now), now);
        let verdict = self.health.verdict();
        if verdict != before {
            match &verdict {
                Ok(()) => self.notify.status("tasks are run"),
                Err(why) => self.notify.status(why),
            }
        }
        // A worker that finishes what it has begun is alive, though it takes nothing new.
        if verdict.is_ok() || self.group.is_stopping() {
            self.notify.alive(now);
        }
    }

    fn end(self, outcome: Outcome) -> Finished {
        self.losses.close();
        let outcome = match outcome {
            Outcome::GaveUp(how) if self.last_words.is_empty() => Outcome::GaveUp(how),
            Outcome::GaveUp(how) => {
                let from = self.last_words.len().saturating_sub(LAST_WORDS_TOLD);
                Outcome::GaveUp(format!("{how}; its last words: {}", self.last_words[from..].join("\n")))
            }
            other => other,
        };
        Finished { outcome, ..self.finished }
    }
}
