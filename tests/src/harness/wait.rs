//! Waiting for facts, and names that nobody else uses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a fact may take to become true before its test fails: generous, since machines are slow at times.
pub const BOUND: Duration = Duration::from_secs(60);

/// How often a fact is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks `fact` until it gives something, for at most [`BOUND`].
///
/// # Panics
///
/// With `what` if it does not become true in time.
pub fn wait_until<T>(what: &str, fact: impl FnMut() -> Option<T>) -> T {
    wait_within(what, BOUND, fact)
}

/// Asks `fact` until it gives something, for at most `bound`: for facts that need longer.
///
/// # Panics
///
/// With `what` if it does not become true in time.
pub fn wait_within<T>(what: &str, bound: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return found;
        }
        assert!(start.elapsed() < bound, "still not after {bound:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The time now, in milliseconds since 1970.
///
/// # Panics
///
/// If the clock shows a time before 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("the year is below five hundred million")
}

/// `prefix`, made unique over all tests and all their runs: for queues, ids and files.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{since:x}-{count}", std::process::id())
}
