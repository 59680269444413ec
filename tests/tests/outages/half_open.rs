//! The way to RabbitMQ goes silent: nothing is carried, no connection is closed, and nobody is told. A worker notices
//! by the heartbeats that do not come, says so, and goes on by itself when the way is good again.

use std::time::{Duration, Instant};

use taskq::{Client, Handle};
use taskq_tests::harness::{
    BOUND, Count, FaultyProxy, Health, Ledger, Process, ServerFixture, Servers, unique, wait_until,
};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The heartbeat that the worker agrees on with the broker.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A worker that reaches RabbitMQ by a way of its own, and a client that reaches it directly.
struct Fixture {
    fixture: ServerFixture,
    proxy: FaultyProxy,
    queue: String,
    health: Health,
    worker: Process,
}

impl Fixture {
    async fn start() -> Option<Self> {
        let fixture = ServerFixture::start(SHOP).await?;
        let proxy = FaultyProxy::to(&fixture.vhost.servers.amqp);
        let (queue, health) = (unique("silent"), Health::new());
        let amqp = format!("{}?heartbeat={}", proxy.url(), HEARTBEAT.as_secs());
        let app = fixture.app().servers(&Servers { amqp, ..fixture.vhost.servers.clone() });
        let mut worker = app.start(&["worker", "-c", "4", "-Q", &queue, "-l", "warn", "--health", &health.address()]);
        worker.wait_until_ready();
        health.wait_until_green();
        Some(Self { fixture, proxy, queue, health, worker })
    }

    fn client(&self) -> &Client {
        &self.fixture.client
    }

    /// Waits until the worker has given up its connection for consuming, and gives how long that took.
    fn is_noticed(&mut self) -> Duration {
        let begun = Instant::now();
        self.worker.wait_for("the silence is noticed", |worker| {
            worker.stderr().contains("consuming is interrupted").then_some(())
        });
        let after = begun.elapsed();
        // Two heartbeats, and what a busy machine may take to write and read a line of the log.
        assert!(after < HEARTBEAT * 2 + Duration::from_secs(10), "{after:?}");
        after
    }

    async fn works_again(&mut self) {
        self.health.wait_until_green();
        let sum = tasks::add(2, 3).queue(self.queue.clone()).send(self.client()).await.expect("it is accepted");
        assert_eq!(sum.get_timeout(BOUND).await.expect("it runs"), 5);
        let (queues, queue) = (&self.fixture.vhost, &self.queue);
        wait_until("everything is acknowledged", || (queues.queues()[queue] == Count::default()).then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_by_a_worker_with_nothing_to_do() {
    let Some(mut fixture) = Fixture::start().await else { return };
    fixture.proxy.silence();
    let noticed = fixture.is_noticed();
    let reason = fixture.health.wait_until_red();
    let named = fixture.proxy.url().replace("guest:guest", "guest:***");
    assert!(reason.contains("takes no messages from") && reason.contains(&named), "{reason}");
    fixture.proxy.open();
    fixture.works_again().await;
    println!("a heartbeat of {HEARTBEAT:?}: noticed after {noticed:?}; {reason}");
    fixture.worker.drain();
}

/// Running tasks go on, and do not run again when their messages come back.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_by_a_worker_that_is_busy_and_repeats_nothing() {
    let Some(mut fixture) = Fixture::start().await else { return };
    let ledger = Ledger::new();
    let mut sent: Vec<Handle<()>> = Vec::new();
    // Some end in the silence, some after it, and some have not begun.
    for (number, ms) in [500, 1000, 8000, 8000, 500, 500, 500, 500].into_iter().enumerate() {
        let call = tasks::ledger(ledger.path(), format!("{number}"), ms).queue(fixture.queue.clone());
        sent.push(call.send(fixture.client()).await.expect("it is accepted"));
    }
    fixture.worker.wait_for("one has ended", |_| (!ledger.is_empty()).then_some(()));
    fixture.proxy.silence();
    let noticed = fixture.is_noticed();
    fixture.proxy.open();
    for handle in &sent {
        handle.get_timeout(BOUND).await.unwrap_or_else(|error| panic!("{error}\n{}", fixture.worker.stderr()));
    }
    fixture.works_again().await;
    let counts = ledger.counts();
    assert!(counts.len() == sent.len() && counts.values().all(|count| *count == 1), "{counts:?}");
    println!("a heartbeat of {HEARTBEAT:?}: noticed after {noticed:?}; {} tasks, each run once", sent.len());
    fixture.worker.drain();
}
