//! Reading what is known of a run whose delivery may be a duplicate.

use taskq::Client;
use taskq::message::Envelope;

use super::super::claims::{Claim, Claims};
use super::super::observe::Observers;
use super::super::quarantine::{Losses, losses};
use super::super::run::Run;
use super::super::settle::{unless_unusable, until_done};
use super::super::supervision::Role;
use super::finding::{DeliveryHints, Facts};

/// The look-up of duplicates, for one worker.
pub(crate) struct Duplicates {
    pub(crate) client: Client,
    pub(crate) claims: Option<Claims>,
    pub(crate) role: Role,
    pub(crate) observers: Observers,
}

impl Duplicates {
    /// Claims the run and reads its losses, however long that takes.
    ///
    /// The claim comes first: a process is known to be gone only when its losses are written down, so a worker that
    /// takes over a dead process's lease counts its death. Without a Kv store there is neither.
    pub(crate) async fn look_up(&self, run: &Run, hints: DeliveryHints) -> Facts {
        let (role, has_kv) = (self.role, self.claims.is_some());
        let (Some(claims), Some(kv)) = (&self.claims, self.client.kv()) else {
            return Facts { hints, role, has_kv, claimed: None, losses: Losses::default() };
        };
        let make = || claims.make(&run.envelope, run.nonce);
        let what = "claiming a task that may be running elsewhere";
        let claimed = unless_unusable(&self.observers, &run.key.id, until_done(&self.observers, what, make).await);
        let losses = if may_have_been_lost(&run.envelope, hints) {
            let read = || losses::read(kv, &run.key.id, run.key.generation);
            let what = "reading what was lost with a task";
            unless_unusable(&self.observers, &run.key.id, until_done(&self.observers, what, read).await)
        } else {
            None
        };
        Facts { hints, role, has_kv, claimed, losses: losses.unwrap_or_default() }
    }

    /// Gives up a claim that is not needed any more. If that fails, it runs out by itself.
    pub(crate) async fn give_up(&self, claim: &Claim) {
        let Some(claims) = &self.claims else { return };
        if let Err(error) = claims.give_up(claim).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a claim could not be given up; it runs out by itself"
            );
        }
    }
}

/// Whether an earlier run of this task may have killed its worker. A message that was only delayed, or re-sent by its
/// publisher, has never run and needs no look-up.
fn may_have_been_lost(envelope: &Envelope, hints: DeliveryHints) -> bool {
    hints.redelivered || hints.from_quarantine || envelope.moved || envelope.attempt > 0 || envelope.snoozes > 0
}
