//! What becomes of a place whose child is gone, or cannot be counted on.

use std::time::Duration;

use tokio::time::Instant;

use super::{Action, Group, Id, Outcome, Stage};
use crate::supervise::child::{Child, Place};
use crate::supervise::policy;
use crate::supervise::unix::End;

impl Group {
    /// A child is gone, or could not be started. `how` says so in words.
    pub(in super::super) fn gone(&mut self, id: Id, end: Option<End>, how: &str, now: Instant) {
        let Some(child) = self.children.remove(&id) else { return };
        if let (Stage::Draining { interrupted }, false) = (&mut self.stage, child.ended) {
            *interrupted = true;
        }
        match child.place {
            Place::Of(at) => self.gone_from(at, id, &child, end, how, now),
            Place::Alone if child.end_is_planned() => self.alone.ended(id),
            Place::Alone => self.alone.died(id, child.ready_for(now), now, self.chance),
        }
        self.start_what_is_due(now);
        self.end_if_empty();
    }

    fn gone_from(&mut self, at: usize, id: Id, child: &Child, end: Option<End>, how: &str, now: Instant) {
        if let Some(End::Code(code)) = end
            && self.is_refusal(end)
            && self.stage == Stage::Running
        {
            return self.finish(Outcome::Refused(code));
        }
        let is_of_the_roll = self.roll.as_ref().is_some_and(|roll| roll.started == Some(id));
        let slot = &mut self.slots[at];
        if slot.successor == Some(id) {
            slot.successor = None;
            slot.failed_successors = slot.failed_successors.saturating_add(1);
            slot.successor_at = Some(now + policy::pause(slot.failed_successors, (self.chance)()));
            let left = "the one that was to be relieved goes on";
            tracing::error!(pid = child.pid, "the new process {how} before it was ready; {left}");
        } else if slot.current == Some(id) {
            self.vacate(at, child.ready_for(now), how, now);
        }
        if is_of_the_roll {
            tracing::error!("the rolling restart is off: what has not been replaced stays as it is");
            self.roll = None;
            self.actions.push_back(Action::Rolled);
        }
    }

    /// Nobody is in this place any more, or nobody who counts: the successor has it, or somebody is started soon.
    pub(super) fn vacate(&mut self, at: usize, ready_for: Option<Duration>, how: &str, now: Instant) {
        let slot = &mut self.slots[at];
        slot.current = slot.successor.take();
        if self.stage != Stage::Running || slot.current.is_some() {
            return;
        }
        slot.failures = policy::failures(slot.failures, ready_for);
        how.clone_into(&mut slot.failed);
        let failures = slot.failures;
        if !self.has_been_ready && failures >= policy::FAILED_STARTS_MAX {
            return self.finish(Outcome::GaveUp(how.to_owned()));
        }
        let pause = policy::pause(failures, (self.chance)());
        slot.start_at = Some(now + pause);
        tracing::info!("another process starts in {:.1} s", pause.as_secs_f64());
    }
}
