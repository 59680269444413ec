//! `status`: shows everything known of a task.

use clap::Args;
use serde_json::value::RawValue;
use taskq::message::Progress;
use taskq::{TaskId, TaskState};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{plain, time};
use super::session::Session;
use super::values;

/// Show everything known of a task: state, attempt, progress, times, worker, error or result
///
/// A task of which nothing is known is PENDING: it waits in its queue, its result has expired, or it was never sent.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskq status 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69")]
pub(super) struct StatusCommand {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    id: TaskId,
}

impl StatusCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let status = client.handle::<serde_json::Value>(self.id.clone()).status().await;
        client.close().await;
        session.output().say(&status?, describe)?;
        Ok(Exit::Ok)
    }
}

/// Formats a line for each known property.
fn describe(status: &taskq::Status) -> String {
    let state = match status.state {
        TaskState::Pending => "PENDING (queued, or never sent: nothing is known of it)".to_owned(),
        ref state => state.to_string(),
    };
    let value = match status.state {
        TaskState::Progress => None,
        _ => status.value.as_deref().map(|value| RawValue::get(value).to_owned()),
    };
    let lines = [
        ("id", Some(status.id.to_string())),
        ("task", status.task.clone()),
        ("state", Some(state)),
        ("attempt", (status.state != TaskState::Pending).then(|| status.attempt.to_string())),
        ("progress", status.progress.as_ref().map(progress)),
        ("worker", status.worker.clone()),
        ("started", status.started_at.map(time)),
        ("finished", status.finished_at.map(time)),
        ("retry at", status.retry_at.map(time)),
        ("error", status.failure.as_ref().map(ToString::to_string)),
        ("value", value),
        ("fault", status.value_fault.clone()),
    ];
    let known = lines.into_iter().filter_map(|(name, value)| Some(format!("{name:<10}{}", plain(&value?))));
    known.collect::<Vec<_>>().join("\n")
}

/// Formats progress as `3 of 10, rendering`.
pub(super) fn progress(progress: &Progress) -> String {
    let done = match progress {
        Progress { current, total: 0, .. } => current.to_string(),
        Progress { current, total, .. } => format!("{current} of {total}"),
    };
    if progress.note.is_empty() { done } else { format!("{done}, {}", progress.note) }
}

#[cfg(test)]
mod tests {
    use taskq::Record;
    use taskq::message::Failure;

    use super::*;

    #[test]
    fn only_what_is_known_is_said() {
        let id = TaskId::parse("7").expect("it is an id");
        let mut record = Record::new(id, TaskState::Failure);
        record.attempt = 3;
        record.failure = Some(Failure::new("shop", "NoStock", "none\nleft"));
        let expected = "id        7\nstate     FAILURE\nattempt   3\nerror     NoStock: none\\nleft";
        assert_eq!(describe(&record.into()), expected);
    }

    #[test]
    fn progress_is_said_in_words() {
        let step = |current, total, note: &str| Progress::new(current, total, note);
        assert_eq!(progress(&step(3, 10, "rendering")), "3 of 10, rendering");
        assert_eq!(progress(&step(3, 0, "")), "3");
    }
}
