//! The status of a beat, and the handle that stops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio::sync::watch;

/// A handle that stops a beat and reports its status. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct BeatControl {
    stop: Arc<watch::Sender<bool>>,
    status: watch::Receiver<BeatStatus>,
}

/// The status of a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BeatStatus {
    /// Whether the beat leads, and so fires.
    pub leads: bool,
    /// The number of entries of a leader; 0 if the beat does not lead.
    pub entries: usize,
}

/// The number of slots that a beat dealt with, over all its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct BeatSummary {
    /// The number of slots sent.
    pub fired: u64,
    /// The number of slots found missed.
    pub missed: u64,
}

/// Running counts for the summary.
#[derive(Debug, Default)]
pub(super) struct Counts {
    fired: AtomicU64,
    missed: AtomicU64,
}

impl BeatControl {
    /// Returns the handle over both channels of a beat.
    pub(super) fn new(stop: Arc<watch::Sender<bool>>, status: watch::Receiver<BeatStatus>) -> Self {
        Self { stop, status }
    }

    /// Asks the beat to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Returns the current status.
    pub fn status(&self) -> BeatStatus {
        *self.status.borrow()
    }
}

impl Counts {
    /// Counts a slot that was sent.
    pub(super) fn count_fired(&self) {
        self.fired.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts slots that were missed.
    pub(super) fn count_missed(&self, count: u64) {
        self.missed.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the counts so far.
    pub(super) fn summary(&self) -> BeatSummary {
        BeatSummary { fired: self.fired.load(Ordering::Relaxed), missed: self.missed.load(Ordering::Relaxed) }
    }
}
