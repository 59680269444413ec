//! The seam between a worker and the supervisor of its process.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::observe::{Moment, Observer};
use crate::recorder::{FlightEntry, Recorder, Slot};

/// The means that a worker in a supervised process is given.
pub(crate) struct Supervision {
    /// The flight recorder, in which the worker notes what it is running.
    pub(crate) recorder: Arc<Recorder>,
    /// Whether this process runs the tasks of one quarantine queue, one at a time, and ends when that queue has been
    /// empty for a while.
    pub(crate) quarantine: bool,
    /// The node name of the whole worker, of which this process is one.
    pub(crate) worker: Option<String>,
    /// The way to the supervisor. Events are few, each is told once, so nothing grows.
    pub(crate) events: UnboundedSender<WorkerEvent>,
}

/// An event that the supervisor of a worker's process has to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerEvent {
    /// A task is past its hard limit and cannot be stopped. Its end is recorded, but the thread that it runs on is
    /// lost, so this process should be replaced: drained, and ended when its other tasks are done.
    Stuck {
        /// The task's name.
        task: String,
        /// The task's id.
        id: String,
    },
    /// Tasks wait in these quarantine queues for a process of their own.
    QuarantineWanted {
        /// The queues' names.
        queues: Vec<String>,
    },
}

/// The part of a worker in the treatment of tasks whose processes died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs tasks in a process that nobody supervises: it cannot count on a quarantine process.
    Unsupervised,
    /// Runs tasks beside each other, and moves suspects to quarantine.
    Ordinary,
    /// Runs the tasks of one quarantine queue, one at a time.
    Quarantine,
}

impl Role {
    /// The role of a worker with this supervision.
    pub(crate) fn of(supervision: Option<&Supervision>) -> Self {
        match supervision {
            None => Self::Unsupervised,
            Some(Supervision { quarantine: false, .. }) => Self::Ordinary,
            Some(Supervision { quarantine: true, .. }) => Self::Quarantine,
        }
    }

    /// Whether tasks run one at a time, from a quarantine queue.
    pub(crate) fn is_quarantine(self) -> bool {
        self == Self::Quarantine
    }
}

impl Supervision {
    /// Takes a slot in the recorder for a body that begins.
    pub(super) fn enter(&self, entry: &FlightEntry<'_>) -> Slot {
        self.recorder.enter(&FlightEntry { in_quarantine: self.quarantine, ..*entry })
    }
}

impl Observer for Supervision {
    fn observe(&self, moment: &Moment<'_>) {
        let event = match moment {
            Moment::Stuck { subject } => {
                WorkerEvent::Stuck { task: subject.task.to_owned(), id: subject.id.to_string() }
            }
            Moment::Quarantined { queue, .. } => WorkerEvent::QuarantineWanted { queues: vec![(*queue).to_owned()] },
            Moment::QuarantineWaits { queues } => WorkerEvent::QuarantineWanted { queues: queues.to_vec() },
            _ => return,
        };
        // No receiver is left when the process is about to end anyway.
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervision").field("quarantine", &self.quarantine).finish_non_exhaustive()
    }
}
