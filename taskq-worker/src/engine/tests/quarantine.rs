//! Suspects: quarantined, run alone, dead; and tasks that are none.

use futures_util::StreamExt;
use taskq::broker::{BrokerError, Publication};
use taskq::message::{Envelope, Payload};
use taskq::{Error, TaskState, task};

use super::super::quarantine::losses;
use super::*;
use crate::recorder::flight::{Death, Loss, Recording};

const ALONE: &str = "default.quarantine";

#[task(retries = 1, backoff = "1ms..2ms")]
async fn suspect(name: String, failures: u32) -> Result<u32, String> {
    let begun = count(&name).fetch_add(1, Ordering::SeqCst);
    let gate = Gate::state(&name);
    while !gate.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if begun < failures { Err("not yet".to_owned()) } else { Ok(begun) }
}

/// The death of process `pid` while it ran this task.
fn loss(pid: u32, id: &TaskId, alone: bool) -> Loss {
    let flight = Flight {
        id: id.to_string(),
        task: suspect::NAME.into(),
        generation: 0,
        attempt: 0,
        in_quarantine: alone,
        since_ms: 1000,
        culprit: false,
    };
    Loss {
        recording: Recording { pid, began_ms: 7, flights: vec![flight] },
        death: Death { code: None, signal: Some(11), host: "web-1".into(), at_ms: 4200 },
    }
}

async fn report(client: &Client, loss: &Loss) {
    losses::report(client, loss).await.expect("memory does not fail");
}

/// A task that a worker took `times` times, and that came back.
async fn came_back<T>(client: &Client, call: Call<T>, times: u32) -> Handle<T> {
    let handle = call.send(client).await.expect("memory takes it");
    let queue = client.declare("default").await.expect("memory");
    for _ in 0..times {
        // Those before it come back as well.
        let mut consumption = client.broker().consume(std::slice::from_ref(&queue), 100).await.expect("memory");
        while let Some(delivery) = consumption.deliveries.next().await {
            if delivery.message.headers.text("id") == Some(handle.id().as_str()) {
                break;
            }
        }
        consumption.control.close().await;
    }
    handle
}

/// How many messages wait in a queue, which need not be there yet.
async fn ready(client: &Client, queue: &str) -> u64 {
    match client.broker().stats(queue).await {
        Ok(stats) => stats.ready,
        Err(BrokerError::NoQueue { .. }) => 0,
        Err(other) => panic!("memory does not fail: {other}"),
    }
}

async fn normal(client: &Client) -> SupervisedFixture {
    SupervisedFixture::with(client, 2, false, |worker| worker).await
}

async fn alone(client: &Client) -> SupervisedFixture {
    SupervisedFixture::with(client, 2, true, |worker| worker.queues([ALONE])).await
}

fn wanted() -> WorkerEvent {
    WorkerEvent::QuarantineWanted { queues: vec![ALONE.into()] }
}

#[tokio::test]
async fn a_suspect_runs_alone_and_an_innocent_one_ends_well() {
    let (client, gate) = (client().await, Gate::new());
    let handle = came_back(&client, suspect(gate.0.clone(), 1), 1).await;
    report(&client, &loss(1, handle.id(), false)).await;
    report(&client, &loss(1, handle.id(), false)).await;
    report(&client, &loss(2, handle.id(), false)).await;
    let mut first = normal(&client).await;
    assert_eq!(first.event().await, wanted());
    until("it waits to run alone", async || (ready(&client, ALONE).await == 1).then_some(())).await;
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 0, "nobody ran it among others");

    let mut lone = alone(&client).await;
    let flight = until("it runs alone", async || lone.file.flights().pop()).await;
    assert!(flight.in_quarantine && flight.id == handle.id().as_str());
    // It fails once, and what follows goes home, from where it goes to quarantine again.
    gate.open();
    assert_eq!(first.event().await, wanted());
    assert_eq!(handle.get_timeout(PATIENCE).await.expect("its second attempt works"), 1);
    // Nothing is left to do, so it ends by itself.
    let summary = lone.ended().await;
    assert_eq!((summary.succeeded, summary.retried), (1, 1));
    assert_eq!(first.stop().await.succeeded, 0);
    assert_eq!(ready(&client, "default").await, 0);
}

#[tokio::test]
async fn lost_while_alone_it_is_dead_and_may_be_raised_again() {
    let (client, gate) = (client().await, Gate::new());
    gate.open();
    let handle = came_back(&client, suspect(gate.0.clone(), 0), 1).await;
    for pid in [1, 2] {
        report(&client, &loss(pid, handle.id(), false)).await;
    }
    let mut first = normal(&client).await;
    assert_eq!(first.event().await, wanted());
    until("it waits to run alone", async || (ready(&client, ALONE).await == 1).then_some(())).await;
    report(&client, &loss(3, handle.id(), true)).await;

    let mut lone = alone(&client).await;
    let Err(Error::Failed { failure, .. }) = handle.get_timeout(PATIENCE).await else { panic!("it is not run again") };
    assert_eq!(
        (failure.exc_type.as_str(), failure.exc_module.as_deref()),
        ("WorkerLostError", Some("billiard.exceptions"))
    );
    assert_eq!(
        failure.message(),
        "Worker exited prematurely: signal 11 (SIGSEGV) on web-1, 3.2 s after it began; it was the only task there; \
         3 processes were lost with it"
    );
    let entry = until("it is in the dead set", async || client.dead().get(handle.id()).await.ok()).await;
    assert_eq!((entry.letter.reason.as_str(), entry.letter.queue.as_str()), ("worker-lost", "default"));
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 0);
    assert_eq!(lone.ended().await.failed, 1);

    // Another generation has no past.
    client.dead().retry(&taskq::client::DeadFilter::Ids(std::slice::from_ref(handle.id()))).await.expect("it is there");
    let read = async || handle.status().await.ok().filter(|status| status.state == TaskState::Success).map(drop);
    until("it has run", read).await;
    first.stop().await;
}

#[tokio::test]
async fn whoever_was_not_in_the_air_is_never_charged() {
    let (client, gate) = (client().await, Gate::new());
    gate.open();
    let poison = TaskId::new();
    let bystander = came_back(&client, suspect(gate.0.clone(), 0), 6).await;
    for pid in 1..=6 {
        report(&client, &loss(pid, &poison, false)).await;
    }
    let mut bench = normal(&client).await;
    assert_eq!(bystander.get_timeout(PATIENCE).await.expect("it runs like any other"), 0);
    assert!(bench.events.try_recv().is_err());
    bench.stop().await;
}

#[tokio::test]
async fn one_loss_is_no_reason() {
    let (client, gate) = (client().await, Gate::new());
    gate.open();
    let handle = came_back(&client, suspect(gate.0.clone(), 0), 1).await;
    report(&client, &loss(1, handle.id(), false)).await;
    let bench = normal(&client).await;
    assert_eq!(handle.get_timeout(PATIENCE).await.expect("it runs like any other"), 0);
    bench.stop().await;
}

#[tokio::test]
async fn the_lease_of_a_dead_process_ends_with_it() {
    let (client, gate) = (client().await, Gate::new());
    let handle = came_back(&client, suspect(gate.0.clone(), 0), 1).await;
    let mut dying = normal(&client).await;
    until("it runs, under a claim", async || dying.file.flights().pop()).await;
    // As if it died: nobody renews, nothing is given up, and the message comes back.
    let recording = recorder::read(&dying.file.0).expect("a recording");
    dying.runtime.take().expect("it runs").shutdown_background();
    let host = taskq::internal::host_name();
    let death = Death { code: None, signal: Some(9), host, at_ms: recording.began_ms + 5 };
    report(&client, &Loss { recording, death }).await;
    client.broker().publish(taken_over(&client, &handle, &gate).await).await.expect("memory takes it");
    gate.open();
    let heir = normal(&client).await;
    handle.get_timeout(Duration::from_secs(20)).await.expect("nobody waits for the lease to run out");
    heir.stop().await;
}

/// The message of a suspect as the next worker would be given it.
async fn taken_over<T>(client: &Client, handle: &Handle<T>, gate: &Gate) -> Publication {
    let payload = Payload {
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        compression: None,
        body: format!(r#"[["{}", 0], {{}}, {{}}]"#, gate.0).into(),
    };
    let envelope = Envelope::new(handle.id().clone(), suspect::NAME, payload).with(|copy| copy.moved = true);
    let queue = client.declare("default").await.expect("memory");
    Publication::new(queue, taskq::internal::codec::encode(envelope))
}

#[tokio::test]
async fn without_a_supervisor_a_suspect_runs_where_it_is_and_a_dead_one_does_not() {
    let (client, gate) = (client().await, Gate::new());
    gate.open();
    let suspected = came_back(&client, suspect(gate.0.clone(), 0), 1).await;
    for pid in [1, 2] {
        report(&client, &loss(pid, suspected.id(), false)).await;
    }
    let dead = came_back(&client, suspect(gate.0.clone(), 0), 2).await;
    report(&client, &loss(3, dead.id(), true)).await;
    let worker = Worker::builder(client.clone()).concurrency(2).build().await.expect("memory");
    let (control, worker) = (worker.control(), tokio::spawn(worker.run()));
    suspected.get_timeout(PATIENCE).await.expect("somebody has to run it");
    dead.get_timeout(PATIENCE).await.expect_err("it is proven");
    control.drain();
    worker.await.expect("it does not panic").expect("it drains");
}

#[tokio::test]
async fn without_a_kv_store_returns_are_counted() {
    let url = format!("memory:{}", TaskId::new());
    let builder = Client::builder().broker(&url).results("none");
    let (client, gate) = (builder.build().await.expect("memory"), Gate::new());
    gate.open();
    came_back(&client, suspect(gate.0.clone(), 0), 2).await;
    let mut first = normal(&client).await;
    until("two returns prove nothing", async || (count(&gate.0).load(Ordering::SeqCst) == 1).then_some(())).await;
    first.control.drain();
    first.ended().await;

    came_back(&client, suspect(gate.0.clone(), 0), 3).await;
    let mut second = normal(&client).await;
    assert_eq!(second.event().await, wanted());
    until("it waits to run alone", async || (ready(&client, ALONE).await == 1).then_some(())).await;
    let mut lone = alone(&client).await;
    assert_eq!(lone.ended().await.succeeded, 1);
    second.stop().await;
}

#[tokio::test]
async fn returns_from_before_the_message_was_copied_count() {
    let url = format!("memory:{}", TaskId::new());
    let builder = Client::builder().broker(&url).results("none");
    let (client, gate) = (builder.build().await.expect("memory"), Gate::new());
    gate.open();
    let mut bench = normal(&client).await;
    for (returns, begun) in [(2, 1), (3, 1)] {
        let id = TaskId::new();
        let Publication { queue, message, delay, .. } = taken_over(&client, &client.handle::<u32>(id), &gate).await;
        let envelope = taskq::internal::codec::decode(&message).expect("it is a task's");
        let envelope = envelope.with(|envelope| envelope.returns = returns);
        let publication = Publication::new(queue, taskq::internal::codec::encode(envelope)).delayed(delay);
        client.publish(publication).await.expect("memory takes it");
        until("it runs", async || (count(&gate.0).load(Ordering::SeqCst) == begun).then_some(())).await;
    }
    assert_eq!(bench.event().await, wanted());
    until("it waits to run alone", async || (ready(&client, ALONE).await == 1).then_some(())).await;
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 1, "the one with three returns does not run here");
    bench.stop().await;
}

#[tokio::test]
async fn an_interrupted_suspect_waits_to_run_alone_again_and_nothing_is_counted_against_it() {
    let (client, gate) = (client().await, Gate::new());
    let handle = suspect(gate.0.clone(), 0).queue(ALONE).send(&client).await.expect("memory takes it");
    for interrupted in 1..=6 {
        let mut lone =
            SupervisedFixture::with(&client, 2, true, |worker| worker.queues([ALONE]).grace(Duration::ZERO)).await;
        until("it runs", async || (count(&gate.0).load(Ordering::SeqCst) == interrupted).then_some(())).await;
        lone.control.drain();
        assert_eq!(lone.ended().await.interrupted, 1);
        assert_eq!(ready(&client, ALONE).await, 1);
    }
    gate.open();
    let mut lone = alone(&client).await;
    handle.get_timeout(PATIENCE).await.expect("it was only interrupted");
    assert_eq!(lone.ended().await.succeeded, 1);
}

#[tokio::test]
async fn what_waits_to_run_alone_is_found_by_whoever_starts() {
    let (client, gate) = (client().await, Gate::new());
    gate.open();
    let handle = suspect(gate.0.clone(), 0).queue(ALONE).send(&client).await.expect("memory takes it");
    let mut bench = normal(&client).await;
    assert_eq!(bench.event().await, wanted());
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 0, "it is not for this one to run it");
    let mut lone = alone(&client).await;
    assert_eq!(lone.ended().await.succeeded, 1);
    handle.get_timeout(PATIENCE).await.expect("it has run");
    bench.stop().await;
}
