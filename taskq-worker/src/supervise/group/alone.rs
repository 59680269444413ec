//! The process for suspects: it serves one queue at a time, and the queues take turns.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Id;
use crate::supervise::policy;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// The queues in which suspects wait, as far as is known, in the order of their turns.
    waiting: VecDeque<String>,
    serving: Option<Serving>,
    /// How many have died in a row, and when the next may be started.
    failures: u32,
    not_before: Option<Instant>,
}

/// Who is at work, and where.
#[derive(Debug)]
struct Serving {
    id: Id,
    queue: String,
    /// It was told that others wait.
    makes_room: bool,
}

impl Alone {
    /// Suspects wait in this queue.
    pub(super) fn want(&mut self, queue: String) {
        if !self.waiting.contains(&queue) {
            self.waiting.push_back(queue);
        }
    }

    /// When the next process is to start, if one is.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.serving.is_none() && !self.waiting.is_empty()).then(|| self.not_before.unwrap_or(now))
    }

    /// This process takes its turn.
    pub(super) fn begins(&mut self, id: Id) {
        self.not_before = None;
        self.serving = self.waiting.pop_front().map(|queue| Serving { id, queue, makes_room: false });
    }

    /// The process whose turn it is.
    pub(super) fn serving(&self) -> Option<Id> {
        self.serving.as_ref().map(|serving| serving.id)
    }

    /// The queue whose turn it is.
    pub(super) fn queue(&self) -> Option<String> {
        self.serving.as_ref().map(|serving| serving.queue.clone())
    }

    /// Whether the process at work is to be told that others wait. It is told once.
    pub(super) fn makes_room(&mut self) -> bool {
        let Some(serving) = &mut self.serving else { return false };
        let others_wait = self.waiting.iter().any(|queue| *queue != serving.queue);
        others_wait && !std::mem::replace(&mut serving.makes_room, true)
    }

    /// This process takes nothing more, and its turn is over.
    pub(super) fn leaves(&mut self, id: Id) {
        if let Some(serving) = self.serving.take_if(|serving| serving.id == id) {
            self.want(serving.queue);
        }
    }

    /// This process has ended: having found nothing for a while, or to make room, having said whether there is more.
    pub(super) fn ended(&mut self, id: Id) {
        if self.serving.take_if(|serving| serving.id == id).is_some() {
            self.failures = 0;
        }
    }

    /// This process has died. What killed it is not all there is in its queue; the others have their turns first.
    pub(super) fn died(&mut self, id: Id, ready_for: Option<Duration>, now: Instant, chance: fn() -> f64) {
        if self.serving() == Some(id) {
            self.leaves(id);
            self.failures = policy::failures(self.failures, ready_for);
            self.not_before = Some(now + policy::pause(self.failures, chance()));
        }
    }

    /// Nobody is started any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}
