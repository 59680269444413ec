//! One attempt that this worker has in its hands.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use taskq::TaskId;
use taskq::broker::Acker;
use taskq::definition::{Definition, ProgressCell};
use taskq::internal::attempt::Stop;
use taskq::message::{Envelope, TimeLimits};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::claim::Claim;
use super::held::Age;

/// Tells runs apart: messages with the same key are copies of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RunKey {
    pub(super) id: TaskId,
    pub(super) generation: u32,
    pub(super) attempt: u32,
    pub(super) snoozes: u32,
}

impl RunKey {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id.clone(),
            generation: envelope.generation,
            attempt: envelope.attempt,
            snoozes: envelope.snoozes,
        }
    }
}

/// An attempt that this worker is running, or has run and not yet settled.
pub(super) struct Run {
    pub(super) key: RunKey,
    /// Tells this run's claims from those of other runs of this worker.
    pub(super) nonce: u64,
    pub(super) envelope: Envelope,
    pub(super) definition: &'static Definition,
    /// Where what follows goes: the queue it came from, or if that is one for tasks that run alone, its home queue.
    pub(super) queue: Arc<str>,
    /// How long it may run.
    pub(super) limits: TimeLimits,
    /// Whether a result is stored at all.
    pub(super) stores_result: bool,
    /// Tells the task to stop.
    pub(super) cancel: watch::Sender<bool>,
    /// The latest progress.
    pub(super) progress: Arc<ProgressCell>,
    /// Since when its future is being polled.
    pub(super) poll: PollWatch,
    /// When the body began: limits count from here.
    began: OnceLock<Began>,
    /// The body has ended.
    ended: AtomicBool,
    /// Somebody has taken it upon himself to say what the run came to.
    concluded: AtomicBool,
    /// The soft limit is over; an error after this is put down to it.
    pub(super) soft_limit_hit: AtomicBool,
    /// `STARTED` has been written, or something later.
    pub(super) noted: AtomicBool,
    stop: Mutex<Option<Stopping>>,
    stop_signal: Notify,
    /// Taken by whoever settles. Replaced if the connection was lost and the message came again.
    pub(super) acker: Mutex<Option<Acker>>,
    /// How old the delivery is.
    pub(super) age: Mutex<Age>,
    claim: Mutex<Option<Claim>>,
}

/// When a body began.
struct Began {
    instant: Instant,
    at: DateTime<Utc>,
}

/// Why a run is stopped, and since when.
#[derive(Clone, Copy)]
struct Stopping {
    why: Stop,
    since: Instant,
}

/// Everything a [`Run`] is made of that differs from run to run.
pub(super) struct NewRun {
    pub(super) nonce: u64,
    pub(super) envelope: Envelope,
    pub(super) definition: &'static Definition,
    pub(super) queue: Arc<str>,
    pub(super) acker: Acker,
    pub(super) limits: TimeLimits,
    pub(super) stores_result: bool,
}

impl Run {
    pub(super) fn new(new: NewRun) -> Self {
        Self {
            key: RunKey::of(&new.envelope),
            nonce: new.nonce,
            envelope: new.envelope,
            definition: new.definition,
            queue: new.queue,
            limits: new.limits,
            stores_result: new.stores_result,
            cancel: watch::Sender::new(false),
            progress: Arc::default(),
            poll: PollWatch::default(),
            began: OnceLock::new(),
            ended: AtomicBool::new(false),
            concluded: AtomicBool::new(false),
            soft_limit_hit: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            stop: Mutex::default(),
            stop_signal: Notify::new(),
            acker: Mutex::new(Some(new.acker)),
            age: Mutex::default(),
            claim: Mutex::default(),
        }
    }

    /// Notes that the body begins.
    pub(super) fn begin(&self, at: DateTime<Utc>) {
        // An attempt begins once; a second call would change nothing.
        self.began.get_or_init(|| Began { instant: Instant::now(), at });
    }

    /// Notes that the body has ended, and says how long it took.
    pub(super) fn end(&self) -> Duration {
        self.ended.store(true, Ordering::Release);
        self.began.get().map_or(Duration::ZERO, |began| began.instant.elapsed())
    }

    /// When the body began, in wall-clock time.
    pub(super) fn began_at(&self) -> Option<DateTime<Utc>> {
        self.began.get().map(|began| began.at)
    }

    /// For how long the body has been running; `None` before it begins and after it has ended.
    pub(super) fn running_for(&self) -> Option<Duration> {
        let began = self.began.get()?;
        (!self.ended.load(Ordering::Acquire)).then(|| began.instant.elapsed())
    }

    /// Whether the body runs on a thread at this moment, or waits to.
    pub(super) fn is_running(&self) -> bool {
        self.began.get().is_some() && !self.ended.load(Ordering::Acquire)
    }

    /// True for the first who asks, and only for him: he says what the run came to, and settles it. Whoever comes later
    /// drops what he has.
    #[must_use]
    pub(super) fn conclude(&self) -> bool {
        !self.concluded.swap(true, Ordering::AcqRel)
    }

    /// Whether somebody has concluded it.
    pub(super) fn is_concluded(&self) -> bool {
        self.concluded.load(Ordering::Acquire)
    }

    /// Stops the attempt at its next await; false if it had been stopped before. To be called through
    /// [`InFlight::stop`](super::inflight::InFlight::stop), which looks whether it helps.
    pub(super) fn stop(&self, why: Stop) -> bool {
        let mut stop = lock(&self.stop);
        let first = stop.is_none();
        stop.get_or_insert_with(|| Stopping { why, since: Instant::now() });
        drop(stop);
        self.stop_signal.notify_one();
        first
    }

    /// Why it was stopped, and how long ago; `None` if it was not.
    pub(super) fn stopped_for(&self) -> Option<(Stop, Duration)> {
        lock(&self.stop).map(|stopping| (stopping.why, stopping.since.elapsed()))
    }

    /// Completes when the attempt is to be stopped.
    pub(super) async fn stopped(&self) -> Stop {
        loop {
            self.stop_signal.notified().await;
            if let Some(stopping) = *lock(&self.stop) {
                return stopping.why;
            }
        }
    }

    /// The acker, for settling. A second call gives `None`.
    pub(super) fn take_acker(&self) -> Option<Acker> {
        lock(&self.acker).take()
    }

    /// Whether settling now would have an effect: nobody else can have been given the message meanwhile.
    pub(super) fn holds_delivery(&self) -> bool {
        lock(&self.acker).as_ref().is_none_or(Acker::is_current)
    }

    pub(super) fn claim(&self) -> Option<Claim> {
        lock(&self.claim).clone()
    }

    /// The claim, to be given up: settling must not take it again.
    pub(super) fn take_claim(&self) -> Option<Claim> {
        lock(&self.claim).take()
    }

    pub(super) fn set_claim(&self, claim: Claim) {
        *lock(&self.claim) = Some(claim);
    }
}

/// Follows for how long one poll of a future goes on, by a clock that ticks ten times a second: a poll costs two stores,
/// and no look at the time.
#[derive(Debug, Default)]
pub(super) struct PollWatch {
    /// The tick at which the poll began; 0 between polls.
    since: AtomicU32,
    /// The beginning of the poll that was last reported.
    reported: AtomicU32,
}

impl PollWatch {
    /// A poll begins at `tick`; it ends when what this gives is dropped.
    pub(super) fn begin(&self, tick: u32) -> Polling<'_> {
        self.since.store(tick, Ordering::Relaxed);
        Polling(self)
    }

    /// Whether a poll has lasted for more than `ticks` at `now`. Says so once per poll.
    pub(super) fn lasts_longer_than(&self, ticks: u32, now: u32) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && now.saturating_sub(since) > ticks && self.reported.swap(since, Ordering::Relaxed) != since
    }
}

/// A poll that is going on.
pub(super) struct Polling<'a>(&'a PollWatch);

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.0.since.store(0, Ordering::Relaxed);
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_poll_is_told_of_once() {
        let watch = PollWatch::default();
        assert!(!watch.lasts_longer_than(10, 100), "nothing is polled");
        let polling = watch.begin(100);
        assert!(!watch.lasts_longer_than(10, 110), "not long enough");
        assert!(watch.lasts_longer_than(10, 111));
        assert!(!watch.lasts_longer_than(10, 112), "it has been told of");
        drop(polling);
        assert!(!watch.lasts_longer_than(10, 200));
        let _polling = watch.begin(200);
        assert!(watch.lasts_longer_than(10, 211), "another poll is another incident");
    }
}
