//! STUB of the other branch.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::{WorkerBuilder, WorkerControl};
use crate::supervise::recorder::Recorder;

pub(crate) struct Supervision {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) alone: bool,
    pub(crate) events: UnboundedSender<WorkerEvent>,
}

pub(crate) enum WorkerEvent {
    Stuck { task: String, id: String },
    AloneWanted { queues: Vec<String> },
}

pub(crate) struct Pulse {
    pub(crate) done: u64,
    pub(crate) running: u32,
    pub(crate) live: bool,
}

impl WorkerBuilder {
    pub(crate) fn supervised(self, supervision: Supervision) -> Self {
        std::mem::forget(supervision);
        self
    }
}

impl WorkerControl {
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse { done: 0, running: 0, live: true }
    }
}
