//! The quarantine process: it serves one quarantine queue at a time, and the queues take turns.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Id;
use crate::supervise::policy;

/// The turns of the quarantine queues.
#[derive(Debug, Default)]
pub(super) struct QuarantineTurns {
    /// The queues in which tasks wait, as far as is known, in the order of their turns.
    waiting: VecDeque<String>,
    serving: Option<Turn>,
    /// The number of quarantine processes that have died in a row, and when the next may be started.
    failures: u32,
    not_before: Option<Instant>,
}

/// The present turn: a process and its queue.
#[derive(Debug)]
struct Turn {
    id: Id,
    queue: String,
    /// Whether the process was told that other queues wait.
    yields_turn: bool,
}

impl QuarantineTurns {
    /// Notes that tasks wait in this queue.
    pub(super) fn want(&mut self, queue: String) {
        if !self.waiting.contains(&queue) {
            self.waiting.push_back(queue);
        }
    }

    /// Returns when the next process is to start, if one is.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.serving.is_none() && !self.waiting.is_empty()).then(|| self.not_before.unwrap_or(now))
    }

    /// Gives the next turn to this process.
    pub(super) fn begins(&mut self, id: Id) {
        self.not_before = None;
        self.serving = self.waiting.pop_front().map(|queue| Turn { id, queue, yields_turn: false });
    }

    /// Returns the process whose turn it is.
    pub(super) fn serving(&self) -> Option<Id> {
        self.serving.as_ref().map(|serving| serving.id)
    }

    /// Returns the queue whose turn it is.
    pub(super) fn queue(&self) -> Option<String> {
        self.serving.as_ref().map(|serving| serving.queue.clone())
    }

    /// Returns whether the process at work is to be told that other queues wait. Returns `true` once per turn.
    pub(super) fn yields_turn(&mut self) -> bool {
        let Some(serving) = &mut self.serving else { return false };
        let others_wait = self.waiting.iter().any(|queue| *queue != serving.queue);
        others_wait && !std::mem::replace(&mut serving.yields_turn, true)
    }

    /// Ends the turn of this process, which takes nothing more.
    pub(super) fn leaves(&mut self, id: Id) {
        if let Some(serving) = self.serving.take_if(|serving| serving.id == id) {
            self.want(serving.queue);
        }
    }

    /// Notes that this process has ended: it found nothing for a while, or yielded its turn and reported whether there
    /// is more.
    pub(super) fn ended(&mut self, id: Id) {
        if self.serving.take_if(|serving| serving.id == id).is_some() {
            self.failures = 0;
        }
    }

    /// Notes that this process has died. The task that killed it may not be the last in its queue; the other queues
    /// have their turns first.
    pub(super) fn died(&mut self, id: Id, ready_for: Option<Duration>, now: Instant, chance: fn() -> f64) {
        if self.serving() == Some(id) {
            self.leaves(id);
            self.failures = policy::failures(self.failures, ready_for);
            self.not_before = Some(now + policy::pause(self.failures, chance()));
        }
    }

    /// Forgets all queues: no process is started any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}
