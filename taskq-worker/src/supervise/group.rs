//! What becomes of the children: told what has happened, it says what to do. It waits for nothing and touches nothing,
//! so that tables can test it.

mod alone;
mod gone;
mod look;
mod roll;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::child::{Child, Phase, Place, Why};
use super::link::Order;
use super::policy::{self, Limits};
use super::unix::End;
use alone::Alone;
use roll::Roll;

/// A child's number: the first is 1, and none comes twice.
pub(super) type Id = u32;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How many processes run tasks.
    pub(crate) processes: usize,
    /// How long a child goes on with what it has begun, once it drains.
    pub(crate) grace: Duration,
    /// When a child is relieved by another.
    pub(crate) limits: Limits,
    /// The exit codes that mean: as things are, no start will come through. They count until a child was ready.
    pub(crate) refusals: [i32; 6],
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Start a child.
    Start(Id, Place),
    /// Tell a child something.
    Tell(Id, Order),
    /// End a child, by its process id.
    Kill(u32),
    /// All that were asked for are ready, for the first time.
    AllReady,
    /// A rolling restart begins.
    Rolling,
    /// It is over, one way or the other.
    Rolled,
    /// The last child is gone.
    Over(Outcome),
}

/// How the supervisor's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was asked to, and all children ended; `interrupted` says whether tasks were given back or left behind.
    Drained {
        /// Whether some tasks had not ended.
        interrupted: bool,
    },
    /// It was asked to, at once.
    AtOnce,
    /// No child ever became ready, and this one said with its exit code why none will.
    Refused(i32),
    /// No child ever became ready, and too many starts in a row have failed; with what was last heard.
    GaveUp(String),
}

/// How far the supervisor has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Running,
    Draining { interrupted: bool },
    Ending(Outcome),
}

/// The place of one of the processes that were asked for.
#[derive(Debug, Default)]
struct Slot {
    current: Option<Id>,
    /// Who takes the place when it is ready.
    successor: Option<Id>,
    failures: u32,
    /// When the next one starts, where there is none.
    start_at: Option<Instant>,
    /// How many successors have failed in a row, and when the next may be started.
    failed_successors: u32,
    successor_at: Option<Instant>,
    /// How the last one failed.
    failed: String,
}

/// The children, and what is to become of them.
#[derive(Debug)]
pub(super) struct Group {
    plan: Plan,
    children: BTreeMap<Id, Child>,
    slots: Vec<Slot>,
    alone: Alone,
    stage: Stage,
    roll: Option<Roll>,
    last_id: Id,
    has_been_ready: bool,
    is_all_ready: bool,
    looked_at: Instant,
    chance: fn() -> f64,
    actions: VecDeque<Action>,
}

impl Group {
    /// A group whose children are to be started. `chance` gives numbers from 0 to 1.
    pub(super) fn new(plan: Plan, now: Instant, chance: fn() -> f64) -> Self {
        let slots = (0..plan.processes).map(|_| Slot { start_at: Some(now), ..Slot::default() }).collect();
        let mut group = Self {
            plan,
            children: BTreeMap::new(),
            slots,
            alone: Alone::default(),
            stage: Stage::Running,
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

    /// The next thing to do.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Who can be asked to write down a loss.
    pub(super) fn ready_children(&self) -> impl Iterator<Item = Id> {
        self.children.iter().filter(|(_, child)| child.phase == Phase::Working).map(|(id, _)| *id)
    }

    /// The queue that the process for suspects is to serve.
    pub(super) fn alone_queue(&self) -> Option<String> {
        self.alone.queue()
    }

    /// Whether this child has taken work.
    pub(super) fn was_ready(&self, id: Id) -> bool {
        self.children.get(&id).is_some_and(Child::was_ready)
    }

    /// Whether the end of this child, if it came now, would be as planned.
    pub(super) fn end_is_planned(&self, id: Id) -> bool {
        self.children.get(&id).is_none_or(Child::end_is_planned)
    }

    /// Whether this end says that no start will come through.
    pub(super) fn is_refusal(&self, end: Option<End>) -> bool {
        !self.has_been_ready && matches!(end, Some(End::Code(code)) if self.plan.refusals.contains(&code))
    }

    /// When to look again, at the latest.
    pub(super) fn look_at(&self, now: Instant) -> Instant {
        let alone = if self.stage == Stage::Running { self.alone.due(now) } else { None };
        let starts = self.slots.iter().filter_map(|slot| slot.start_at).chain(alone);
        starts.fold(now + Duration::from_millis(500), Instant::min).max(now)
    }

    /// A child was started.
    pub(super) fn started(&mut self, id: Id, pid: u32) {
        if let Some(child) = self.children.get_mut(&id) {
            child.pid = pid;
        }
    }

    /// A child takes work.
    pub(super) fn ready(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != Phase::Starting {
            return;
        }
        child.ready(now);
        let Place::Of(at) = child.place else { return self.make_room() };
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
        let is_ready = |slot: &Slot| slot.current.is_some_and(|id| self.children[&id].phase == Phase::Working);
        if !self.is_all_ready && self.slots.iter().all(is_ready) {
            self.is_all_ready = true;
            self.actions.push_back(Action::AllReady);
        }
    }

    /// A child is alive, says what keeps it from its work, and has so many bytes in memory.
    pub(super) fn beat(&mut self, id: Id, done: u64, trouble: Option<String>, memory: Option<u64>, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != Phase::Working {
            return;
        }
        child.meets(trouble, now);
        let (Place::Of(at), Some(ready_for)) = (child.place, child.ready_for(now)) else { return };
        let slot = &self.slots[at];
        let may_be_relieved = self.stage == Stage::Running
            && slot.current == Some(id)
            && slot.successor.is_none()
            && slot.successor_at.is_none_or(|at| at <= now);
        if may_be_relieved && let Some(why) = self.plan.limits.passed(done, memory, ready_for) {
            tracing::info!(pid = child.pid, "{why}: another process takes its place");
            self.start_successor(at, now);
        }
    }

    /// A child cannot stop a task; it ends when its neighbours are done.
    pub(super) fn stuck(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.heard(now);
        if child.phase != Phase::Working {
            return;
        }
        let place = child.place;
        let ready_for = child.ready_for(now);
        self.leave(id, now);
        match place {
            Place::Of(at) if self.slots[at].current == Some(id) => self.vacate(at, ready_for, "a task was stuck", now),
            Place::Of(_) => {}
            Place::Alone => self.alone.leaves(id),
        }
        self.start_what_is_due(now);
    }

    /// Suspects wait in these queues.
    pub(super) fn alone_wanted(&mut self, queues: Vec<String>, now: Instant) {
        if self.stage == Stage::Running {
            for queue in queues {
                self.alone.want(queue);
            }
            self.start_what_is_due(now);
            self.make_room();
        }
    }

    /// A child said that it has ended in good order, having given back so many tasks.
    pub(super) fn ended(&mut self, id: Id, given_back: u64) {
        if let Some(child) = self.children.get_mut(&id) {
            child.ended = true;
        }
        if let Stage::Draining { interrupted } = &mut self.stage {
            *interrupted |= given_back > 0;
        }
    }

    /// Takes no new work, and ends when what has begun is finished.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.stage != Stage::Running {
            return;
        }
        self.stage = Stage::Draining { interrupted: false };
        for slot in &mut self.slots {
            slot.start_at = None;
        }
        self.alone.forget();
        self.roll = None;
        for id in self.ids() {
            self.leave(id, now);
        }
        self.end_if_empty();
    }

    /// Does not wait any longer: what runs is given back.
    pub(super) fn cancel(&mut self, now: Instant) {
        self.drain(now);
        for id in self.ids() {
            self.actions.push_back(Action::Tell(id, Order::Cancel));
            if let Some(Child { phase: Phase::Leaving(until), .. }) = self.children.get_mut(&id) {
                *until = (*until).min(now + policy::CANCEL_WITHIN);
            }
        }
    }

    /// Ends at once.
    pub(super) fn end_now(&mut self) {
        self.finish(Outcome::AtOnce);
    }

    /// Whether it is on its way to its end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stage != Stage::Running
    }

    fn ids(&self) -> Vec<Id> {
        self.children.keys().copied().collect()
    }

    fn start(&mut self, place: Place, now: Instant) -> Id {
        self.last_id += 1;
        self.children.insert(self.last_id, Child::new(place, now));
        self.actions.push_back(Action::Start(self.last_id, place));
        self.last_id
    }

    fn start_successor(&mut self, at: usize, now: Instant) -> Id {
        let id = self.start(Place::Of(at), now);
        self.slots[at].successor = Some(id);
        id
    }

    fn start_what_is_due(&mut self, now: Instant) {
        if self.stage != Stage::Running {
            return;
        }
        for at in 0..self.slots.len() {
            if self.slots[at].start_at.is_some_and(|due| due <= now) {
                self.slots[at].start_at = None;
                self.slots[at].current = Some(self.start(Place::Of(at), now));
            }
        }
        if self.alone.due(now).is_some_and(|due| due <= now) {
            let id = self.start(Place::Alone, now);
            self.alone.begins(id);
        }
    }

    /// Suspects of another queue wait: whoever runs those of this one ends when it has finished what it is running.
    fn make_room(&mut self) {
        let working = |id: &Id| self.children.get(id).is_some_and(|child| child.phase == Phase::Working);
        if let Some(id) = self.alone.serving().filter(working)
            && self.alone.makes_room()
        {
            self.actions.push_back(Action::Tell(id, Order::MakeRoom));
        }
    }

    fn leave(&mut self, id: Id, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if matches!(child.phase, Phase::Starting | Phase::Working) {
            child.phase = Phase::Leaving(now + self.plan.grace + policy::LATE_AFTER);
            self.actions.push_back(Action::Tell(id, Order::Drain));
        }
    }

    fn kill(&mut self, id: Id, why: Why) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.pid == 0 {
            // It has not been started yet.
            self.children.remove(&id);
            self.actions.retain(|action| !matches!(action, Action::Start(other, _) if *other == id));
        } else if !matches!(child.phase, Phase::Killed(_)) {
            child.phase = Phase::Killed(why);
            self.actions.push_back(Action::Kill(child.pid));
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.stage = Stage::Ending(outcome);
        for id in self.ids() {
            self.kill(id, Why::AtOnce);
        }
        self.end_if_empty();
    }

    fn end_if_empty(&mut self) {
        if !self.children.is_empty() {
            return;
        }
        match self.stage.clone() {
            Stage::Running => {}
            Stage::Draining { interrupted } => self.actions.push_back(Action::Over(Outcome::Drained { interrupted })),
            Stage::Ending(outcome) => self.actions.push_back(Action::Over(outcome)),
        }
    }
}
