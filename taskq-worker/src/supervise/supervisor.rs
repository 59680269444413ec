//! The loop of the supervisor: waits for the next event, lets [`Group`] decide, and carries out its actions.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::child::ChildRole;
use super::group::{Action, Group, Id};
use super::health::{Health, HealthTarget};
use super::last_words::LastWords;
use super::link::{ChildMessage, Hello, SupervisorMessage};
use super::losses::{self, LossStore};
use super::notify::Notify;
use super::process::{ChildEvent, ChildProcess};
use super::signals::{Request, Signals};
use super::unix;
use super::{Outcome, Plan, Program};

/// The number of events of children that may wait.
const EVENTS_MAX: usize = 256;

/// The number of questions of children that are kept until they are answered.
const QUESTIONS_MAX: usize = 256;

/// How long the supervisor waits for the last messages of a dead child. Another process may hold its link and its
/// stderr open.
const LAST_EVENTS_WITHIN: Duration = Duration::from_secs(1);

/// The options of a supervisor.
#[derive(Debug)]
pub(crate) struct SupervisorSetup {
    /// The program that the children run.
    pub(crate) program: Program,
    /// The number of children, and how they are treated.
    pub(crate) plan: Plan,
    /// The node name of the worker.
    pub(crate) node: String,
    /// The node names of the children, if there are several.
    pub(crate) nodes: Option<Vec<String>>,
    /// The machine's name.
    pub(crate) host: String,
    /// The state folder; by default one of this user.
    pub(crate) state_dir: Option<PathBuf>,
    /// The place where health is published.
    pub(crate) health: Option<HealthTarget>,
    /// Puts a line that a child wrote to stderr while it started in the form of this process's own lines.
    pub(crate) line_of_child: fn(&[u8]) -> Cow<'_, [u8]>,
    /// Receives a message for each new build. May be closed.
    pub(crate) new_builds: mpsc::Receiver<()>,
}

/// The result of a supervisor's work.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// The numbers of attempts of all children, by outcome.
    pub(crate) summary: BTreeMap<String, u64>,
    /// The number of children that died.
    pub(crate) deaths: u64,
}

/// A supervisor with its children.
struct Supervisor {
    setup: SupervisorSetup,
    group: Group,
    processes: BTreeMap<Id, ChildProcess>,
    sender: mpsc::Sender<(Id, ChildEvent)>,
    losses: LossStore,
    health: Health,
    notify: Notify,
    stops: u32,
    /// Whether all children have just become ready, so that the code of the start is not needed any more.
    has_begun: bool,
    ready: Option<Value>,
    last_words: LastWords,
    /// The child that answers remote control for the worker.
    speaker: Option<Id>,
    questions: Questions,
    finished: Finished,
}

/// The questions of children to all children that were passed on last. Those before have been answered, or nobody waits
/// for the answer any more.
#[derive(Default)]
struct Questions {
    count: u64,
    /// The number of each here, the child that has asked, and the number there.
    last: VecDeque<(u64, Id, u64)>,
}

impl Questions {
    /// Notes a question, and returns its number here.
    fn pass_on(&mut self, asker: Id, number: u64) -> u64 {
        self.count += 1;
        if self.last.len() == QUESTIONS_MAX {
            self.last.pop_front();
        }
        self.last.push_back((self.count, asker, number));
        self.count
    }

    /// Returns the child that has asked, and its number of the question.
    fn asker_of(&self, number: u64) -> Option<(Id, u64)> {
        let (_, asker, theirs) = self.last.iter().rev().find(|(here, _, _)| *here == number)?;
        Some((*asker, *theirs))
    }
}

/// Supervises until an end is requested, or there is no point in going on. When all children are ready,
/// `announce_ready` is called with the properties of one of them.
pub(crate) async fn run(setup: SupervisorSetup, mut announce_ready: impl FnMut(&Value)) -> io::Result<Finished> {
    let mut signals = Signals::listen()?;
    unix::adopt_orphans()?;
    let health = Health::at(setup.health.clone()).await?;
    let losses = LossStore::open(setup.state_dir.as_deref(), &setup.node, &setup.host)?;
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
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
        last_words: LastWords::default(),
        speaker: None,
        questions: Questions::default(),
        finished: Finished { outcome, summary: BTreeMap::new(), deaths: 0 },
        setup,
    };
    loop {
        // Do.
        while let Some(action) = supervisor.group.next_action() {
            if let Action::Over(outcome) = action {
                return Ok(supervisor.end(outcome));
            }
            supervisor.act(action, &mut announce_ready);
        }
        supervisor.report();
        // Wait.
        let look_at = supervisor.group.look_at(Instant::now());
        tokio::select! {
            // And decide. Messages come before the passing of time, so that no child counts as silent whose messages
            // are there and were not read.
            biased;
            request = signals.next() => supervisor.obey(request),
            Some((id, event)) = events.recv() => supervisor.handle(id, event),
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

/// Returns a random number from 0 to 1.
fn chance() -> f64 {
    let number = RandomState::new().build_hasher().finish();
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

impl Supervisor {
    fn act(&mut self, action: Action, announce_ready: &mut impl FnMut(&Value)) {
        match action {
            Action::Start(id, role) => self.start(id, role),
            Action::Tell(id, message) => self.tell(id, message),
            Action::Kill(pid) => unix::kill(pid),
            Action::AllReady => {
                self.notify.ready();
                self.has_begun = true;
                announce_ready(self.ready.as_ref().unwrap_or(&Value::Null));
            }
            Action::Rolling => self.notify.reloading(),
            Action::Rolled => self.notify.ready(),
            Action::Over(_) => unreachable!("the loop ends with it"),
        }
    }

    fn start(&mut self, id: Id, role: ChildRole) {
        let node = match (role, &self.setup.nodes) {
            (ChildRole::Worker(at), Some(nodes)) => nodes.get(at).cloned(),
            _ => None,
        };
        let quarantine = if role == ChildRole::Quarantine { self.group.quarantine_queue() } else { None };
        if let Some(queue) = &quarantine {
            tracing::info!(
                queue,
                "a quarantine process is started: it runs, one at a time, tasks of which processes may have died"
            );
        }
        let worker = Some(self.setup.node.clone());
        let hello = Hello { node, worker, flight: self.losses.flight(id), is_first: id == 1, quarantine };
        match ChildProcess::start(&self.setup.program, id, hello, &self.sender) {
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

    fn tell(&mut self, id: Id, message: SupervisorMessage) {
        if let Some(process) = self.processes.get(&id)
            && !process.tell(message)
        {
            // A child that cannot obey is killed when it is late.
            tracing::warn!(pid = process.pid, "the process does not read its messages");
        }
    }

    fn obey(&mut self, request: Request) {
        let now = Instant::now();
        match request {
            Request::Reap => return self.reap(),
            Request::Roll => {
                tracing::info!("a rolling restart was requested: every process is replaced by a new one");
                return self.group.roll(now);
            }
            Request::Stop => self.stops += 1,
            Request::StopNow => self.stops = 3,
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

    fn handle(&mut self, id: Id, event: ChildEvent) {
        let now = Instant::now();
        let Some(process) = self.processes.get_mut(&id) else { return };
        match event {
            ChildEvent::StderrLine(line) => process.keep_start_line(&line, self.setup.line_of_child),
            ChildEvent::StderrClosed => process.stderr_is_closed(),
            ChildEvent::LinkClosed => process.link_is_closed(),
            ChildEvent::Message(ChildMessage::Ready { ready, kept_in }) => {
                self.losses.adopt(&kept_in);
                self.ready.get_or_insert(ready);
                self.group.ready(id, now);
            }
            ChildEvent::Message(ChildMessage::Heartbeat { done, running: _, live, problem }) => {
                let limit = self.setup.plan.limits.memory_max;
                let memory = limit.and_then(|_| unix::memory_of(process.pid));
                // A child of an earlier build does not name its problem.
                let unnamed = || "takes no messages, or cannot reach its servers".to_owned();
                let problem = (!live).then(|| problem.unwrap_or_else(unnamed));
                self.group.heartbeat(id, done, problem, memory, now);
            }
            ChildEvent::Message(ChildMessage::Stuck { task, id: task_id }) => {
                let pid = process.pid;
                tracing::error!(pid, task, id = task_id, "the task cannot be stopped: another process takes its place");
                self.group.stuck(id, now);
            }
            ChildEvent::Message(ChildMessage::QuarantineWanted { queues }) => self.group.quarantine_wanted(queues, now),
            ChildEvent::Message(ChildMessage::LossStored { file }) => self.losses.stored(&file),
            ChildEvent::Message(ChildMessage::Question { number, question }) => self.ask_all(id, number, &question),
            ChildEvent::Message(ChildMessage::Answer { number, answer }) => {
                if let Some((asker, number)) = self.questions.asker_of(number) {
                    self.tell(asker, SupervisorMessage::Answer { number, answer });
                }
            }
            ChildEvent::Message(ChildMessage::Ended { summary, interrupted }) => {
                self.group.ended(id, interrupted);
                let counted = summary.as_object().into_iter().flatten();
                for (name, count) in counted.filter_map(|(name, count)| Some((name, count.as_u64()?))) {
                    *self.finished.summary.entry(name.clone()).or_default() += count;
                }
            }
        }
    }

    /// Notes which children have ended. Whatever they have left in their process groups ends with them, however they
    /// ended: a copy of a child, which a task has forked, has its connections and its open files. This is the one place
    /// for that, and at once: while the last messages of the child are waited for, its number may get another meaning.
    fn reap(&mut self) {
        while let Some((pid, end)) = unix::reap() {
            // Any other process is an orphan.
            if let Some(process) = self.processes.values_mut().find(|process| process.pid == pid) {
                unix::kill(pid);
                process.end = Some((end, Instant::now()));
            }
        }
    }

    /// Removes the children that have ended and whose last messages were read, and notes their losses.
    fn bury(&mut self) {
        let now = Instant::now();
        let is_over = |process: &ChildProcess| {
            process.end.is_some_and(|(_, at)| !process.has_open_pipes() || now - at >= LAST_EVENTS_WITHIN)
        };
        let over: Vec<Id> = self.processes.iter().filter(|(_, process)| is_over(process)).map(|(id, _)| *id).collect();
        for id in over {
            let Some(process) = self.processes.remove(&id) else { continue };
            let (pid, end) = (process.pid, process.end.map(|(end, _)| end));
            let how = end.map_or_else(String::new, |end| match end {
                unix::ProcessEnd::Code(_) => format!("ended with {end}"),
                unix::ProcessEnd::Signal(_) => format!("was ended by {end}"),
            });
            self.losses.take_back(id);
            if self.group.end_is_planned(id) {
                tracing::debug!(pid, "the process {how}");
                self.losses.forget(id);
            } else {
                self.finished.deaths += 1;
                match self.losses.note(id, end, self.group.was_ready(id)) {
                    Some(recording) => {
                        tracing::error!(pid, "the process {how}; it was running {}", losses::describe(&recording));
                    }
                    // The child itself has logged why it does not start.
                    None if self.group.is_refusal(end) => tracing::debug!(pid, "the process {how}"),
                    None => tracing::error!(pid, "the process {how}; no task was running"),
                }
            }
            self.last_words = process.into_last_words();
            self.group.gone(id, end, &how, now);
        }
    }

    /// Passes a question of a child on to all children that take work or finish it, and tells it how many these are.
    fn ask_all(&mut self, asker: Id, number: u64, question: &Value) {
        let children: Vec<Id> = self.processes.keys().copied().filter(|id| self.group.was_ready(*id)).collect();
        self.tell(asker, SupervisorMessage::Asked { number, children: children.len() });
        let number = self.questions.pass_on(asker, number);
        for child in children {
            self.tell(child, SupervisorMessage::Question { number, question: question.clone() });
        }
    }

    /// Has one of these children answer remote control, if none does.
    fn name_speaker(&mut self, ready: &[Id]) {
        if self.speaker.is_none_or(|speaker| !ready.contains(&speaker)) {
            self.speaker = ready.first().copied();
            if let Some(speaker) = self.speaker {
                self.tell(speaker, SupervisorMessage::Speak);
            }
        }
    }

    /// Publishes the state of the worker, and gives losses to children.
    fn report(&mut self) {
        let now = Instant::now();
        let ready: Vec<Id> = self.group.ready_children().collect();
        self.name_speaker(&ready);
        for id in ready {
            for message in self.losses.give(id) {
                self.tell(id, message);
            }
        }
        let before = self.health.verdict();
        self.health.publish(self.group.health(now), now);
        let verdict = self.health.verdict();
        if verdict != before {
            match &verdict {
                Ok(()) => self.notify.status("tasks are run"),
                Err(why) => self.notify.status(why),
            }
        }
        // A worker that finishes what it has begun is alive, although it takes nothing new.
        if verdict.is_ok() || self.group.is_stopping() {
            self.notify.alive(now);
        }
    }

    fn end(self, outcome: Outcome) -> Finished {
        self.losses.close();
        let last_words = self.last_words.shown().join("\n");
        let outcome = match outcome {
            Outcome::GaveUp(how) if !last_words.is_empty() => {
                Outcome::GaveUp(format!("{how}; its last lines: {last_words}"))
            }
            other => other,
        };
        Finished { outcome, ..self.finished }
    }
}
