//! The rolling restart: every process is replaced, one by one, without a gap in the work.

use tokio::time::Instant;

use super::{Action, Group, GroupStage, Id, ProcessSlot};

/// A rolling restart that is under way.
#[derive(Debug)]
pub(super) struct Roll {
    /// The index of the slot whose turn it is.
    pub(super) slot: usize,
    /// The successor in that slot, once it is started.
    pub(super) started: Option<Id>,
    /// Whether another rolling restart was requested meanwhile.
    pub(super) again: bool,
}

impl Group {
    /// Replaces all children, one by one: first a new one is started, and when it is ready, the old one drains.
    pub(in super::super) fn roll(&mut self, now: Instant) {
        match &mut self.roll {
            _ if self.stage != GroupStage::Running => {}
            Some(roll) => roll.again = true,
            None => {
                self.actions.push_back(Action::Rolling);
                if let Some(id) = self.quarantine.serving() {
                    self.leave(id, now);
                    self.quarantine.leaves(id);
                    self.start_what_is_due(now);
                }
                self.roll = Some(Roll { slot: 0, started: None, again: false });
                self.roll_on(0, now);
            }
        }
    }

    /// Goes on with this slot, or is done.
    pub(super) fn roll_on(&mut self, at: usize, now: Instant) {
        let Some(roll) = &mut self.roll else { return };
        let (at, again) = if at == self.slots.len() && roll.again { (0, false) } else { (at, roll.again) };
        *roll = Roll { slot: at, started: None, again };
        match self.slots.get_mut(at) {
            None => {
                self.roll = None;
                tracing::info!("every process is new");
                self.actions.push_back(Action::Rolled);
            }
            // A successor is starting already, maybe from the old build; the turn comes when it is ready.
            Some(slot) if slot.successor.is_some() => {}
            Some(ProcessSlot { current: Some(_), .. }) => {
                let successor = self.start_successor(at, now);
                if let Some(roll) = &mut self.roll {
                    roll.started = Some(successor);
                }
            }
            Some(slot) => {
                // The next child is of the new build anyway.
                slot.start_at = Some(now);
                self.start_what_is_due(now);
                if let (Some(roll), Some(id)) = (&mut self.roll, self.slots[at].current) {
                    roll.started = Some(id);
                }
            }
        }
    }
}
