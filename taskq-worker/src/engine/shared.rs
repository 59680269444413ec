//! The components of a worker, shared by the dispatcher, the execution and the upkeep.

use std::sync::Arc;

use taskq::Client;

use super::custody::InFlight;
use super::duplicates::Duplicates;
use super::limits::Revocations;
use super::observe::Observers;
use super::run::Bodies;
use super::settle::{Ends, SettlerHandle};

/// The components of a worker. Each is built with what it needs and knows none of the others beyond that; only the
/// dispatcher, the execution, the worker and the upkeep see all of them.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) observers: Observers,
    pub(super) bodies: Arc<Bodies>,
    pub(super) in_flight: Arc<InFlight>,
    pub(super) duplicates: Duplicates,
    pub(super) ends: Ends,
    pub(super) settler: SettlerHandle,
    pub(super) revocations: Arc<Revocations>,
}
