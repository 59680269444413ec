//! The request to stop an attempt.

use std::sync::OnceLock;
use std::time::Duration;

use taskq::internal::attempt::Stop;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A request to stop, which is made once and keeps its first reason.
#[derive(Debug, Default)]
pub(super) struct StopRequest {
    made: OnceLock<(Stop, Instant)>,
    signal: Notify,
}

impl StopRequest {
    /// Makes the request. Returns `false` if it had been made before, and keeps the earlier reason then.
    pub(super) fn make(&self, why: Stop) -> bool {
        let is_first = self.made.set((why, Instant::now())).is_ok();
        self.signal.notify_waiters();
        is_first
    }

    /// The reason of the request and the time since it was made; `None` if there is none.
    pub(super) fn made(&self) -> Option<(Stop, Duration)> {
        self.made.get().map(|(why, since)| (*why, since.elapsed()))
    }

    /// Completes when the request is made, at once if it has been made.
    pub(super) async fn wait(&self) -> Stop {
        loop {
            let signal = self.signal.notified();
            tokio::pin!(signal);
            // Registered before it looks, so that no request is missed.
            signal.as_mut().enable();
            if let Some((why, _)) = self.made.get() {
                return *why;
            }
            signal.await;
        }
    }
}
