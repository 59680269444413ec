//! The decisions of the supervisor: told what has happened to the children, the group says what to do. It neither waits
//! nor touches the system, so that tables can test it.

mod gone;
mod look;
mod quarantine;
mod roll;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::child::{Child, ChildPhase, ChildRole, KillReason};
use super::link::SupervisorMessage;
use super::policy::{self, Limits};
use super::unix::ProcessEnd;
use quarantine::QuarantineTurns;
use roll::Roll;

/// The number of a child: the first is 1, and no number is used twice.
pub(super) type Id = u32;

/// The options of the supervisor that concern its children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The number of processes that run tasks.
    pub(crate) processes: usize,
    /// How long a child may go on with its tasks once it drains.
    pub(crate) grace: Duration,
    /// The limits at which a child is replaced by another.
    pub(crate) limits: Limits,
    /// The exit codes that mean that no start can succeed. They count until a child was ready.
    pub(crate) refusals: [i32; 6],
}

/// An action that the supervisor is to carry out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Start a child.
    Start(Id, ChildRole),
    /// Send a message to a child.
    Tell(Id, SupervisorMessage),
    /// Kill a child, by its process id.
    Kill(u32),
    /// Announce that all children are ready, for the first time.
    AllReady,
    /// Announce that a rolling restart begins.
    Rolling,
    /// Announce that the rolling restart is over, completed or not.
    Rolled,
    /// End: the last child is gone.
    Over(Outcome),
}

/// The outcome of the supervisor's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A drain was requested, and all children ended.
    Drained {
        /// Whether tasks were given back or left behind.
        interrupted: bool,
    },
    /// An end at once was requested.
    AtOnce,
    /// No child ever became ready, and one said with this exit code why none will.
    Refused(i32),
    /// No child ever became ready, and too many starts in a row have failed; with how the last one ended.
    GaveUp(String),
}

/// The phase of the group's life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupStage {
    Running,
    Draining { interrupted: bool },
    Ending(Outcome),
}

/// One of the processes that run tasks, over all children that take its place.
#[derive(Debug, Default)]
struct ProcessSlot {
    current: Option<Id>,
    /// The child that takes over when it is ready.
    successor: Option<Id>,
    failures: u32,
    /// When the next child starts, while there is none.
    start_at: Option<Instant>,
    /// The number of successors that have failed in a row, and when the next may be started.
    failed_successors: u32,
    successor_at: Option<Instant>,
    /// How the last child failed.
    failed: String,
}

/// The children of the supervisor, and the decisions about them.
#[derive(Debug)]
pub(super) struct Group {
    plan: Plan,
    children: BTreeMap<Id, Child>,
    slots: Vec<ProcessSlot>,
    quarantine: QuarantineTurns,
    stage: GroupStage,
    roll: Option<Roll>,
    last_id: Id,
    has_been_ready: bool,
    is_all_ready: bool,
    looked_at: Instant,
    chance: fn() -> f64,
    actions: VecDeque<Action>,
}

impl Group {
    /// Creates a group whose children are to be started. `chance` returns random numbers from 0 to 1.
    pub(super) fn new(plan: Plan, now: Instant, chance: fn() -> f64) -> Self {
        let slots =
            (0..plan.processes).map(|_| ProcessSlot { start_at: Some(now), ..ProcessSlot::default() }).collect();
        let mut group = Self {
            plan,
            children: BTreeMap::new(),
            slots,
            quarantine: QuarantineTurns::default(),
            stage: GroupStage::Running,
            roll: None,
            last_id: 0,
            has_been_ready: false,
            is_all_ready: false,
            looked_at: now,
            chance,
            actions: VecDeque::new(),
        };
        group.start_what_is_due(now);
        group
    }

    /// Returns the next action.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Lists the children that can store a loss.
    pub(super) fn ready_children(&self) -> impl Iterator<Item = Id> {
        self.children.iter().filter(|(_, child)| child.phase == ChildPhase::Working).map(|(id, _)| *id)
    }

    /// Returns the queue that the quarantine process is to serve.
    pub(super) fn quarantine_queue(&self) -> Option<String> {
        self.quarantine.queue()
    }

    /// Returns whether this child was ever ready.
    pub(super) fn was_ready(&self, id: Id) -> bool {
        self.children.get(&id).is_some_and(Child::was_ready)
    }

    /// Returns whether the end of this child, if it came now, would be planned.
    pub(super) fn end_is_planned(&self, id: Id) -> bool {
        self.children.get(&id).is_none_or(Child::end_is_planned)
    }

    /// Returns whether this end means that no start can succeed.
    pub(super) fn is_refusal(&self, end: Option<ProcessEnd>) -> bool {
        !self.has_been_ready && matches!(end, Some(ProcessEnd::Code(code)) if self.plan.refusals.contains(&code))
    }

    /// Returns the latest time for the next [`look`](Self::look).
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        let quarantine = if self.stage == GroupStage::Running { self.quarantine.due(now) } else { None };
        let starts = self.slots.iter().filter_map(|slot| slot.start_at).chain(quarantine);
        starts.fold(now + Duration::from_millis(500), Instant::min).max(now)
    }

    /// Notes that a child was started.
    pub(super) fn started(&mut self, id: Id, pid: u32) {
        if let Some(child) = self.children.get_mut(&id) {
            child.pid = pid;
        }
    }

    /// Notes that a child takes work.
    pub(super) fn ready(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != ChildPhase::Starting {
            return;
        }
        child.ready(now);
        let ChildRole::Worker(at) = child.role else { return self.yield_turn() };
        self.has_been_ready = true;
        let slot = &mut self.slots[at];
        if slot.successor == Some(id) {
            slot.successor = None;
            slot.failed_successors = 0;
            slot.successor_at = None;
            if let Some(old) = slot.current.replace(id) {
                self.leave(old, now);
            }
        }
        if self.roll.as_ref().is_some_and(|roll| roll.started == Some(id)) {
            tracing::info!(pid = self.children[&id].pid, "process {} of {} is new", at + 1, self.slots.len());
            self.roll_on(at + 1, now);
        }
        let is_ready =
            |slot: &ProcessSlot| slot.current.is_some_and(|id| self.children[&id].phase == ChildPhase::Working);
        if !self.is_all_ready && self.slots.iter().all(is_ready) {
            self.is_all_ready = true;
            self.actions.push_back(Action::AllReady);
        }
    }

    /// Notes that a child is alive, with the problem that keeps it from its work and its memory in bytes.
    pub(super) fn heartbeat(&mut self, id: Id, done: u64, problem: Option<String>, memory: Option<u64>, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != ChildPhase::Working {
            return;
        }
        child.set_problem(problem, now);
        let (ChildRole::Worker(at), Some(ready_for)) = (child.role, child.ready_for(now)) else { return };
        let slot = &self.slots[at];
        let may_be_replaced = self.stage == GroupStage::Running
            && slot.current == Some(id)
            && slot.successor.is_none()
            && slot.successor_at.is_none_or(|at| at <= now);
        if may_be_replaced && let Some(why) = self.plan.limits.passed(done, memory, ready_for) {
            tracing::info!(pid = child.pid, "{why}: another process takes its place");
            self.start_successor(at, now);
        }
    }

    /// Replaces a child that cannot stop a task; it ends when its other tasks are done.
    pub(super) fn stuck(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != ChildPhase::Working {
            return;
        }
        let role = child.role;
        let ready_for = child.ready_for(now);
        self.leave(id, now);
        match role {
            ChildRole::Worker(at) if self.slots[at].current == Some(id) => {
                self.vacate(at, ready_for, "a task was stuck", now);
            }
            ChildRole::Worker(_) => {}
            ChildRole::Quarantine => self.quarantine.leaves(id),
        }
        self.start_what_is_due(now);
    }

    /// Notes that tasks wait in these quarantine queues.
    pub(super) fn quarantine_wanted(&mut self, queues: Vec<String>, now: Instant) {
        if self.stage == GroupStage::Running {
            for queue in queues {
                self.quarantine.want(queue);
            }
            self.start_what_is_due(now);
            self.yield_turn();
        }
    }

    /// Notes that a child reported its end in good order, and how many tasks it gave back.
    pub(super) fn ended(&mut self, id: Id, given_back: u64) {
        if let Some(child) = self.children.get_mut(&id) {
            child.ended = true;
        }
        if let GroupStage::Draining { interrupted } = &mut self.stage {
            *interrupted |= given_back > 0;
        }
    }

    /// Drains every child: no new work, and an end when what has begun is finished.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.stage != GroupStage::Running {
            return;
        }
        self.stage = GroupStage::Draining { interrupted: false };
        for slot in &mut self.slots {
            slot.start_at = None;
        }
        self.quarantine.forget();
        self.roll = None;
        for id in self.ids() {
            self.leave(id, now);
        }
        self.end_if_empty();
    }

    /// Cancels every child: what still runs is given back.
    pub(super) fn cancel(&mut self, now: Instant) {
        self.drain(now);
        for id in self.ids() {
            self.actions.push_back(Action::Tell(id, SupervisorMessage::Cancel));
            if let Some(Child { phase: ChildPhase::Leaving(until), .. }) = self.children.get_mut(&id) {
                *until = (*until).min(now + policy::CANCEL_WITHIN);
            }
        }
    }

    /// Kills every child.
    pub(super) fn end_now(&mut self) {
        self.finish(Outcome::AtOnce);
    }

    /// Returns whether the group is on its way to its end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stage != GroupStage::Running
    }

    fn ids(&self) -> Vec<Id> {
        self.children.keys().copied().collect()
    }

    fn start(&mut self, role: ChildRole, now: Instant) -> Id {
        self.last_id += 1;
        self.children.insert(self.last_id, Child::new(role, now));
        self.actions.push_back(Action::Start(self.last_id, role));
        self.last_id
    }

    fn start_successor(&mut self, at: usize, now: Instant) -> Id {
        let id = self.start(ChildRole::Worker(at), now);
        self.slots[at].successor = Some(id);
        id
    }

    fn start_what_is_due(&mut self, now: Instant) {
        if self.stage != GroupStage::Running {
            return;
        }
        for at in 0..self.slots.len() {
            if self.slots[at].start_at.is_some_and(|due| due <= now) {
                self.slots[at].start_at = None;
                self.slots[at].current = Some(self.start(ChildRole::Worker(at), now));
            }
        }
        if self.quarantine.due(now).is_some_and(|due| due <= now) {
            let id = self.start(ChildRole::Quarantine, now);
            self.quarantine.begins(id);
        }
    }

    /// Asks the quarantine process to end after its present task if another queue is waiting.
    fn yield_turn(&mut self) {
        let working = |id: &Id| self.children.get(id).is_some_and(|child| child.phase == ChildPhase::Working);
        if let Some(id) = self.quarantine.serving().filter(working)
            && self.quarantine.yields_turn()
        {
            self.actions.push_back(Action::Tell(id, SupervisorMessage::YieldTurn));
        }
    }

    fn leave(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if matches!(child.phase, ChildPhase::Starting | ChildPhase::Working) {
            child.phase = ChildPhase::Leaving(now + self.plan.grace + policy::LATE_AFTER);
            self.actions.push_back(Action::Tell(id, SupervisorMessage::Drain));
        }
    }

    fn kill(&mut self, id: Id, why: KillReason) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.pid == 0 {
            // The child has not been started yet.
            self.children.remove(&id);
            self.actions.retain(|action| !matches!(action, Action::Start(other, _) if *other == id));
        } else if !matches!(child.phase, ChildPhase::Killed(_)) {
            child.phase = ChildPhase::Killed(why);
            self.actions.push_back(Action::Kill(child.pid));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.stage = GroupStage::Ending(outcome);
        for id in self.ids() {
            self.kill(id, KillReason::AtOnce);
        }
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if !self.children.is_empty() {
            return;
        }
        match self.stage.clone() {
            GroupStage::Running => {}
            GroupStage::Draining { interrupted } => {
                self.actions.push_back(Action::Over(Outcome::Drained { interrupted }));
            }
            GroupStage::Ending(outcome) => self.actions.push_back(Action::Over(outcome)),
        }
    }
}
