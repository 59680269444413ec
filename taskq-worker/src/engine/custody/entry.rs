//! One run's entry in the table: its delivery, the age of that, and its claim.

use std::sync::Arc;

use taskq::broker::Acker;

use super::super::claims::Claim;
use super::super::run::Run;
use super::age::DeliveryAge;

/// A run in hand, with everything that is in its custody.
pub(super) struct Entry {
    pub(super) run: Arc<Run>,
    /// The delivery. `None` once it was acknowledged early. Replaced when a copy renews it, or when the connection
    /// was lost and the message came again.
    pub(super) delivery: Option<Acker>,
    pub(super) age: DeliveryAge,
    pub(super) claim: ClaimState,
}

/// A run's claim.
#[derive(Debug, Default)]
pub(super) enum ClaimState {
    /// No claim, as for every first delivery.
    #[default]
    None,
    /// A claim is being made; a second one must not be started.
    Claiming,
    /// A lease in Kv, to be renewed and finished.
    Held(Claim),
}

impl Entry {
    pub(super) fn new(run: Arc<Run>, delivery: Acker) -> Self {
        Self { run, delivery: Some(delivery), age: DeliveryAge::default(), claim: ClaimState::None }
    }

    /// Whether settling now would have an effect: no other worker can have been given the message meanwhile.
    pub(super) fn holds_delivery(&self) -> bool {
        self.delivery.as_ref().is_none_or(Acker::is_current)
    }

    /// The claim, if one is held.
    pub(super) fn claim(&self) -> Option<&Claim> {
        match &self.claim {
            ClaimState::Held(claim) => Some(claim),
            ClaimState::None | ClaimState::Claiming => None,
        }
    }
}

/// All entries of one task: almost always one, and no allocation for that.
pub(super) struct EntriesOfTask {
    pub(super) first: Entry,
    pub(super) others: Vec<Entry>,
}

impl EntriesOfTask {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }
}
