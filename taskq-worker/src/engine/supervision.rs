//! The seam between a worker and the supervisor of its process.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::recorder::{Entry, Recorder, Slot};

/// What a worker in a supervised process is given.
pub(crate) struct Supervision {
    /// Where it notes what it is running.
    pub(crate) recorder: Arc<Recorder>,
    /// Whether it is there to run suspects, one at a time: it takes one queue, as it is named, and ends by itself when that
    /// has been empty for a while.
    pub(crate) alone: bool,
    /// What it has to say. Few events, each once, so nothing grows.
    pub(crate) events: UnboundedSender<WorkerEvent>,
}

/// What a worker says to whoever supervises its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerEvent {
    /// This task is past its hard limit and cannot be stopped. Its end is recorded, but the thread that it runs on is lost,
    /// so this process should be replaced: drained, and ended when its other tasks are done.
    Stuck {
        /// The task's name.
        task: String,
        /// The task's id.
        id: String,
    },
    /// Tasks wait in these queues to be run alone, by a process of their own.
    AloneWanted {
        /// The queues, as that process is to be given them.
        queues: Vec<String>,
    },
}

/// How a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pulse {
    /// Attempts that have ended since it began.
    pub(crate) done: u64,
    /// Attempts in hand, from their delivery to their acknowledgement.
    pub(crate) running: u32,
    /// What keeps it from its work, if anything does: words that name the server.
    pub(crate) trouble: Option<String>,
}

impl Supervision {
    /// Takes a place in the recorder for a body that begins.
    pub(super) fn enter(&self, entry: &Entry<'_>) -> Slot {
        self.recorder.enter(&Entry { alone: self.alone, ..*entry })
    }

    /// Says something. Nobody listens when the process is about to end anyway.
    pub(super) fn tell(&self, event: WorkerEvent) {
        let _ = self.events.send(event);
    }
}

impl fmt::Debug for Supervision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervision").field("alone", &self.alone).finish_non_exhaustive()
    }
}
