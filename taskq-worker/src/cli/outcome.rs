//! How a task ended, as `call --wait`, `result` and `watch` answer it.

use std::time::Duration;

use taskq::backend::ResultBackendExt;
use taskq::{Client, Status, TaskId, TaskState};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, plain};

/// Waits until the task has ended. An error, with its exit code, if it does not within `timeout`.
pub(super) async fn wait(client: &Client, id: &TaskId, timeout: Duration) -> Result<Status, Failure> {
    let record = client.results()?.wait(id, timeout).await.map_err(Failure::from)?;
    let late = || taskq::Error::NoResultYet { id: id.clone(), after: timeout };
    Ok(record.ok_or_else(late)?.into())
}

/// Answers how a task ended: its result to a person, all that is known to a program. Ends with an error if it failed.
pub(super) fn answer(output: Output, status: &Status) -> Result<Exit, Failure> {
    match status.state {
        TaskState::Success => output.say(status, value)?,
        // A person is told by the error.
        _ if output == Output::Person => {}
        _ => output.say(status, |_| String::new())?,
    }
    verdict(status)
}

/// The exit code of a task that ended, with what is said on stderr if it failed.
pub(super) fn verdict(status: &Status) -> Result<Exit, Failure> {
    let what = match status.state {
        TaskState::Success => return Ok(Exit::Ok),
        TaskState::Revoked => "was revoked",
        _ => "failed",
    };
    let why = status.failure.as_ref().map_or_else(|| "nobody noted why".to_owned(), ToString::to_string);
    Err(Failure::new(Exit::TaskFailed, plain(&format!("task {} {what}: {why}", status.id))))
}

/// The result as JSON, over several lines where it is large.
fn value(status: &Status) -> String {
    let json = status.value.as_deref().map_or("null", serde_json::value::RawValue::get);
    match serde_json::from_str::<serde_json::Value>(json) {
        Ok(value) if json.len() > 80 => format!("{value:#}"),
        // What is stored is JSON already.
        Ok(_) | Err(_) => json.to_owned(),
    }
}
