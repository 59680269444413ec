//! The call of an entry.

use std::time::Duration;

use serde_json::Value;
use taskq::Call;
use taskq::canvas::ArgumentList;
use taskq::definition::{Registry, TaskOptions};

use crate::entry::{Entry, Overlap};

/// Returns the call of an entry, which expires `expires` after it is sent.
pub(super) fn call(entry: &Entry, registry: &Registry, expires: Option<Duration>) -> Result<Call<Value>, taskq::Error> {
    let options = registry.get(&entry.task).map_or(&TaskOptions::DEFAULT, |task| &task.options);
    let arguments = ArgumentList::from_json(&entry.args, &entry.kwargs)
        .map_err(|error| taskq::Error::Call { task: entry.task.clone(), mistake: error.to_string() })?;
    let mut call = Call::named(&entry.task, arguments);
    if let Some(queue) = entry.queue.clone().or(options.queue.map(str::to_owned)) {
        call = call.queue(queue);
    }
    if let Some(priority) = entry.priority.or(options.priority) {
        call = call.priority(priority);
    }
    if let Some(after) = expires.or(options.expires) {
        call = call.expires(after);
    }
    if options.sealed {
        call = call.sealed();
    }
    if entry.overlap == Overlap::Skip {
        // The record tells whether the run is unfinished, so it is kept even if the task itself has `ignore_result`.
        call = call.ignore_result(false);
    }
    Ok(call)
}
