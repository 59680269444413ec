//! Counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taskq::internal::attempt::Verdict;

use super::{Moment, Observer};

/// Counts of what a worker did since it began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    succeeded: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    revoked: AtomicU64,
    progress_dropped: AtomicU64,
    bodies_ended: AtomicU64,
    bodies_nanos: AtomicU64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attempts that succeeded.
    pub(crate) succeeded: u64,
    /// Tasks that failed for good.
    pub(crate) failed: u64,
    /// Attempts that failed and are retried.
    pub(crate) retried: u64,
    /// Tasks that were revoked.
    pub(crate) revoked: u64,
    /// Records of progress that were not written.
    pub(crate) progress_dropped: u64,
}

impl Counters {
    /// The counts now.
    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            succeeded: read(&self.succeeded),
            failed: read(&self.failed),
            retried: read(&self.retried),
            revoked: read(&self.revoked),
            progress_dropped: read(&self.progress_dropped),
        }
    }

    /// The number of bodies that have ended, and the time that they took together.
    pub(crate) fn bodies(&self) -> (u64, Duration) {
        let count = self.bodies_ended.load(Ordering::Relaxed);
        (count, Duration::from_nanos(self.bodies_nanos.load(Ordering::Relaxed)))
    }
}

impl Observer for Counters {
    fn observe(&self, moment: &Moment<'_>) {
        let (counter, by) = match moment {
            Moment::BodyEnded { took } => {
                self.bodies_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
                (&self.bodies_ended, 1)
            }
            Moment::Concluded { verdict, .. } | Moment::NotRun { verdict, .. } => match verdict {
                Verdict::Succeed => (&self.succeeded, 1),
                Verdict::Retry { .. } => (&self.retried, 1),
                Verdict::Fail { .. } => (&self.failed, 1),
                Verdict::Revoke { .. } => (&self.revoked, 1),
                Verdict::Snooze { .. } | Verdict::GiveBack => return,
            },
            Moment::ProgressDropped { count } => (&self.progress_dropped, *count),
            _ => return,
        };
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;
    use taskq::message::Failure;

    use super::super::Subject;
    use super::*;

    #[test]
    fn moments_are_counted_by_what_they_mean() {
        let (counters, id) = (Counters::default(), TaskId::new());
        let failure = || Failure::new("m", "T", "text");
        let verdicts = [
            Verdict::Succeed,
            Verdict::Succeed,
            Verdict::Retry { delay_ms: 1, failure: failure() },
            Verdict::Snooze { delay_ms: 1, put_back: false },
            Verdict::GiveBack,
            Verdict::Revoke { failure: failure() },
            Verdict::worker_lost("it died"),
        ];
        for verdict in &verdicts {
            counters.observe(&Moment::Concluded {
                subject: Subject { task: "t", id: &id, attempt: 0 },
                verdict,
                value: None,
                traceback: None,
                took: None,
            });
        }
        let subject = Subject { task: "t", id: &id, attempt: 0 };
        counters.observe(&Moment::NotRun { subject, verdict: &Verdict::expired() });
        counters.observe(&Moment::ProgressDropped { count: 3 });
        counters.observe(&Moment::RecordsWritten);
        for milliseconds in [2, 5] {
            counters.observe(&Moment::BodyEnded { took: Duration::from_millis(milliseconds) });
        }
        let expected = Counts { succeeded: 2, failed: 1, retried: 1, revoked: 2, progress_dropped: 3 };
        assert_eq!(counters.counts(), expected);
        assert_eq!(counters.bodies(), (2, Duration::from_millis(7)));
    }
}
