//! Records of runs that go on: started, and how far.

use std::time::Duration;

use super::super::run::Run;
use super::super::settle::{Ends, SettlerHandle};

/// The age from which a run is recorded as `STARTED`; faster ones are not worth a write.
const NOTE_AFTER: Duration = Duration::from_millis(100);

/// Hands the progress of a run to the settler, or that it has started.
pub(super) fn note(ends: &Ends, settler: &SettlerHandle, run: &Run) {
    if !run.stores_result {
        return;
    }
    let Some(age) = run.running_for() else { return };
    if let Some(progress) = ends.progress(run) {
        run.note();
        settler.note(progress);
    } else if age >= NOTE_AFTER && run.note() {
        settler.note(ends.started(run));
    }
}
