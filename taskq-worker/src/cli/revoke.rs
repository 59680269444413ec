//! `revoke`: keeps tasks from being run, and stops those that run.

use clap::Args;
use serde_json::json;
use taskq::TaskId;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::values;

/// Revoke tasks: those that wait are not run any more, and those that run are asked to stop
///
/// An async task ends at its next await, a plain function sees `ctx.is_cancelled()`. Their state is REVOKED from then
/// on, unless they have ended before. Workers that are away learn of it when they are back, for 30 days.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskq revoke 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69")]
pub(super) struct RevokeCommand {
    /// The ids of the tasks
    #[arg(value_parser = values::task_id, required = true)]
    ids: Vec<TaskId>,
    /// End tasks that do not listen with their process, where that is supervised; other tasks of it are finished before
    #[arg(long)]
    terminate: bool,
}

impl RevokeCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let revoked = client.revoke(self.ids.iter().cloned()).terminate(self.terminate).await;
        client.close().await;
        revoked?;
        let count = self.ids.len();
        session.output().say(&json!({ "revoked": count }), |_| format!("revoked {count}"))?;
        Ok(Exit::Ok)
    }
}
