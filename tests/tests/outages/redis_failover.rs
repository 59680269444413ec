//! A Redis with a replica that takes its place, in the middle of a stream of tasks: every result is there in the end,
//! and everyone who waits for one gets it. The servers are those of the path, so Valkey can take the place of Redis.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use taskq::backend::{BackendOptions, ResultBackendExt};
use taskq::{Handle, TaskId, backend};
use taskq_tests::harness::{
    BOUND, FaultyProxy, Ledger, PrivateRedis, Process, Sentinels, ServerFixture, Servers, unique, wait_until,
};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The time between two tasks.
const EVERY: Duration = Duration::from_millis(5);

/// A time that rows of `scripts/torture` make longer than it usually is.
fn stretched(time: Duration) -> Duration {
    let times = std::env::var("TASKQ_TEST_STRETCH").map_or(1, |times| times.parse().expect("it is a number"));
    time * times
}

/// A worker and a client that reach Redis by the same URL.
struct Fixture {
    fixture: ServerFixture,
    queue: String,
    ledger: Ledger,
    worker: Process,
    /// One task for each result that is waited for.
    waiting: Vec<tokio::task::JoinHandle<Result<(), taskq::Error>>>,
    ids: Vec<TaskId>,
}

/// The numbers of one failover.
struct Counts {
    sent: usize,
    /// The longest time from sending a task to having its result.
    slowest: Duration,
}

impl Fixture {
    async fn start(redis: String) -> Self {
        let servers = Servers::from_env().expect("the private Redis was started, so servers are wanted");
        let fixture = ServerFixture::over(&Servers { redis, ..servers }, SHOP).await.expect("servers are wanted");
        let queue = unique("failover");
        let mut worker = fixture.app().start(&["worker", "-c", "4", "-Q", &queue, "-l", "info"]);
        worker.wait_until_ready();
        Self { fixture, queue, ledger: Ledger::new(), worker, waiting: Vec::new(), ids: Vec::new() }
    }

    /// Sends tasks one after another for so long, and has somebody wait for each result.
    async fn send_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let call = tasks::ledger(self.ledger.path(), format!("{}", self.ids.len()), 1).queue(self.queue.clone());
            let handle: Handle<()> = call.send(&self.fixture.client).await.expect("sending needs no Redis");
            self.ids.push(handle.id().clone());
            self.waiting.push(tokio::spawn(async move { handle.get_timeout(BOUND).await }));
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Everyone who waited has the result, each task has run once, and the server at `url` has every record.
    async fn nothing_is_missing(mut self, url: &str) -> Counts {
        let begun = Instant::now();
        let results = join_all(std::mem::take(&mut self.waiting)).await;
        let slowest = begun.elapsed();
        let failed: Vec<_> = results.iter().filter(|result| !matches!(result, Ok(Ok(())))).collect();
        assert!(failed.is_empty(), "{} of {}: {:?}\n{}", failed.len(), results.len(), failed[0], self.worker.stderr());
        let store = backend::connect(url, BackendOptions::default()).await.expect("it is the primary");
        for id in &self.ids {
            let mut record = None;
            for _ in 0..100 {
                record = store.results.read_one(id).await.expect("it can be read");
                if record.is_some() {
                    break;
                }
                // A write whose answer came late is made again with the next ping.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(record.is_some_and(|record| record.state.is_terminal()), "{id}\n{}", self.worker.stderr());
        }
        let counts = self.ledger.counts();
        assert_eq!(counts.len(), self.ids.len(), "every task has run");
        assert!(counts.values().all(|count| *count == 1), "no task has run twice: {counts:?}");
        self.worker.drain();
        Counts { sent: self.ids.len(), slowest }
    }

    /// The records that the server lacks.
    async fn missing_at(&self, url: &str) -> usize {
        let store = backend::connect(url, BackendOptions::default()).await.expect("it can be read");
        let records = store.results.read(&self.ids).await.expect("it can be read");
        records.iter().filter(|record| record.is_none()).count()
    }
}

/// F31 of the guarantees. The replica lacks what was written in the last 1.2 s when it becomes the primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lacks_the_last_second_gets_it_from_the_workers() {
    let Some(mut primary) = PrivateRedis::start(None) else { return };
    let link = FaultyProxy::to(&primary.url());
    let Some(replica) = PrivateRedis::replica_of(link.port()) else { return };
    // The address that moves.
    let mut address = FaultyProxy::to(&primary.url());
    let mut fixture = Fixture::start(address.url().to_owned()).await;
    fixture.send_for(stretched(Duration::from_secs(1))).await;
    link.silence();
    fixture.send_for(Duration::from_millis(1200)).await;
    primary.kill();
    replica.tell(&["REPLICAOF", "NO", "ONE"]);
    let lost = fixture.missing_at(&replica.url()).await;
    assert!(lost > 0, "the replica lacks some");
    address.lead_to(&replica.url());
    fixture.send_for(stretched(Duration::from_millis(500))).await;
    let Counts { sent, slowest } = fixture.nothing_is_missing(&replica.url()).await;
    println!(
        "{sent} sent, {lost} records lost with the primary; 0 missing, all waiters served {} ms later",
        slowest.as_millis()
    );
}

/// The old primary keeps all connections, and takes writes until the Sentinels make it a replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_costs_no_record() {
    let Some(primary) = PrivateRedis::start(None) else { return };
    let Some(replica) = PrivateRedis::replica_of(primary.port) else { return };
    let sentinels = Sentinels::over(primary.port);
    let mut fixture = Fixture::start(sentinels.url()).await;
    fixture.send_for(Duration::from_millis(500)).await;
    sentinels.fail_over();
    assert_eq!(sentinels.primary(), replica.port);
    fixture.send_for(stretched(Duration::from_millis(1500))).await;
    let Counts { sent, slowest } = fixture.nothing_is_missing(&replica.url()).await;
    println!(
        "{sent} sent over a planned failover; 0 records missing, all waiters served {} ms later",
        slowest.as_millis()
    );
}

/// A proxy that cuts nothing: the old primary takes writes for a while, which are thrown away once it is a replica.
#[tokio::test(flavor = "multi_thread")]
async fn writes_that_the_old_primary_took_too_late_are_made_again() {
    let Some(primary) = PrivateRedis::start(None) else { return };
    let Some(replica) = PrivateRedis::replica_of(primary.port) else { return };
    let mut address = FaultyProxy::to(&primary.url());
    let mut fixture = Fixture::start(address.url().to_owned()).await;
    fixture.send_for(Duration::from_millis(500)).await;
    replica.tell(&["REPLICAOF", "NO", "ONE"]);
    address.lead_new_to(&replica.url());
    fixture.send_for(stretched(Duration::from_secs(1))).await;
    let lost = fixture.missing_at(&replica.url()).await;
    assert!(lost > 0, "the new primary lacks some");
    primary.tell(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    fixture.send_for(Duration::from_millis(500)).await;
    let Counts { sent, slowest } = fixture.nothing_is_missing(&replica.url()).await;
    println!(
        "{sent} sent, {lost} records taken by the old primary and thrown away; 0 missing, all waiters served {} ms later",
        slowest.as_millis()
    );
}

/// The primary is frozen, and so are all connections to it; then it comes back, as a replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_is_left_and_nobody_waits_in_vain() {
    let Some(primary) = PrivateRedis::start(None) else { return };
    let Some(replica) = PrivateRedis::replica_of(primary.port) else { return };
    let sentinels = Sentinels::over(primary.port);
    let mut fixture = Fixture::start(sentinels.url()).await;
    fixture.send_for(Duration::from_millis(500)).await;
    primary.signal("STOP");
    let frozen = Instant::now();
    // Nobody knows of it at first.
    fixture.send_for(Duration::from_millis(500)).await;
    wait_until("the Sentinels have made the replica the primary", || {
        (sentinels.primary() == replica.port).then_some(())
    });
    let switched = frozen.elapsed();
    fixture.send_for(stretched(Duration::from_secs(1))).await;
    let Counts { sent, slowest } = fixture.nothing_is_missing(&replica.url()).await;
    primary.signal("CONT");
    println!(
        "{sent} sent to a primary that was frozen, another one named after {} ms; 0 records missing, all waiters served \
         {} ms later",
        switched.as_millis(),
        slowest.as_millis()
    );
}

/// A wait for a result goes on over an outage, for so long as it may.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_result_waits_over_an_outage() {
    let Some(mut redis) = PrivateRedis::start(None) else { return };
    let mut fixture = Fixture::start(redis.url()).await;
    redis.kill();
    // An operation waits for ten seconds.
    fixture.send_for(Duration::from_millis(200)).await;
    let id = fixture.ids[0].clone();
    let handle: Handle<()> = fixture.fixture.client.handle(id);
    let begun = Instant::now();
    let error = handle.get_timeout(Duration::from_secs(12)).await.expect_err("there is no Redis");
    assert!(begun.elapsed() >= Duration::from_secs(12), "it gave up early: {error}");
    assert!(taskq::internal::fault::full_message(&error).contains("there is no connection"), "{error}");
    redis.up();
    fixture.nothing_is_missing(&redis.url()).await;
}

/// A cluster is refused with the reason, by the worker as by a client.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_refused_at_start() {
    let Some(redis) = PrivateRedis::start_with(None, &["--cluster-enabled", "yes"]) else { return };
    let error =
        backend::connect(&redis.url(), BackendOptions::default()).await.expect_err("it is a cluster").to_string();
    assert!(error.contains("it is a cluster") && error.contains("redis+sentinel://"), "{error}");
    let servers = Servers::from_env().expect("the private Redis was started, so servers are wanted");
    let with_cluster = Servers { redis: redis.url(), ..servers };
    for command in [&["worker"][..], &["check"]] {
        let ended = taskq_tests::harness::App::new(SHOP).servers(&with_cluster).run(command);
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.exit != 0, "{command:?}: {said}");
        assert!(said.contains("it is a cluster"), "{command:?}: {said}");
    }
}
