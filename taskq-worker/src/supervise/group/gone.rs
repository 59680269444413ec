//! The replacement of children that are gone, or that cannot be counted on.

use std::time::Duration;

use tokio::time::Instant;

use super::{Action, Group, GroupStage, Id, Outcome};
use crate::supervise::child::{Child, ChildRole};
use crate::supervise::policy;
use crate::supervise::unix::ProcessEnd;

impl Group {
    /// Notes that a child is gone, or could not be started. `how` says so in words.
    pub(in super::super) fn gone(&mut self, id: Id, end: Option<ProcessEnd>, how: &str, now: Instant) {
        let Some(child) = self.children.remove(&id) else { return };
        if let GroupStage::Draining { interrupted } = &mut self.stage {
            // A child that was still starting had no task that could be interrupted.
            *interrupted |= child.was_ready() && !child.ended;
        }
        match child.role {
            ChildRole::Worker(at) => self.gone_from(at, id, &child, end, how, now),
            ChildRole::Quarantine if child.end_is_planned() => self.quarantine.ended(id),
            ChildRole::Quarantine => self.quarantine.died(id, child.ready_for(now), now, self.chance),
        }
        self.start_what_is_due(now);
        self.end_if_empty();
    }

    fn gone_from(&mut self, at: usize, id: Id, child: &Child, end: Option<ProcessEnd>, how: &str, now: Instant) {
        if let Some(ProcessEnd::Code(code)) = end
            && self.is_refusal(end)
            && self.stage == GroupStage::Running
        {
            return self.finish(Outcome::Refused(code));
        }
        let is_of_the_roll = self.roll.as_ref().is_some_and(|roll| roll.started == Some(id));
        let slot = &mut self.slots[at];
        if slot.successor == Some(id) {
            slot.successor = None;
            slot.failed_successors = slot.failed_successors.saturating_add(1);
            slot.successor_at = Some(now + policy::pause(slot.failed_successors, (self.chance)()));
            let left = "the process that it was to replace goes on";
            tracing::error!(pid = child.pid, "the new process {how} before it was ready; {left}");
        } else if slot.current == Some(id) {
            self.vacate(at, child.ready_for(now), how, now);
        }
        if is_of_the_roll {
            tracing::error!("the rolling restart is aborted: processes that have not been replaced stay as they are");
            self.roll = None;
            self.actions.push_back(Action::Rolled);
        }
    }

    /// Gives the slot to its successor; without one, schedules the next start.
    pub(super) fn vacate(&mut self, at: usize, ready_for: Option<Duration>, how: &str, now: Instant) {
        let slot = &mut self.slots[at];
        slot.current = slot.successor.take();
        if self.stage != GroupStage::Running || slot.current.is_some() {
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
