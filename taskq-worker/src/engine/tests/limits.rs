//! Limits bind, whatever the body does.

use taskq::{Error, TaskState, task};

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

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb was dropped");
    }
}

/// Holds a bomb until its gate is open.
#[task(retries = 0)]
async fn holds_a_bomb(gate: String) {
    let bomb = Bomb;
    let gate = Gate::state(&gate);
    while !gate.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::mem::forget(bomb);
}

#[task(retries = 0)]
async fn throws_a_bomb() {
    std::panic::panic_any(Bomb);
}

#[task(retries = 0)]
fn throws_a_bomb_on_a_thread() {
    std::panic::panic_any(Bomb);
}

#[tokio::test]
async fn a_panic_in_what_is_dropped_costs_no_process() {
    log::listen();
    let (mut bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let limited = bench.send(holds_a_bomb(gate.0.clone()).time_limit("200ms")).await;
    expect_time_limit(&limited).await;
    let line = until("it is logged", async || log::lines_with(&[limited.id().as_str(), "panicked while"]).pop()).await;
    assert!(line.contains(holds_a_bomb::NAME) && line.contains("a bomb was dropped"), "{line}");
    for handle in [bench.send(throws_a_bomb()).await, bench.send(throws_a_bomb_on_a_thread()).await] {
        let Err(Error::Failed { failure, .. }) = handle.get_timeout(PATIENCE).await else { panic!("it panics") };
        assert_eq!(failure.exc_type, "Panic");
    }
    // Several looks at limits later.
    for n in 0..100 {
        bench.send(neighbour(n)).await.get_timeout(PATIENCE).await.expect("it ends");
    }
    assert!(bench.events.try_recv().is_err(), "nothing is stuck");
    assert_eq!(bench.file.flights(), []);
    assert_eq!(bench.stop().await.failed, 3);
}

#[tokio::test]
async fn a_drain_survives_what_it_drops() {
    let client = client().await;
    let (mut bench, gate) =
        (SupervisedFixture::with(&client, 2, false, |worker| worker.grace(Duration::ZERO)).await, Gate::new());
    let held = bench.send(holds_a_bomb(gate.0.clone())).await;
    until("it runs", async || (!bench.file.flights().is_empty()).then_some(())).await;
    bench.control.drain();
    assert_eq!(bench.ended().await.interrupted, 1);
    gate.open();
    let again = SupervisedFixture::with(&client, 2, false, |worker| worker).await;
    held.get_timeout(PATIENCE).await.expect("its attempt was not spent");
    again.stop().await;
}

/// Waits for the runtime, which reads files on threads of its own.
#[task(retries = 0)]
fn reads_a_file_on_a_thread() -> Result<usize, std::io::Error> {
    let file = async { tokio::fs::read("/proc/self/stat").await };
    tokio::runtime::Handle::current().block_on(file).map(|content| content.len())
}

#[task(retries = 0)]
async fn reads_a_file() -> Result<usize, std::io::Error> {
    tokio::fs::read("/proc/self/stat").await.map(|content| content.len())
}

#[tokio::test]
async fn plain_functions_have_threads_of_their_own() {
    let (client, gate) = (client().await, Gate::new());
    let bench = SupervisedFixture::with(&client, 2, false, |worker| worker.blocking_threads(1)).await;
    for _ in 0..3 {
        assert!(bench.send(reads_a_file_on_a_thread()).await.get_timeout(PATIENCE).await.expect("it reads") > 0);
    }
    // All of them taken, and more wanted.
    let held = [bench.send(blocks(gate.0.clone())).await, bench.send(blocks(gate.0.clone())).await];
    until("it blocks", async || (count(&gate.0).load(Ordering::SeqCst) == 1).then_some(())).await;
    for _ in 0..3 {
        assert!(bench.send(reads_a_file()).await.get_timeout(PATIENCE).await.expect("it reads") > 0);
    }
    assert_eq!(count(&gate.0).load(Ordering::SeqCst), 1, "there is one thread");
    gate.open();
    for handle in held {
        handle.get_timeout(PATIENCE).await.expect("it only waits");
    }
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

#[tokio::test]
async fn whoever_blocks_the_runtime_is_named_once() {
    log::listen();
    let (bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let handle = bench.send(spins(gate.0.clone())).await;
    let lines = || log::lines_with(&[handle.id().as_str(), "blocks the async runtime"]);
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
