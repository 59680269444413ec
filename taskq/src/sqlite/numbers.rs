//! Numbers that are stored in the file: times, and random identifiers of processes and leases.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current time as it is stored in the file: milliseconds since 1970. Leases and delays are shared between
/// processes and outlive restarts, so they are measured by the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// The time at which `duration` from now is certainly over: rounded up, and at most the largest number.
pub(crate) fn ms_after(duration: Duration) -> i64 {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    now_ms().saturating_add(ms).saturating_add(1)
}

/// A random number that is practically unique.
pub(crate) fn unique_number() -> i64 {
    let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
    // The low half of a UUIDv7 is random except for two bits; the high half is the time.
    (high ^ low).cast_signed()
}
