//! The reader: follows the ledger, the records and the dead set, during a run and after it.

use std::time::Duration;

use taskq::BoxError;
use taskq::backend::SharedResults;
use taskq::client::DeadFilter;
use taskq::message::Record;
use taskq::{Client, TaskId, TaskState};

use super::ledger::{Fact, Ledger, LedgerTail};
use super::timeline::SharedTimeline;

/// The pause between two reads of the ledger.
const READ_EVERY: Duration = Duration::from_millis(20);

/// The pause between two reads of records, and the number of records in one read.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ASK_AT_ONCE: usize = 500;

/// Records of tasks that have shown no effect are read only once in this many rounds.
const ASK_ALL_EVERY: u32 = 8;

/// Adds new lines of the ledger to the timeline, for ever.
pub(super) async fn follow(mut tail: LedgerTail, timeline: &SharedTimeline) -> Result<(), BoxError> {
    loop {
        catch_up(&mut tail, timeline)?;
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// Adds the new lines of the ledger to the timeline.
pub(super) fn catch_up(tail: &mut LedgerTail, timeline: &SharedTimeline) -> Result<(), BoxError> {
    timeline.take(tail.read()?);
    Ok(())
}

/// Notes every terminal record as soon as it can be read, for ever. While the backend is away nothing can be read,
/// which is no failure.
pub(super) async fn note_ends(
    results: &SharedResults,
    timeline: &SharedTimeline,
    ledger: &Ledger,
) -> Result<(), BoxError> {
    for round in 0_u32.. {
        let all = round.is_multiple_of(ASK_ALL_EVERY);
        let ids: Vec<TaskId> =
            timeline.look(|timeline| timeline.unended(all).filter_map(|id| TaskId::parse(id).ok()).collect());
        for some in ids.chunks(ASK_AT_ONCE) {
            let Ok(records) = results.read(some).await else { break };
            ledger.note_all(records.into_iter().flatten().filter_map(ended))?;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// Returns the fact to note of a record; `None` if it is not terminal.
fn ended(record: Record) -> Option<Fact> {
    let Record { id, state, attempt, worker, .. } = record;
    state.is_terminal().then(|| Fact::Ended { id: id.to_string(), state, attempt, worker })
}

/// Reads every record once more. A record that differs from the earlier read is noted again, for the checker to judge.
pub(super) async fn read_again(
    results: &SharedResults,
    timeline: &SharedTimeline,
    ledger: &Ledger,
) -> Result<(), BoxError> {
    let ids: Vec<TaskId> = timeline.look(|timeline| timeline.ids().filter_map(|id| TaskId::parse(id).ok()).collect());
    for some in ids.chunks(ASK_AT_ONCE) {
        for record in results.read(some).await?.into_iter().flatten() {
            // The record of a task that panicked in its last attempt must say where.
            let is_hopeless = record.task.as_deref() == Some("torture.hopeless") && record.state == TaskState::Failure;
            if is_hopeless && record.traceback.is_none() {
                ledger.note(Fact::Wrong {
                    what: format!("{}: it panicked, and its record does not say where", record.id),
                })?;
            }
            let before = timeline.look(|timeline| timeline.last_end(record.id.as_str()));
            if let Some(fact) = ended(record)
                && let Fact::Ended { state, attempt, worker, .. } = &fact
                && before.as_ref() != Some(&(state.clone(), *attempt, worker.clone()))
            {
                ledger.note(fact)?;
            }
        }
    }
    Ok(())
}

/// Notes which messages of this run are in the dead set, and removes them.
pub(super) async fn empty_dead_set(client: &Client, prefix: &str, ledger: &Ledger) -> Result<(), BoxError> {
    let entries = client.dead().list(usize::MAX).await?;
    let mine: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| Some((entry.id?, entry.letter.reason)))
        .filter(|(id, _)| id.as_str().starts_with(prefix))
        .collect();
    ledger.note_all(mine.iter().map(|(id, reason)| Fact::Dead { id: Some(id.to_string()), reason: reason.clone() }))?;
    let ids: Vec<TaskId> = mine.into_iter().map(|(id, _)| id).collect();
    if !ids.is_empty() {
        client.dead().discard(&DeadFilter::Ids(&ids)).await?;
    }
    Ok(())
}
