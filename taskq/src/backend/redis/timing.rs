//! Time: pings, timeouts as errors, and the pauses between attempts to connect.

use std::time::Duration;

use redis::RedisError;
use tokio::time::timeout;

use crate::io;

/// The interval after which a silent connection is pinged.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The maximum time for the answer to a ping; the timeout for operations applies if it is shorter.
const PONG_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Awaits `future`, with a timeout as an error.
pub(super) async fn in_time<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match timeout(limit, future).await {
        Ok(done) => done,
        Err(_) => Err(timed_out()),
    }
}

pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// The maximum time for the answer to a ping.
pub(super) fn pong_timeout(limit: Duration) -> Duration {
    limit.min(PONG_TIMEOUT_MAX)
}

/// The pauses between attempts to connect: 50 ms at first, doubled each time, up to 5 s.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Pauses {
    /// The next pause, between half and all of the current value, so that a thousand clients do not reconnect in the
    /// same instant.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause.mul_f64(0.5 + io::jitter() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::default();
        for bound_ms in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let bound = Duration::from_millis(bound_ms);
            let pause = pauses.next();
            assert!(pause <= bound && pause >= bound / 2, "{pause:?} against {bound:?}");
        }
    }
}
