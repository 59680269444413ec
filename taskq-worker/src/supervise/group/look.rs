//! The periodic check of the children: silent, late or healthy again; and the health of the whole.

use std::time::Duration;

use tokio::time::Instant;

use super::roll::Roll;
use super::{Group, GroupStage, Id};
use crate::supervise::child::{Child, ChildPhase, ChildRole, KillReason};
use crate::supervise::policy::{self, Silence};

/// The gap between two checks from which on this process itself was stopped, so that its children were not silent.
const AWAY_AFTER: Duration = Duration::from_secs(5);

impl Group {
    /// Checks every child. `is_stopped` says whether a process, by its id, is stopped.
    pub(in super::super) fn look(&mut self, now: Instant, is_stopped: impl Fn(u32) -> bool) {
        let was_away = now - self.looked_at > AWAY_AFTER;
        self.looked_at = now;
        for id in self.ids() {
            if was_away && let Some(child) = self.children.get_mut(&id) {
                child.restart_silence(now);
            }
            self.look_at_child(id, now, &is_stopped);
        }
        self.start_what_is_due(now);
        if let Some(Roll { slot, started: None, .. }) = self.roll {
            self.roll_on(slot, now);
        }
        self.end_if_empty();
    }

    fn look_at_child(&mut self, id: Id, now: Instant, is_stopped: impl Fn(u32) -> bool) {
        let Some(child) = self.children.get_mut(&id) else { return };
        let pid = child.pid;
        if let ChildRole::Worker(at) = child.role {
            let slot = &mut self.slots[at];
            if policy::was_healthy(child.ready_for(now)) && slot.current == Some(id) {
                slot.failures = 0;
            }
            let is_late = child.starting_for(now).is_some_and(|waited| waited >= policy::READY_WITHIN);
            if slot.successor == Some(id) && is_late {
                tracing::error!(pid, "the new process is still not ready: it is killed");
                return self.kill(id, KillReason::NotReady);
            }
        }
        let mut stopped = false;
        match policy::silence(child.silent_for(now), || {
            stopped = is_stopped(pid);
            stopped
        }) {
            Silence::Fine if stopped => child.is_stopped(now),
            Silence::Fine => {}
            Silence::Warn => {
                if child.notice_silence() {
                    tracing::warn!(pid, "the process has sent nothing for {} s", child.silent_for(now).as_secs());
                }
            }
            Silence::Kill => {
                let silent = child.silent_for(now).as_secs();
                tracing::error!(pid, "the process has sent nothing for {silent} s: it is killed and replaced");
                return self.kill(id, KillReason::Silent);
            }
        }
        self.look_at_end(id, now);
    }

    fn look_at_end(&mut self, id: Id, now: Instant) {
        if let Some(Child { phase: ChildPhase::Leaving(until), pid, .. }) = self.children.get(&id)
            && *until <= now
        {
            tracing::warn!(pid, "the grace is over, and the process has not ended: it is killed");
            self.kill(id, KillReason::Late);
        }
    }

    /// Returns whether work is being done as it should, and if not, why not.
    pub(in super::super) fn health(&self, now: Instant) -> Result<(), String> {
        if self.stage != GroupStage::Running {
            return Err("it is stopping, and takes no new work".to_owned());
        }
        for (at, slot) in self.slots.iter().enumerate() {
            if slot.failures >= policy::FAILED_STARTS_MAX {
                let (number, failures) = (at + 1, slot.failures);
                return Err(format!("process {number} failed {failures} times in a row; the last one {}", slot.failed));
            }
        }
        let working: Vec<&Child> = self.slots.iter().filter_map(|slot| self.children.get(&slot.current?)).collect();
        let working = working.into_iter().filter(|child| child.phase == ChildPhase::Working).collect::<Vec<_>>();
        if working.is_empty() {
            return Err("no process is ready".to_owned());
        }
        working.into_iter().find_map(|child| child.describe_problem(now)).map_or(Ok(()), Err)
    }
}
