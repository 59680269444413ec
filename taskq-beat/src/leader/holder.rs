//! The holder of the lease, as it is stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskq::backend::{BackendError, SharedKv};

use crate::versioned::decode;

/// The key of the lease.
pub(super) const LEADER: &str = "beat/leader";

/// The holder of the lease, for other beats and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// The unique name of the beat.
    pub beat: String,
    /// The node name of the beat, for people: `beat@host`.
    pub node: String,
    /// The term: higher than that of every lease before.
    pub term: u64,
    /// When the lease was taken.
    pub since: DateTime<Utc>,
    /// The number of renewals, so that each renewal changes the stored value.
    pub renewals: u64,
}

/// Returns the holder of the lease, if there is one.
pub async fn holder(kv: &SharedKv) -> Result<Option<Holder>, BackendError> {
    kv.get(LEADER).await?.map(|value| decode(&value).map_err(|error| error.at(LEADER))).transpose()
}
