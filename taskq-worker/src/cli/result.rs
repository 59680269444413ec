//! `result`: shows the result of a task.

use std::time::Duration;

use clap::Args;
use taskq::TaskId;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::{outcome, values};

/// Show the result of a task as JSON
///
/// Ends with 1 and the error on stderr if the task failed, and with 6 if it has not ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq result 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69
  taskq result 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69 --wait 30s | jq .value")]
pub(super) struct ResultCommand {
    /// The task's id
    #[arg(value_parser = values::task_id)]
    id: TaskId,
    /// Wait until it has ended, for so long [default: the setting `get_timeout`, 1h]
    #[arg(long, value_name = "TIMEOUT", value_parser = values::duration)]
    #[expect(clippy::option_option, reason = "whether the flag is there, and whether it has a value")]
    wait: Option<Option<Duration>>,
}

impl ResultCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let ended = match self.wait {
            Some(timeout) => outcome::wait(&client, &self.id, timeout.unwrap_or(client.settings().get_timeout)).await,
            None => client.handle::<serde_json::Value>(self.id.clone()).status().await.map_err(Failure::from),
        };
        client.close().await;
        let status = ended?;
        if !status.state.is_terminal() {
            let text = format!("task {} has no result yet (it is {}); --wait waits for it", status.id, status.state);
            return Err(Failure::new(Exit::TimedOut, text));
        }
        outcome::answer(session.output(), &status)
    }
}
