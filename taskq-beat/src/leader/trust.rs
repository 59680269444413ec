//! Trust in a lease: for how long its holder may fire without another renewal.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::timing::TRUSTED_FOR;

/// Trust in a lease since the start of its last renewal, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    pub(super) since: Instant,
    pub(super) since_wall: DateTime<Utc>,
}

impl Trust {
    /// Whether the holder may still fire.
    pub(super) fn holds(&self, now: Instant, wall: DateTime<Utc>) -> bool {
        let by_wall = (wall - self.since_wall).max(TimeDelta::zero()).to_std().unwrap_or_default();
        now.saturating_duration_since(self.since).max(by_wall) < TRUSTED_FOR
    }
}
