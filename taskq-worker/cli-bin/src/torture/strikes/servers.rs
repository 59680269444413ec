//! Faults of the servers, caused by the user's commands, and of the queues.

use taskq::BoxError;
use taskq::internal::bare;
use tokio::process::Command;
use tokio::time::Instant;

use super::StrikeContext;
use super::context::MOMENT_BOUND;
use crate::torture::catalog::Fault;
use crate::torture::ledger::{Affected, Fact};
use crate::torture::timeline::Timeline;

/// Restarts the broker. The workers and the sender lose their connections.
pub(super) async fn restart_broker(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::RestartBroker, Affected::Everybody(context.fleet.processes()))?;
    run_hook("--restart-broker", context.options.restart_broker.as_deref(), context.queues).await?;
    context.over(Fault::RestartBroker)?;
    flows_again(context).await
}

/// Takes a node of the broker's cluster away, and brings it back. Connections to other nodes may live on, but nobody
/// knows whose were lost.
pub(super) async fn fail_node(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::FailNode, Affected::Everybody(context.fleet.processes()))?;
    run_hook("--fail-node", context.options.fail_node.as_deref(), context.queues).await?;
    context.over(Fault::FailNode)?;
    flows_again(context).await
}

/// Restarts the result backend, which comes back empty. The broker's connections stay, so nothing may be repeated.
pub(super) async fn restart_results(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::RestartResults, Affected::Nobody)?;
    run_hook("--restart-results", context.options.restart_results.as_deref(), context.queues).await?;
    context.ledger.note(Fact::ResultsLost)?;
    context.over(Fault::RestartResults)?;
    flows_again(context).await
}

/// The variable that tells a command one of the queues of the run.
const QUEUE_VARIABLE: &str = "TORTURE_QUEUE";

async fn run_hook(flag: &str, command: Option<&str>, queues: &[String]) -> Result<(), BoxError> {
    let command = command.ok_or_else(|| format!("{flag} names no command"))?;
    let queue = queues.first().map_or("", String::as_str);
    let output =
        Command::new("sh").args(["-c", command]).env(QUEUE_VARIABLE, queue).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{flag} {command:?} ended with {}: {}", output.status, said.trim()).into())
}

/// Waits until tasks begin again, and notes how long that took.
async fn flows_again(context: &StrikeContext<'_>) -> Result<(), BoxError> {
    let begun = Instant::now();
    let before = context.look(Timeline::runs);
    let flows = context
        .until(MOMENT_BOUND * 2, |context| context.look(|timeline| (timeline.runs() > before).then_some(())))
        .await;
    match flows {
        Some(()) => context.figure("flows_again_after_ms", begun.elapsed().as_millis() as u64),
        // Perhaps everything had been done.
        None if context.look(|timeline| timeline.open().is_empty()) => Ok(()),
        None => context.wrong("a minute after a restart nothing had begun to run"),
    }
}

/// Deletes the queues while they are empty. The next sends declare them again, and their messages must be consumed.
pub(super) async fn delete_queues(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let _at_rest = context.producer.at_rest().await;
    let over = context
        .until(context.options.patience, |context| context.look(|timeline| timeline.open().is_empty()).then_some(()))
        .await;
    if over.is_none() {
        return Err("the queues did not become empty, so they were not deleted".into());
    }
    context.struck(Fault::DeleteQueue, Affected::Nobody)?;
    bare::delete_queues(context.client.settings().broker_url(), context.queues).await?;
    context.over(Fault::DeleteQueue)
}
