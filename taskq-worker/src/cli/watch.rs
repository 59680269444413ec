//! `watch`: follows a task's progress until it ends.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use taskq::{Status, TaskId, TaskState};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{json, plain, text_line};
use super::session::Session;
use super::{outcome, status, values};

/// The interval at which the spinner of a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Watch a task until it ends: a progress bar on a terminal, else one line per change
///
/// Changes are pushed, not polled. Ends with 0 if the task succeeded, with 1 if it failed or was revoked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq watch 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69
  taskq watch 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69 --json --timeout 5m")]
pub(super) struct WatchCommand {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    id: TaskId,
    /// Give up after this long [default: never]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
}

impl WatchCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let mut updates = client.handle::<serde_json::Value>(self.id.clone()).watch().await?;
        let view = WatchView::new(session.json(), &self.id)?;
        let follow = async {
            while let Some(status) = updates.next().await {
                let status = status?;
                view.show(&status)?;
                if status.state.is_terminal() {
                    return Ok(status);
                }
            }
            Err(Failure::new(Exit::Unreachable, "the result backend was closed before the task ended"))
        };
        let ended = match self.timeout {
            None => follow.await,
            Some(after) => tokio::time::timeout(after, follow)
                .await
                .unwrap_or_else(|_| Err(taskq::Error::NoResultYet { id: self.id.clone(), after }.into())),
        };
        view.finish();
        client.close().await;
        let status = ended?;
        if let WatchView::Bar(_) = view {
            outcome::answer(session.output(), &status)
        } else {
            outcome::verdict(&status)
        }
    }
}

/// The form in which changes are shown.
enum WatchView {
    Bar(ProgressBar),
    Lines,
    Json,
}

impl WatchView {
    fn new(json: bool, id: &TaskId) -> Result<Self, Failure> {
        if json {
            return Ok(Self::Json);
        }
        if !io::stdout().is_terminal() {
            return Ok(Self::Lines);
        }
        let bar = ProgressBar::new_spinner().with_prefix(plain(id.as_str())).with_message("PENDING");
        bar.set_style(style("{spinner} {prefix} {wide_msg}")?);
        bar.enable_steady_tick(TICK);
        Ok(Self::Bar(bar))
    }

    fn show(&self, status: &Status) -> Result<(), Failure> {
        match self {
            Self::Json => json(status),
            Self::Lines => text_line(&describe(status)),
            Self::Bar(bar) => {
                match &status.progress {
                    Some(progress) if progress.total > 0 => {
                        if bar.length().is_none() {
                            bar.set_style(style("{spinner} {prefix} [{bar:30}] {pos}/{len} {wide_msg}")?);
                        }
                        bar.set_length(progress.total);
                        bar.set_position(progress.current.min(progress.total));
                        bar.set_message(plain(&progress.note));
                    }
                    _ => bar.set_message(describe(status)),
                }
                Ok(())
            }
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> Result<ProgressStyle, Failure> {
    ProgressStyle::with_template(template).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// Formats a change as one line: `PROGRESS 3 of 10, rendering`.
fn describe(status: &Status) -> String {
    let mut text = status.state.to_string();
    let retry = status
        .retry_at
        .map(|at| format!("attempt {} failed, the next is due {}", status.attempt, super::output::time(at)));
    let failure = status.failure.as_ref().map(ToString::to_string);
    let value =
        (status.state == TaskState::Success).then(|| status.value.as_deref().map(|value| value.get().to_owned()));
    let details = [status.progress.as_ref().map(status::progress), retry, failure, value.flatten()];
    for (index, detail) in details.into_iter().flatten().enumerate() {
        text.push_str(if index == 0 { " " } else { ": " });
        text.push_str(&detail);
    }
    plain(&text)
}

#[cfg(test)]
mod tests {
    use taskq::Record;
    use taskq::message::Failure;

    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let id = TaskId::parse("7").expect("it is an id");
        let mut record = Record::new(id.clone(), TaskState::Success);
        record.value = Some(serde_json::value::to_raw_value(&5).expect("a number is JSON"));
        assert_eq!(describe(&record.into()), "SUCCESS 5");
        let mut record = Record::new(id, TaskState::Retry);
        record.failure = Some(Failure::new("shop", "NoStock", "none\nleft"));
        assert_eq!(describe(&record.into()), "RETRY NoStock: none\\nleft");
    }
}
