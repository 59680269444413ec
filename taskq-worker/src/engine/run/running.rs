//! The running state of one attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use taskq::definition::{Definition, ProgressCell};
use taskq::internal::attempt::Stop;
use taskq::message::{Envelope, RunKey, TimeLimits};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::observe::Subject;
use super::poll_watch::PollWatch;
use super::stop::StopRequest;

/// An attempt that this worker is running, or has run and not yet settled.
///
/// It holds neither its delivery nor its claim: those belong to its entry in
/// [`InFlight`](crate::engine::custody::InFlight).
pub(crate) struct Run {
    pub(crate) key: RunKey,
    /// Tells this run apart from others of this worker, in claims above all.
    pub(crate) nonce: u64,
    pub(crate) envelope: Envelope,
    pub(crate) definition: &'static Definition,
    /// The queue for what follows: the queue that the message came from or, for a message from a quarantine queue,
    /// the queue that it was in before.
    pub(crate) queue: Arc<str>,
    /// The time limits of the attempt.
    pub(crate) limits: TimeLimits,
    /// Whether records of the run are written.
    pub(crate) stores_result: bool,
    /// The flag that asks the task to stop.
    pub(crate) cancel: watch::Sender<bool>,
    /// The latest progress.
    pub(crate) progress: Arc<ProgressCell>,
    /// The watch over the polls of an async body.
    pub(super) poll: PollWatch,
    /// The beginning of the body, from which limits count.
    began: OnceLock<Began>,
    ended: AtomicBool,
    concluded: AtomicBool,
    soft_limit_hit: AtomicBool,
    noted: AtomicBool,
    /// Since when the task is revoked.
    revoked: OnceLock<Instant>,
    /// Whether a body that does not listen is ended with its process.
    terminated: AtomicBool,
    stop: StopRequest,
}

/// The beginning of a body.
struct Began {
    instant: Instant,
    at: DateTime<Utc>,
}

/// The parts of a [`Run`] that differ from run to run.
pub(crate) struct NewRun {
    pub(crate) nonce: u64,
    pub(crate) envelope: Envelope,
    pub(crate) definition: &'static Definition,
    pub(crate) queue: Arc<str>,
    pub(crate) limits: TimeLimits,
    pub(crate) stores_result: bool,
}

impl Run {
    /// A run that has not begun.
    pub(crate) fn new(new: NewRun) -> Self {
        Self {
            key: new.envelope.run_key(),
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
            revoked: OnceLock::new(),
            terminated: AtomicBool::new(false),
            stop: StopRequest::default(),
        }
    }

    /// The run, for observers.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { task: self.definition.name, id: &self.key.id, attempt: self.key.attempt }
    }

    /// Notes that the body begins. Only the first call has an effect.
    pub(crate) fn begin(&self, at: DateTime<Utc>) {
        self.began.get_or_init(|| Began { instant: Instant::now(), at });
    }

    /// Notes that the body has ended, and returns how long it took.
    pub(super) fn end(&self) -> Duration {
        self.ended.store(true, Ordering::Release);
        self.began.get().map_or(Duration::ZERO, |began| began.instant.elapsed())
    }

    /// The wall-clock time at which the body began.
    pub(crate) fn began_at(&self) -> Option<DateTime<Utc>> {
        self.began.get().map(|began| began.at)
    }

    /// The time since the body began, whether it has ended or not; `None` before it begins.
    pub(crate) fn since_began(&self) -> Option<Duration> {
        self.began.get().map(|began| began.instant.elapsed())
    }

    /// The time since the body began; `None` before it begins and after it has ended.
    pub(crate) fn running_for(&self) -> Option<Duration> {
        let began = self.began.get()?;
        (!self.ended.load(Ordering::Acquire)).then(|| began.instant.elapsed())
    }

    /// Whether the body has begun and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.began.get().is_some() && !self.ended.load(Ordering::Acquire)
    }

    /// Claims the right to settle this run. Returns `true` exactly once; every later caller must discard its outcome.
    #[must_use]
    pub(crate) fn conclude(&self) -> bool {
        !self.concluded.swap(true, Ordering::AcqRel)
    }

    /// Whether the right to settle this run has been claimed.
    pub(crate) fn is_concluded(&self) -> bool {
        self.concluded.load(Ordering::Acquire)
    }

    /// Notes that the soft limit is over, and asks the task to stop. An error after this is put down to the limit.
    /// Only the first call has an effect.
    pub(crate) fn hit_soft_limit(&self) {
        if !self.soft_limit_hit.swap(true, Ordering::AcqRel) {
            self.cancel.send_replace(true);
        }
    }

    /// Whether the soft limit was over while the body ran.
    pub(super) fn is_soft_limit_hit(&self) -> bool {
        self.soft_limit_hit.load(Ordering::Acquire)
    }

    /// Notes that the task is revoked, and asks it to stop. Whatever the body returns from now on, the task is revoked.
    /// An order to terminate it stays.
    pub(crate) fn revoke(&self, terminate: bool) {
        self.terminated.fetch_or(terminate, Ordering::AcqRel);
        if self.revoked.set(Instant::now()).is_ok() {
            self.cancel.send_replace(true);
        }
    }

    /// The reason to stop the run because its task is revoked, and the time since that was noted.
    pub(crate) fn revoked(&self) -> Option<(Stop, Duration)> {
        let terminate = self.terminated.load(Ordering::Acquire);
        self.revoked.get().map(|since| (Stop::Revoked { terminate }, since.elapsed()))
    }

    /// Notes that a record of the run going on (`STARTED` or later) was handed over. Returns `false` if that had been
    /// noted before.
    pub(crate) fn note(&self) -> bool {
        !self.noted.swap(true, Ordering::Relaxed)
    }

    /// Requests that the attempt stops at its next await. Returns `false` if that had been requested before. Called by
    /// [`InFlight::stop`](crate::engine::custody::InFlight::stop), which looks later whether it helped.
    pub(crate) fn stop(&self, why: Stop) -> bool {
        self.stop.make(why)
    }

    /// The reason for which the attempt is to stop, and the time since that was requested.
    pub(crate) fn stopped_for(&self) -> Option<(Stop, Duration)> {
        self.stop.made()
    }

    /// Completes when the attempt is to stop.
    pub(crate) async fn stopped(&self) -> Stop {
        self.stop.wait().await
    }

    /// Whether one poll of the body has lasted for more than `ticks` at tick `now`. True once per poll.
    pub(crate) fn blocks_runtime(&self, ticks: u32, now: u32) -> bool {
        self.poll.lasts_longer_than(ticks, now)
    }
}
