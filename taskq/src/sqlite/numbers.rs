//! Numbers in the file: times, and names of processes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time as the file has it: milliseconds since 1970. Leases and delays are shared between processes and outlive
/// restarts, so they go by the wall clock.
pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

/// When `duration` from now is over, for certain: rounded up, and at most the end of time.
pub(crate) fn ms_after(duration: Duration) -> i64 {
    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    now_ms().saturating_add(ms).saturating_add(1)
}

/// A number that nobody else has.
pub(crate) fn unique_number() -> i64 {
    let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
    // The low half of such an id is random but for two bits; the high half is the time.
    (high ^ low).cast_signed()
}
