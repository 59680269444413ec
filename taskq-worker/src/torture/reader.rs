//! The reader: what the ledger, the records and the dead set show, while a run goes on and after it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use taskq::BoxError;
use taskq::backend::SharedResults;
use taskq::client::Which;
use taskq::message::Record;
use taskq::{Client, TaskId, TaskState};

use super::ledger::{Fact, Ledger, Tail};
use super::story::Story;

/// How often the ledger is read.
const READ_EVERY: Duration = Duration::from_millis(20);

/// How often records are asked for, and how many at once.
const ASK_EVERY: Duration = Duration::from_millis(250);
const ASK_AT_ONCE: usize = 500;

/// Tasks that have shown no effect are asked for in every so-manieth round only.
const ASK_ALL_EVERY: u32 = 8;

/// Follows the ledger into the story, for ever.
pub(super) async fn follow(mut tail: Tail, story: &Mutex<Story>) -> Result<(), BoxError> {
    loop {
        catch_up(&mut tail, story)?;
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// Takes what has been added to the ledger into the story.
pub(super) fn catch_up(tail: &mut Tail, story: &Mutex<Story>) -> Result<(), BoxError> {
    for line in tail.read()? {
        lock(story).take(line);
    }
    Ok(())
}

fn lock(story: &Mutex<Story>) -> std::sync::MutexGuard<'_, Story> {
    story.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes every end as soon as it can be read, for ever. While the backend is away nothing can be read, and that is
/// no concern of the reader.
pub(super) async fn note_ends(results: &SharedResults, story: &Mutex<Story>, ledger: &Ledger) -> Result<(), BoxError> {
    for round in 0_u32.. {
        let all = round.is_multiple_of(ASK_ALL_EVERY);
        let ids: Vec<TaskId> = lock(story).unended(all).filter_map(|id| TaskId::parse(id).ok()).collect();
        for some in ids.chunks(ASK_AT_ONCE) {
            let Ok(records) = results.read(some).await else { break };
            ledger.note_all(records.into_iter().flatten().filter_map(ended))?;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// The line of a record, if it is a terminal one.
fn ended(record: Record) -> Option<Fact> {
    let Record { id, state, attempt, worker, .. } = record;
    state.is_terminal().then(|| Fact::Ended { id: id.to_string(), state, attempt, worker })
}

/// Reads every record once more. One that reads otherwise than before is noted again, for the checker to judge.
pub(super) async fn read_again(results: &SharedResults, story: &Mutex<Story>, ledger: &Ledger) -> Result<(), BoxError> {
    let ids: Vec<TaskId> = lock(story).ids().filter_map(|id| TaskId::parse(id).ok()).collect();
    for some in ids.chunks(ASK_AT_ONCE) {
        for record in results.read(some).await?.into_iter().flatten() {
            // Where a task panicked for good, the place has to be with it.
            let is_hopeless = record.task.as_deref() == Some("torture.hopeless") && record.state == TaskState::Failure;
            if is_hopeless && record.traceback.is_none() {
                ledger.note(Fact::Wrong { what: format!("{}: it panicked, and nobody noted where", record.id) })?;
            }
            let before = lock(story).last_end(record.id.as_str());
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

/// Notes which messages of this run are in the dead set, and takes them out.
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
        client.dead().drop(&Which::Ids(&ids)).await?;
    }
    Ok(())
}
