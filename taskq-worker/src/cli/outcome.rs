//! The end of a task, as `call --wait`, `result` and `watch` answer it.

use std::time::Duration;

use taskq::backend::ResultBackendExt;
use taskq::internal::codec::tree::Tree;
use taskq::internal::shown::in_json;
use taskq::{Client, Status, TaskId, TaskState};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, plain};

/// Waits until the task has ended. Fails if it does not within `timeout`.
pub(super) async fn wait(client: &Client, id: &TaskId, timeout: Duration) -> Result<Status, Failure> {
    let record = client.results()?.wait(id, timeout).await.map_err(Failure::from)?;
    let late = || taskq::Error::NoResultYet { id: id.clone(), after: timeout };
    Ok(record.ok_or_else(late)?.into())
}

/// Answers how a task ended: to a person with its result, to a program with everything known. Fails if the task did.
pub(super) fn answer(output: Output, status: &Status) -> Result<Exit, Failure> {
    let written = match status.state {
        TaskState::Success => output.say(status, value),
        // A person sees the error.
        _ if output == Output::Person => Ok(()),
        _ => output.say(status, |_| String::new()),
    };
    written.map_err(|failure| failure.after(|| format!("task {} has ended as {}", status.id, status.state)))?;
    verdict(status)
}

/// Returns the exit code for a task that ended, or a failure with its error.
pub(super) fn verdict(status: &Status) -> Result<Exit, Failure> {
    let what = match status.state {
        TaskState::Success => match &status.value_fault {
            None => return Ok(Exit::Ok),
            // As far as it can be shown, it was shown.
            Some(fault) => {
                let text = format!("null stands for something else in the result of task {}: {fault}", status.id);
                return Err(Failure::new(Exit::Unreachable, text));
            }
        },
        TaskState::Revoked => "was revoked",
        _ => "failed",
    };
    let why = status.failure.as_ref().map_or_else(|| "no reason was recorded".to_owned(), ToString::to_string);
    // A break of a line in the reason is shown as one.
    Err(Failure::new(Exit::TaskFailed, plain(&format!("task {} {what}: {why}", status.id))))
}

/// Returns the result as JSON, over several lines if it is large.
fn value(status: &Status) -> String {
    let json = status.value.as_deref().map_or("null", serde_json::value::RawValue::get);
    match Tree::parse(json) {
        Ok(tree) if json.len() > 80 => {
            let pretty = tree.to_pretty_json();
            pretty.lines().map(in_json).collect::<Vec<_>>().join("\n")
        }
        // The stored value is JSON already.
        Ok(_) | Err(_) => in_json(json).into_owned(),
    }
}
