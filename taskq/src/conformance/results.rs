//! The promises of every result backend, one function per promise.
//!
//! Each function works on tasks of its own, so all may run on one store. A broken promise is a panic that names it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;

use super::{PATIENCE, keep};
use crate::backend::{BackendError, Changes, ResultBackendExt, SharedResults, Written};
use crate::message::{Failure, Progress, Record, TaskId, TaskState};

/// The time for which a check waits for an event that must not happen.
const CALM: Duration = Duration::from_millis(300);

/// The check of one promise.
pub type ResultsPromise = fn(SharedResults) -> BoxFuture<'static, ()>;

/// Returns the checks of all promises, by name.
pub fn promises() -> Vec<(&'static str, ResultsPromise)> {
    macro_rules! list {
        ($($name:ident),* $(,)?) => {
            vec![$((stringify!($name), (|results| $name(results).boxed()) as ResultsPromise)),*]
        };
    }
    list![
        records_survive_unchanged,
        nothing_is_nothing,
        reading_keeps_the_order,
        terminal_replaces_progress,
        nothing_replaces_a_terminal_record,
        a_lower_generation_replaces_nothing,
        a_higher_generation_replaces_all,
        one_of_many_writers_wins,
        a_batch_is_answered_in_order,
        a_large_batch_is_written,
        changes_come_in_order,
        kept_records_are_not_changes,
        a_subscription_misses_nothing,
        a_watch_ends_with_the_terminal_record,
        a_late_watch_gets_what_is_stored,
        many_watch_one_task,
        one_waits_for_many_tasks,
        a_dropped_watch_disturbs_nobody,
        a_slow_watcher_gets_the_terminal_record,
        forgotten_is_gone,
        waiting_for_nothing_ends,
        info_names_the_product,
    ]
}

/// Checks every promise, each on a backend that `make` returns, one after the other.
pub async fn run_all<F>(make: impl Fn() -> F)
where
    F: Future<Output = SharedResults>,
{
    for (name, promise) in promises() {
        keep(name, promise(make().await)).await;
    }
}

/// A written record is read back, every field of it.
pub async fn records_survive_unchanged(results: SharedResults) {
    let moment = Utc.timestamp_opt(1_795_226_686, 123_456_000).single();
    let common = Record {
        finished_at: moment,
        started_at: moment,
        retry_at: moment,
        attempt: 3,
        generation: 2,
        task: Some("my_crate.add".to_owned()),
        worker: Some("w1@host".to_owned()),
        parent_id: Some(TaskId::new()),
        group_id: Some("a \"group\" \u{1f600}".to_owned()),
        ..fresh(TaskState::Success)
    };
    let failure = Failure {
        exc_type: "ValueError".to_owned(),
        exc_message: vec![json!("boom"), json!({"code": 42}), json!(null)],
        exc_module: Some("builtins".to_owned()),
    };
    let value = json!({"text": "\u{0}é\u{1f600}", "numbers": [1, -2.5, u64::MAX], "nothing": null});
    // No store looks into a value, so a number is what it was, to the last digit.
    let numbers = "[1267650600228229401496703205376, 985.6906946328695, 0.10, -0.0, 5e-324]".to_owned();
    for record in [
        Record { value: to_raw_value(&value).ok(), ..common.clone() },
        Record { id: TaskId::new(), value: RawValue::from_string(numbers).ok(), ..common.clone() },
        Record { id: TaskId::new(), state: TaskState::Failure, failure: Some(failure), ..common.clone() },
        with_progress(&TaskId::new(), 3),
        fresh(TaskState::Custom("UPLOADING".into())),
        // Ids are any text.
        Record { id: TaskId::parse("a b*c/?[d]\\é\u{1f600}").expect("it is short"), ..common },
    ] {
        forget(&results, &record.id).await;
        assert_eq!(write(&results, &record).await, Written::Stored);
        let read = read(&results, &record.id).await.expect("it was written");
        let mut expected = record.clone();
        if expected.state == TaskState::Success && expected.value.is_none() {
            // A success without a value and one with `null` are the same.
            expected.value = read.value.clone();
        }
        assert_eq!(format!("{read:?}"), format!("{expected:?}"));
        forget(&results, &record.id).await;
    }
}

/// A task without a write has no record.
pub async fn nothing_is_nothing(results: SharedResults) {
    assert!(read(&results, &TaskId::new()).await.is_none());
    assert!(results.read(&[]).await.expect("nothing was asked").is_empty());
    assert!(results.write(&[]).await.expect("nothing was asked").is_empty());
    results.forget(&[]).await.expect("nothing was asked");
}

/// Many records are read at once, in the order of the ids, also if an id is given twice.
pub async fn reading_keeps_the_order(results: SharedResults) {
    let records: Vec<Record> = (0..1000).map(|number| numbered(&TaskId::new(), TaskState::Success, number)).collect();
    results.write(&records).await.expect("the backend works");
    let mut ids: Vec<TaskId> = records.iter().map(|record| record.id.clone()).rev().collect();
    ids[500] = TaskId::new();
    ids[501] = ids[0].clone();
    let read = results.read(&ids).await.expect("the backend works");
    let numbers: Vec<Option<String>> = read.iter().map(|record| record.as_ref().map(number)).collect();
    let mut expected: Vec<Option<String>> = (0..1000).rev().map(|number| Some(number.to_string())).collect();
    expected[500] = None;
    expected[501] = expected[0].clone();
    assert_eq!(numbers, expected);
}

/// States that are not terminal follow one another, and a terminal one follows them.
pub async fn terminal_replaces_progress(results: SharedResults) {
    let id = TaskId::new();
    for state in [TaskState::Started, TaskState::Progress, TaskState::Retry, TaskState::Started, TaskState::Revoked] {
        assert_eq!(write(&results, &Record::new(id.clone(), state.clone())).await, Written::Stored);
        assert_eq!(read(&results, &id).await.expect("it was written").state, state);
    }
}

/// A record that comes after a terminal record of the same generation is not stored.
pub async fn nothing_replaces_a_terminal_record(results: SharedResults) {
    for terminal in [TaskState::Success, TaskState::Failure, TaskState::Revoked] {
        for generation in [0, 7] {
            let first = Record { generation, ..fresh(terminal.clone()) };
            assert_eq!(write(&results, &first).await, Written::Stored);
            for later in [
                TaskState::Started,
                TaskState::Progress,
                TaskState::Retry,
                TaskState::Success,
                TaskState::Failure,
                TaskState::Revoked,
            ] {
                let later = Record { generation, ..Record::new(first.id.clone(), later) };
                assert_eq!(write(&results, &later).await, Written::Kept, "{} after {terminal}", later.state);
            }
            assert_eq!(read(&results, &first.id).await.expect("it was written").state, terminal);
        }
    }
}

/// A record of an earlier generation is not stored, terminal or not, whatever is there.
pub async fn a_lower_generation_replaces_nothing(results: SharedResults) {
    for there in [TaskState::Progress, TaskState::Success] {
        let record = Record { generation: 10, ..fresh(there.clone()) };
        assert_eq!(write(&results, &record).await, Written::Stored);
        for (state, generation) in [(TaskState::Success, 0), (TaskState::Progress, 0), (TaskState::Success, 9)] {
            let zombie = Record { generation, ..Record::new(record.id.clone(), state) };
            assert_eq!(write(&results, &zombie).await, Written::Kept, "{generation} after 10");
        }
        assert_eq!(read(&results, &record.id).await.expect("it was written").generation, 10);
    }
}

/// A record of a later generation is stored, terminal or not, whatever is there.
pub async fn a_higher_generation_replaces_all(results: SharedResults) {
    let id = TaskId::new();
    let steps = [
        (TaskState::Failure, 0),
        (TaskState::Started, 1),
        (TaskState::Failure, 1),
        (TaskState::Failure, 9),
        (TaskState::Success, 10),
    ];
    for (state, generation) in steps {
        let record = Record { generation, ..Record::new(id.clone(), state.clone()) };
        assert_eq!(write(&results, &record).await, Written::Stored, "{state} of generation {generation}");
        let read = read(&results, &id).await.expect("it was written");
        assert_eq!((read.state, read.generation), (state, generation));
    }
}

/// Of many writers that end a task at once, exactly one is told that its record was stored, and it was.
pub async fn one_of_many_writers_wins(results: SharedResults) {
    for _ in 0..20 {
        let id = TaskId::new();
        let writers = (0..16_u32).map(|number| {
            let (results, id) = (Arc::clone(&results), id.clone());
            // Tasks of the runtime, so that they race for real on one with several threads.
            tokio::spawn(async move { write(&results, &numbered(&id, TaskState::Success, number)).await })
        });
        let written: Vec<Written> =
            join_all(writers).await.into_iter().map(|writer| writer.expect("no writer panics")).collect();
        let winners: Vec<usize> = (0..written.len()).filter(|&at| written[at] == Written::Stored).collect();
        assert_eq!(winners.len(), 1, "{written:?}");
        let stored = read(&results, &id).await.expect("one was written");
        assert_eq!(number(&stored), winners[0].to_string());
    }
}

/// The answers stand in the order of the records, and records of one task are written in their order.
pub async fn a_batch_is_answered_in_order(results: SharedResults) {
    let (one, other) = (TaskId::new(), TaskId::new());
    let batch = [
        with_progress(&one, 1),
        numbered(&other, TaskState::Success, 1),
        numbered(&one, TaskState::Success, 2),
        numbered(&other, TaskState::Success, 3),
        with_progress(&one, 4),
        Record { generation: 1, ..numbered(&other, TaskState::Success, 5) },
    ];
    use Written::{Kept, Stored};
    let written = results.write(&batch).await.expect("the backend works");
    assert_eq!(written, [Stored, Stored, Stored, Kept, Kept, Stored]);
    assert_eq!(number(&read(&results, &one).await.expect("it was written")), "2");
    assert_eq!(number(&read(&results, &other).await.expect("it was written")), "5");
}

/// A batch may hold thousands of records, and records of megabytes.
pub async fn a_large_batch_is_written(results: SharedResults) {
    let mut batch: Vec<Record> = (0..5000).map(|number| numbered(&TaskId::new(), TaskState::Success, number)).collect();
    let text = "x".repeat(2 << 20);
    batch.push(Record { value: to_raw_value(&text).ok(), ..fresh(TaskState::Success) });
    let written = results.write(&batch).await.expect("the backend works");
    assert_eq!(written.len(), batch.len());
    assert!(written.iter().all(|written| *written == Written::Stored));
    let last = read(&results, &batch[5000].id).await.expect("it was written");
    assert_eq!(last.value.expect("it has a value").get().len(), text.len() + 2);
    let ids: Vec<TaskId> = batch.into_iter().map(|record| record.id).collect();
    results.forget(&ids).await.expect("the backend works");
}

/// Every change that is stored after the subscription arrives, in the order of writing; earlier ones do not.
pub async fn changes_come_in_order(results: SharedResults) {
    let id = TaskId::new();
    write(&results, &with_progress(&id, 0)).await;
    let mut changes = results.changes(&id).await.expect("the backend works");
    for current in 1..5 {
        write(&results, &with_progress(&id, current)).await;
    }
    write(&results, &Record::new(id, TaskState::Success)).await;
    for current in 1..5 {
        assert_eq!(next(&mut changes).await.progress().expect("it is progress").current, current);
    }
    assert_eq!(next(&mut changes).await.state, TaskState::Success);
}

/// A record that was not stored is not sent to watchers.
pub async fn kept_records_are_not_changes(results: SharedResults) {
    let id = TaskId::new();
    write(&results, &numbered(&id, TaskState::Success, 1)).await;
    let mut changes = results.changes(&id).await.expect("the backend works");
    assert_eq!(write(&results, &numbered(&id, TaskState::Success, 2)).await, Written::Kept);
    let quiet = timeout(CALM, changes.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert_eq!(
        write(&results, &Record { generation: 1, ..numbered(&id, TaskState::Success, 3) }).await,
        Written::Stored
    );
    assert_eq!(number(&next(&mut changes).await), "3");
}

/// Subscribing and then reading misses nothing, whenever the record is written.
pub async fn a_subscription_misses_nothing(results: SharedResults) {
    for round in 0..200_u32 {
        let id = TaskId::new();
        let writer = {
            let (results, id) = (Arc::clone(&results), id.clone());
            tokio::spawn(async move {
                // Earlier in some rounds and later in others.
                for _ in 0..round % 20 {
                    tokio::task::yield_now().await;
                }
                write(&results, &numbered(&id, TaskState::Success, round)).await
            })
        };
        let record = results.wait(&id, PATIENCE).await.expect("the backend works");
        assert_eq!(number(&record.expect("it is written")), round.to_string());
        assert_eq!(writer.await.expect("the writer does not panic"), Written::Stored);
    }
}

/// A watch yields the stored record, then changes, then the terminal record, and ends.
pub async fn a_watch_ends_with_the_terminal_record(results: SharedResults) {
    let id = TaskId::new();
    write(&results, &with_progress(&id, 1)).await;
    let mut watch = results.watch(&id).await.expect("the backend works");
    assert_eq!(next(&mut watch).await.progress().expect("it is progress").current, 1);
    write(&results, &with_progress(&id, 2)).await;
    assert_eq!(next(&mut watch).await.progress().expect("it is progress").current, 2);
    write(&results, &Record::new(id, TaskState::Failure)).await;
    assert_eq!(next(&mut watch).await.state, TaskState::Failure);
    let end = timeout(PATIENCE, watch.next()).await.expect("a watch ends after a terminal record");
    assert!(end.is_none(), "{end:?}");
}

/// A watcher that comes after the end gets the terminal record at once.
pub async fn a_late_watch_gets_what_is_stored(results: SharedResults) {
    let record = numbered(&TaskId::new(), TaskState::Success, 5);
    write(&results, &record).await;
    let waited = results.wait(&record.id, PATIENCE).await.expect("the backend works");
    assert_eq!(number(&waited.expect("it is there")), "5");
}

/// Many may watch one task, and all get its end.
pub async fn many_watch_one_task(results: SharedResults) {
    let id = TaskId::new();
    let watches = join_all((0..50).map(|_| results.watch(&id))).await;
    write(&results, &numbered(&id, TaskState::Success, 1)).await;
    for watch in watches {
        assert_eq!(number(&next(&mut watch.expect("the backend works")).await), "1");
    }
}

/// One process may wait for a thousand tasks at once.
pub async fn one_waits_for_many_tasks(results: SharedResults) {
    let ids: Vec<TaskId> = (0..1000).map(|_| TaskId::new()).collect();
    let mut watches = Vec::new();
    for watch in join_all(ids.iter().map(|id| results.watch(id))).await {
        watches.push(watch.expect("the backend works"));
    }
    let records: Vec<Record> = (0..).zip(&ids).map(|(number, id)| numbered(id, TaskState::Success, number)).collect();
    results.write(&records).await.expect("the backend works");
    for (watch, record) in watches.iter_mut().zip(&records) {
        assert_eq!(number(&next(watch).await), number(record));
    }
}

/// Watchers that come and go do not disturb the streams of others.
pub async fn a_dropped_watch_disturbs_nobody(results: SharedResults) {
    let id = TaskId::new();
    let mut staying = results.changes(&id).await.expect("the backend works");
    for current in 0..10 {
        let going = results.changes(&id).await.expect("the backend works");
        drop(going);
        write(&results, &with_progress(&id, current)).await;
        assert_eq!(next(&mut staying).await.progress().expect("it is progress").current, current);
    }
    drop(staying);
    // The last watcher has gone; a new one is served again.
    let mut returning = results.changes(&id).await.expect("the backend works");
    write(&results, &Record::new(id, TaskState::Success)).await;
    assert_eq!(next(&mut returning).await.state, TaskState::Success);
}

/// A slow reader may miss progress, and never the end.
pub async fn a_slow_watcher_gets_the_terminal_record(results: SharedResults) {
    let id = TaskId::new();
    let mut changes = results.changes(&id).await.expect("the backend works");
    let batch: Vec<Record> = (0..2000).map(|current| with_progress(&id, current)).collect();
    results.write(&batch).await.expect("the backend works");
    write(&results, &numbered(&id, TaskState::Success, 1)).await;
    while !next(&mut changes).await.state.is_terminal() {}
}

/// A forgotten result is as if it had never been.
pub async fn forgotten_is_gone(results: SharedResults) {
    let (one, other) = (TaskId::new(), TaskId::new());
    let batch = [Record::new(one.clone(), TaskState::Success), Record::new(other.clone(), TaskState::Success)];
    results.write(&batch).await.expect("the backend works");
    results.forget(&[one.clone(), TaskId::new()]).await.expect("the backend works");
    assert!(read(&results, &one).await.is_none());
    assert!(read(&results, &other).await.is_some());
    assert_eq!(write(&results, &Record::new(one, TaskState::Started)).await, Written::Stored);
}

/// Waiting for an unknown task ends when the time is over.
pub async fn waiting_for_nothing_ends(results: SharedResults) {
    let waited = results.wait(&TaskId::new(), CALM).await.expect("the backend works");
    assert!(waited.is_none(), "{waited:?}");
}

/// The first line of the information is the product with its version.
pub async fn info_names_the_product(results: SharedResults) {
    let lines = results.info().await.expect("the backend works");
    let product = lines.first().expect("there is a line");
    assert!(product.contains(' ') && product.contains(|character: char| character.is_ascii_digit()), "{product:?}");
}

fn fresh(state: TaskState) -> Record {
    Record::new(TaskId::new(), state)
}

fn numbered(id: &TaskId, state: TaskState, number: u32) -> Record {
    Record { value: to_raw_value(&number).ok(), ..Record::new(id.clone(), state) }
}

fn number(record: &Record) -> String {
    record.value.as_ref().map(|value| value.get().to_owned()).unwrap_or_default()
}

fn with_progress(id: &TaskId, current: u64) -> Record {
    let progress = Progress { current, total: 0, note: "at work".to_owned() };
    Record { value: to_raw_value(&progress).ok(), ..Record::new(id.clone(), TaskState::Progress) }
}

async fn write(results: &SharedResults, record: &Record) -> Written {
    let written: Result<Vec<Written>, BackendError> = results.write(std::slice::from_ref(record)).await;
    let written = written.expect("the backend works");
    assert_eq!(written.len(), 1, "one record has one answer");
    written[0].clone()
}

async fn read(results: &SharedResults, id: &TaskId) -> Option<Record> {
    results.read_one(id).await.expect("the backend works")
}

async fn forget(results: &SharedResults, id: &TaskId) {
    results.forget(std::slice::from_ref(id)).await.expect("the backend works");
}

async fn next(changes: &mut Changes) -> Record {
    let change = timeout(PATIENCE, changes.next()).await.expect("a change comes in time");
    change.expect("the stream goes on").expect("our own records can be read")
}
