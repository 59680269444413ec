//! The times of the election, which have to fit together.

use std::time::Duration;

/// The time for which a lease lasts without being renewed.
pub const LEASE: Duration = Duration::from_secs(10);

/// The time between renewals.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);

/// The time for which a holder trusts its lease after the start of the last renewal.
pub const TRUSTED_FOR: Duration = Duration::from_secs(7);

/// The time between looks of a candidate.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The time from a failed renewal to the next.
pub(super) const RENEW_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The limit on waiting for a renewal: the next one may reach a store that is back.
pub(super) const RENEWAL_MAX: Duration = Duration::from_secs(3);
