//! Moments and observers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use taskq::TaskId;
use taskq::internal::attempt::Verdict;
use taskq::message::Envelope;

/// The task and attempt that a moment is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The task's name.
    pub(crate) task: &'a str,
    /// The task's id.
    pub(crate) id: &'a TaskId,
    /// The attempt, counted from 0.
    pub(crate) attempt: u32,
}

/// A moment in the life of a run, of a delivery, or of the records that are to be written.
#[derive(Debug)]
pub(crate) enum Moment<'a> {
    /// A delivery is to be run.
    Received {
        /// The run.
        subject: Subject<'a>,
        /// The message.
        envelope: &'a Envelope,
    },
    /// A body begins.
    Began {
        /// The run.
        subject: Subject<'a>,
    },
    /// A body has ended, by itself or because it was stopped.
    BodyEnded {
        /// The time since the body began.
        took: Duration,
    },
    /// A run was concluded; its end is on the way to the settler.
    Concluded {
        /// The run.
        subject: Subject<'a>,
        /// The meaning of its end.
        verdict: &'a Verdict,
        /// The result, if it has one.
        value: Option<&'a RawValue>,
        /// The place of the failure, if it is known.
        traceback: Option<&'a str>,
        /// The time since the body began, if it has begun.
        took: Option<Duration>,
    },
    /// A body ended after its run had been concluded from outside; its outcome is dropped.
    EndedLate {
        /// The run.
        subject: Subject<'a>,
        /// Whether the body is a plain function, whose thread was lost until now.
        frees_thread: bool,
    },
    /// A body keeps its thread for longer than a second without an await.
    BlocksRuntime {
        /// The run.
        subject: Subject<'a>,
    },
    /// A body is past its hard limit and cannot be stopped. Its run is concluded all the same; its thread is lost.
    Stuck {
        /// The run.
        subject: Subject<'a>,
    },
    /// A delivery ended without being run.
    NotRun {
        /// The task.
        subject: Subject<'a>,
        /// The reason, as it is recorded.
        verdict: &'a Verdict,
    },
    /// A delivery of a task that is not registered here goes back to the broker for a while.
    UnknownTask {
        /// The task.
        subject: Subject<'a>,
        /// The packages whose tasks are linked, separated by commas.
        packages: &'a str,
    },
    /// The arguments of a delivery do not fit the task as it is here, and may fit another build of it.
    Unfit {
        /// The run.
        subject: Subject<'a>,
        /// The first argument that does not fit.
        error: &'a (dyn Error + 'static),
    },
    /// A message cannot be decoded, or is not signed as it should be, and goes to the dead set.
    Unreadable {
        /// The queue that it came from.
        queue: &'a str,
        /// The reason.
        error: &'a (dyn Error + 'static),
    },
    /// A delivery turned out to be a copy of a run that has ended or goes on elsewhere.
    Duplicate {
        /// The run.
        subject: Subject<'a>,
    },
    /// A run ended whose task another worker has taken over meanwhile; the other run counts.
    TakenOver {
        /// The run.
        subject: Subject<'a>,
    },
    /// A task is moved to a quarantine queue.
    Quarantined {
        /// The task.
        subject: Subject<'a>,
        /// The quarantine queue.
        queue: &'a str,
        /// The evidence, in words.
        why: &'a str,
    },
    /// A task belongs into quarantine and is run here all the same.
    NotQuarantined {
        /// The task.
        subject: Subject<'a>,
        /// The reason, in words.
        why: &'a str,
    },
    /// Tasks wait in these quarantine queues, and no process has come for them.
    QuarantineWaits {
        /// The quarantine queues.
        queues: &'a [String],
    },
    /// A task is not run again because processes died while they ran it.
    WorkerLost {
        /// The task.
        subject: Subject<'a>,
        /// The deaths, in words.
        how: &'a str,
    },
    /// Records of progress were dropped because the result backend is away or the settler busy.
    ProgressDropped {
        /// The number of records.
        count: u64,
    },
    /// A batch of records could not be written and is tried again.
    RecordsWait {
        /// The number of records.
        count: usize,
        /// The error of the result backend.
        error: &'a (dyn Error + 'static),
    },
    /// A batch of records was written.
    RecordsWritten,
    /// A record is not acceptable to the result backend and never will be.
    RecordRefused {
        /// The task.
        id: &'a TaskId,
        /// The fault in the record.
        why: &'a str,
    },
    /// The stored record of a task cannot be read.
    RecordUnreadable {
        /// The task.
        id: &'a TaskId,
        /// The error of the decoder.
        error: &'a (dyn Error + 'static),
    },
    /// The claim of a task cannot be read or written, and never will be.
    ClaimUnusable {
        /// The task.
        id: &'a TaskId,
        /// The error of the store.
        error: &'a (dyn Error + 'static),
    },
    /// A step without which a task cannot be settled failed and is tried again.
    StepWaits {
        /// The step, as a noun phrase.
        what: &'static str,
        /// The error of the last try.
        error: &'a (dyn Error + 'static),
        /// Whether this step has waited before.
        again: bool,
    },
    /// A step that was waiting was carried out, or was given up.
    StepWaitsNoMore {
        /// The step.
        what: &'static str,
    },
    /// The message that was to follow a task can never be published.
    NeverPublished {
        /// The task's id, as its message has it.
        id: &'a str,
        /// The error of the broker.
        error: &'a (dyn Error + 'static),
        /// The end of the task, in words.
        then: &'static str,
    },
}

/// A listener to moments.
pub(crate) trait Observer: Send + Sync {
    /// Takes note of `moment`, without waiting.
    fn observe(&self, moment: &Moment<'_>);
}

/// The observers of one worker.
#[derive(Clone)]
pub(crate) struct Observers(Arc<[Arc<dyn Observer>]>);

impl Observers {
    /// Observers that are told of each moment in the order of `all`.
    pub(crate) fn new(all: impl IntoIterator<Item = Arc<dyn Observer>>) -> Self {
        Self(all.into_iter().collect())
    }

    /// Tells every observer of `moment`.
    pub(crate) fn observe(&self, moment: &Moment<'_>) {
        for observer in &*self.0 {
            observer.observe(moment);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.0.len())
    }
}
