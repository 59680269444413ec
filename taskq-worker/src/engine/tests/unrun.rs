//! Deliveries that are not run although an earlier run of theirs has ended: expired ones, unknown ones, and second
//! copies of dead tasks. A worker may have died after it wrote the record of the end, and before what follows.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use taskq::broker::{DEAD_QUEUE, Publication};
use taskq::client::{DeadEntry, DeadFilter};
use taskq::message::{Envelope, Failure, Payload, Record};
use taskq::{TaskError, TaskState, task};

use super::*;

/// Fails the first time, and takes a while later on.
#[task(name = "unrun.fails_first", retries = 0)]
async fn fails_first(name: String) -> Result<(), TaskError> {
    if count(&name).fetch_add(1, Ordering::SeqCst) == 0 {
        return Err(TaskError::permanent("no luck"));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

/// The message of a task that has expired, or that no worker has known for an hour.
fn envelope(task: &'static str) -> Envelope {
    let payload = Payload {
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        compression: None,
        body: r#"[["-"], {}, {}]"#.into(),
    };
    let before = Some(Utc::now() - TimeDelta::hours(1));
    Envelope::new(TaskId::new(), task, payload).with(|envelope| {
        if task == fails_first::NAME {
            envelope.expires = before;
        } else {
            envelope.put_back = Some(Duration::from_secs(3600));
        }
    })
}

/// Lets a worker take the message of a task that has this record, and returns the dead set afterwards.
async fn dead_after(envelope: Envelope, state: TaskState, failure: Option<Failure>) -> Vec<DeadEntry> {
    let client = client().await;
    let record = Record::new(envelope.id.clone(), state.clone()).with(|record| record.failure = failure);
    client.results().expect("memory keeps results").write(&[record]).await.expect("memory takes it");
    let queue = client.declare("default").await.expect("memory");
    let id = envelope.id.clone();
    let message = taskq::internal::codec::encode(envelope);
    client.publish(Publication::new(Arc::clone(&queue), message)).await.expect("memory takes it");
    let fixture = SupervisedFixture::with(&client, 2, false, |worker| worker).await;
    until("it is taken", async || (client.broker().stats(&queue).await.expect("memory").ready == 0).then_some(()))
        .await;
    // A drain waits for the ends of deliveries that were not run.
    fixture.stop().await;
    assert_eq!(client.handle::<()>(id).status().await.expect("memory").state, state, "the first end stays");
    client.dead().list(10).await.expect("memory")
}

#[tokio::test]
async fn an_expired_message_of_a_failed_task_puts_it_into_the_dead_set() {
    let failure = Failure::new("shop", "NoStock", "none left");
    let dead = dead_after(envelope(fails_first::NAME), TaskState::Failure, Some(failure)).await;
    let letters: Vec<_> = dead.iter().map(|entry| (&*entry.letter.reason, &*entry.letter.error)).collect();
    assert_eq!(letters, [("failed", "none left")], "the step that the dead worker had before it");
}

#[tokio::test]
async fn an_unknown_message_of_a_task_that_succeeded_is_no_failure() {
    let dead = dead_after(envelope("unrun.unknown"), TaskState::Success, None).await;
    assert!(dead.is_empty(), "{dead:?}");
}

#[tokio::test]
async fn two_dead_letters_of_one_task_that_are_put_back_run_once() {
    let (client, name) = (client().await, TaskId::new().to_string());
    let worker = async || SupervisedFixture::with(&client, 2, false, |worker| worker.concurrency(1)).await;
    let one = worker().await;
    let handle = one.send(fails_first(name.clone())).await;
    handle.get_timeout(PATIENCE).await.expect_err("it fails the first time");
    // The record comes first.
    until("it is dead", async || client.dead().get(handle.id()).await.ok()).await;
    // A worker that dies between the dead letter and the acknowledgement leaves a second letter.
    let browse = client.broker().browse(DEAD_QUEUE, 1).await.expect("memory");
    let letter = browse.deliveries.first().expect("it is in the dead set").message.clone();
    browse.finish().await;
    client.publish(Publication::new(DEAD_QUEUE, letter)).await.expect("memory takes it");
    assert_eq!(client.dead().retry(&DeadFilter::All).await.expect("memory"), 2);
    let runs = count(&name);
    until("it runs again", async || (runs.load(Ordering::SeqCst) == 2).then_some(())).await;
    // The worker is busy with one of them, so the other one goes to another worker.
    let other = worker().await;
    let queue = client.declare("default").await.expect("memory");
    until("the other one is taken", async || {
        (client.broker().stats(&queue).await.expect("memory").ready == 0).then_some(())
    })
    .await;
    until("it has ended", async || (handle.status().await.expect("memory").state == TaskState::Success).then_some(()))
        .await;
    one.stop().await;
    other.stop().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2, "once before and once after");
}
