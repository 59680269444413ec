//! Limits bind, whatever the body does.

use std::fmt::Write as _;

use taskq::{Error, TaskState, task};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// Never awaits until its gate is open.
#[task(retries = 0)]
async fn spins(gate: String) {
    count(&gate).fetch_add(1, Ordering::SeqCst);
    Gate::block_at(&gate);
}

#[task(retries = 0)]
fn blocks(gate: String) {
    count(&gate).fetch_add(1, Ordering::SeqCst);
    Gate::block_at(&gate);
}

#[task]
async fn neighbour(n: u32) -> u32 {
    tokio::time::sleep(Duration::from_millis(5)).await;
    n
}

#[task(retries = 0)]
fn takes(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Waits for the failure of a task that is past its limit.
async fn expect_time_limit(handle: &Handle<()>) {
    let Err(Error::Failed { failure, .. }) = handle.get_timeout(PATIENCE).await else { panic!("it is past its limit") };
    assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), ("TimeLimitExceeded", "0.2"));
}

async fn is_dead(client: &Client, id: &TaskId) -> bool {
    client.dead().get(id).await.is_ok()
}

#[tokio::test]
async fn a_plain_function_past_its_limit_is_over_though_its_thread_goes_on() {
    let (mut bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let handle = bench.send(blocks(gate.0.clone()).time_limit("200ms")).await;
    expect_time_limit(&handle).await;
    let stuck = WorkerEvent::Stuck { task: blocks::NAME.into(), id: handle.id().to_string() };
    assert_eq!(bench.event().await, stuck);
    assert_eq!(bench.file.flights().len(), 1, "its thread is still in it");
    until("it is in the dead set", async || is_dead(&bench.client, handle.id()).await.then_some(())).await;
    gate.open();
    until("it has returned", async || bench.file.flights().is_empty().then_some(())).await;
    let client = bench.client.clone();
    assert!(bench.events.try_recv().is_err(), "it is told of once");
    let summary = bench.stop().await;
    assert_eq!((summary.succeeded, summary.failed), (0, 1), "its late end was dropped");
    let record = client.results().expect("memory").read(std::slice::from_ref(handle.id())).await.expect("memory");
    assert_eq!(record[0].as_ref().expect("it is recorded").state, TaskState::Failure);
}

#[tokio::test]
async fn a_function_that_heeds_its_limit_loses_no_process() {
    #[task(retries = 0)]
    async fn heeds(ctx: &taskq::Context) {
        let _ = ctx;
        std::future::pending::<()>().await;
    }
    let mut bench = SupervisedFixture::start().await;
    expect_time_limit(&bench.send(heeds().time_limit("200ms")).await).await;
    // Several looks later.
    for n in 0..100 {
        bench.send(neighbour(n)).await.get_timeout(PATIENCE).await.expect("it ends");
    }
    assert!(bench.events.try_recv().is_err());
    bench.stop().await;
}

#[tokio::test]
async fn code_that_never_awaits_is_ended_from_outside_and_its_neighbours_go_on() {
    let (mut bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let handle = bench.send(spins(gate.0.clone()).time_limit("200ms")).await;
    until("it spins", async || (count(&gate.0).load(Ordering::SeqCst) == 1).then_some(())).await;
    for n in 0..20 {
        assert_eq!(bench.send(neighbour(n)).await.get_timeout(PATIENCE).await.expect("it ends"), n);
    }
    expect_time_limit(&handle).await;
    assert_eq!(bench.event().await, WorkerEvent::Stuck { task: spins::NAME.into(), id: handle.id().to_string() });
    until("it is in the dead set", async || is_dead(&bench.client, handle.id()).await.then_some(())).await;
    for n in 0..20 {
        assert_eq!(bench.send(neighbour(n)).await.get_timeout(PATIENCE).await.expect("it ends"), n);
    }
    gate.open();
    let summary = bench.stop().await;
    assert_eq!((summary.succeeded, summary.failed), (40, 1));
}

#[tokio::test]
async fn a_runtime_whose_every_thread_is_blocked_keeps_limits_and_drains() {
    let client = client().await;
    let (mut bench, gate) =
        (SupervisedFixture::with(&client, 1, false, |worker| worker.grace(Duration::ZERO)).await, Gate::new());
    let limited = bench.send(spins(gate.0.clone()).time_limit("200ms")).await;
    expect_time_limit(&limited).await;
    assert_eq!(bench.event().await, WorkerEvent::Stuck { task: spins::NAME.into(), id: limited.id().to_string() });
    gate.open();

    let gate = Gate::new();
    let unlimited = bench.send(spins(gate.0.clone())).await;
    until("it spins", async || (count(&gate.0).load(Ordering::SeqCst) == 1).then_some(())).await;
    bench.control.drain();
    until("it is given back", async || {
        let stats = client.broker().stats("default").await.expect("the queue is there");
        (stats.ready == 1).then_some(())
    })
    .await;
    // A caller that waits for the worker on that thread learns of it once the thread is free.
    gate.open();
    assert_eq!(bench.ended().await.interrupted, 1);
    let again = SupervisedFixture::with(&client, 2, false, |worker| worker).await;
    unlimited.get_timeout(PATIENCE).await.expect("its attempt was not spent");
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 2);
    again.stop().await;
}

#[tokio::test]
async fn a_run_has_one_end_even_if_it_comes_right_at_the_limit() {
    const TASKS: u64 = 600;
    let client = client().await;
    let bench = SupervisedFixture::with(&client, 2, false, |worker| worker.concurrency(100)).await;
    // Stopped some 100 to 300 ms after they begin, and ended from outside, if at all, some 300 to 500 ms after that.
    let mut handles = Vec::new();
    for n in 0..TASKS {
        handles.push(bench.send(takes(80 + n * 7 % 500).time_limit("100ms")).await);
    }
    let (mut succeeded, mut failed) = (0, 0);
    for handle in &handles {
        match handle.get_timeout(PATIENCE).await {
            Ok(()) => succeeded += 1,
            Err(Error::Failed { failure, .. }) => {
                assert_eq!(failure.exc_type, "TimeLimitExceeded");
                failed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    until("every thread is back", async || bench.file.flights().is_empty().then_some(())).await;
    let summary = bench.stop().await;
    assert_eq!((summary.succeeded, summary.failed, summary.retried), (succeeded, failed, 0));
    assert!(succeeded > 0 && failed > 0, "{succeeded} succeeded, {failed} failed");
    let dead = client.dead().list(usize::MAX).await.expect("memory");
    assert_eq!(dead.len() as u64, failed, "each failure is in the dead set, once");
}

/// Hears what is logged anywhere in this process.
struct Ear;

static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{field}={value:?} ").expect("a text takes everything");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        HEARD.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn whoever_blocks_the_runtime_is_named_once() {
    tracing::subscriber::set_global_default(Ear).expect("nobody else listens in these tests");
    let (bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let handle = bench.send(spins(gate.0.clone())).await;
    let lines = || {
        let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = heard.iter().filter(|line| line.contains(handle.id().as_str()));
        ours.filter(|line| line.contains("blocks the async runtime")).cloned().collect::<Vec<_>>()
    };
    let line = until("it is named", async || lines().pop()).await;
    assert!(line.contains(spins::NAME) && line.contains("use a plain fn or spawn_blocking"), "{line}");
    // Limits are looked at after polls, so this look and those before were made without another word.
    let later = bench.send(blocks(gate.0.clone()).time_limit("200ms")).await;
    expect_time_limit(&later).await;
    gate.open();
    handle.get_timeout(PATIENCE).await.expect("it has no limit");
    assert_eq!(lines().len(), 1);
    bench.stop().await;
}
