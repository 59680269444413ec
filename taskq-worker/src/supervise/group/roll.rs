//! The rolling restart: every process is replaced, one by one, and nobody has to wait for it.

use tokio::time::Instant;

use super::{Action, Group, Id, Slot, Stage};

/// A rolling restart that is under way.
#[derive(Debug)]
pub(super) struct Roll {
    /// The place whose turn it is.
    pub(super) slot: usize,
    /// Its successor, once it is started.
    pub(super) started: Option<Id>,
    /// Another one was asked for meanwhile.
    pub(super) again: bool,
}

impl Group {
    /// Replaces all children, one by one: a new one first, and when it is ready, the old one drains.
    pub(in super::super) fn roll(&mut self, now: Instant) {
        match &mut self.roll {
            _ if self.stage != Stage::Running => {}
            Some(roll) => roll.again = true,
            None => {
                self.actions.push_back(Action::Rolling);
                if let Some(id) = self.alone.serving() {
                    self.leave(id, now);
                    self.alone.leaves(id);
                    self.start_what_is_due(now);
                }
                self.roll = Some(Roll { slot: 0, started: None, again: false });
                self.roll_on(0, now);
            }
        }
    }

    /// Goes on with this place, or is done.
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
            // It was on its way already, maybe from the old build; its turn comes when it has arrived.
            Some(slot) if slot.successor.is_some() => {}
            Some(Slot { current: Some(_), .. }) => {
                let successor = self.start_successor(at, now);
                if let Some(roll) = &mut self.roll {
                    roll.started = Some(successor);
                }
            }
            Some(slot) => {
                // Whoever comes next is new.
                slot.start_at = Some(now);
                self.start_what_is_due(now);
                if let (Some(roll), Some(id)) = (&mut self.roll, self.slots[at].current) {
                    roll.started = Some(id);
                }
            }
        }
    }
}
