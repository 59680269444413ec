//! What is done to the servers, by the commands that the user gave, and to the queues.

use taskq::BoxError;
use taskq::broker::amqp::bare;
use tokio::process::Command;

use super::{Fault, Field, MOMENT_BOUND};
use crate::torture::ledger::{Fact, Whom};
use crate::torture::story::Story;

/// Restarts the broker. Everybody loses his connection.
pub(super) async fn restart_broker(field: &mut Field<'_>) -> Result<(), BoxError> {
    field.struck(Fault::RestartBroker, Whom::Everybody(field.fleet.processes()))?;
    run_hook("--restart-broker", field.options.restart_broker.as_deref()).await?;
    field.over(Fault::RestartBroker)?;
    flows_again(field).await
}

/// Restarts the result backend, which comes back empty. The broker's connections stay, so nothing may be repeated.
pub(super) async fn restart_results(field: &mut Field<'_>) -> Result<(), BoxError> {
    field.struck(Fault::RestartResults, Whom::Nobody)?;
    run_hook("--restart-results", field.options.restart_results.as_deref()).await?;
    field.ledger.note(Fact::ResultsLost)?;
    field.over(Fault::RestartResults)?;
    flows_again(field).await
}

async fn run_hook(flag: &str, command: Option<&str>) -> Result<(), BoxError> {
    let command = command.ok_or_else(|| format!("{flag} names no command"))?;
    let output = Command::new("sh").args(["-c", command]).kill_on_drop(true).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{flag} {command:?} ended with {}: {}", output.status, said.trim()).into())
}

/// Waits until tasks begin again, and notes how long that took.
async fn flows_again(field: &Field<'_>) -> Result<(), BoxError> {
    let begun = std::time::Instant::now();
    let before = field.look(Story::runs);
    let flows = field.until(MOMENT_BOUND * 2, |field| field.look(|story| (story.runs() > before).then_some(()))).await;
    match flows {
        Some(()) => field.figure("flows_again_after_ms", begun.elapsed().as_millis() as u64),
        // It may be that everything had been done.
        None if field.look(|story| story.open().is_empty()) => Ok(()),
        None => field.wrong("a minute after a restart nothing had begun to run"),
    }
}

/// Deletes the queues while nothing is in them. What is sent afterwards makes them anew, and must be consumed.
pub(super) async fn delete_queues(field: &mut Field<'_>) -> Result<(), BoxError> {
    let _at_rest = field.producer.at_rest().await;
    let over =
        field.until(field.options.patience, |field| field.look(|story| story.open().is_empty()).then_some(())).await;
    if over.is_none() {
        return Err("the queues did not become empty, so they were not deleted".into());
    }
    field.struck(Fault::DeleteQueue, Whom::Nobody)?;
    bare::delete_queues(field.client.settings().broker_url(), field.queues).await?;
    field.over(Fault::DeleteQueue)
}
