//! A worker and its Redis, to which everything happens that may happen to one: no task is lost, results are written
//! when they can be, the fault is named in the log and in health, and all is well again without help.
//!
//! That a Redis comes back empty in the middle of a run of tasks is in `restart.rs`.

use std::time::Instant;

use redis::Value;
use serde_json::Value as Json;
use taskq::{Client, Handle, TaskId};
use taskq_tests::harness::{
    BOUND, Count, Health, Ledger, PrivateRedis, Process, ServerFixture, Servers, unique, wait_until,
};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// How many tasks of each kind are sent while Redis is of no use.
const TASKS: usize = 10;

/// A worker whose Redis is nobody else's, and a client that needs none to send.
struct Fixture {
    redis: PrivateRedis,
    fixture: ServerFixture,
    queue: String,
    health: Health,
    ledger: Ledger,
    worker: Process,
}

impl Fixture {
    /// With a worker that is ready and well.
    async fn start(password: Option<&'static str>) -> Option<Self> {
        let servers = Servers::from_env()?;
        let redis = PrivateRedis::start(password)?;
        let fixture = ServerFixture::over(&Servers { redis: redis.url(), ..servers }, SHOP).await?;
        let (queue, health) = (unique("away"), Health::new());
        let worker = ["worker", "-c", "4", "-Q", &queue, "-l", "warn", "--health", &health.address()];
        let mut worker = fixture.app().start(&worker);
        worker.wait_until_ready();
        health.wait_until_green();
        Some(Self { redis, fixture, queue, health, ledger: Ledger::new(), worker })
    }

    fn client(&self) -> &Client {
        &self.fixture.client
    }

    /// Says something to Redis, by a connection that lasts no longer.
    fn tell(&self, url: &str, command: &[&str]) -> Value {
        let client = redis::Client::open(url).expect("it is a URL");
        let mut connection = client.get_connection().expect("Redis is up");
        let mut words = redis::cmd(command[0]);
        words.arg(&command[1..]).query(&mut connection).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Sends tasks that come straight, by way of a delay, and again after a failure; each notes its line.
    async fn send(&self) -> Vec<TaskId> {
        let (client, ledger, queue) = (self.client(), self.ledger.path(), &self.queue);
        let mut ids = Vec::new();
        for number in 0..TASKS {
            let line = |kind: &str| format!("{kind} {number}");
            let straight = tasks::ledger(ledger, line("straight"), 5).queue(queue.clone());
            let delayed = tasks::ledger(ledger, line("delayed"), 5).queue(queue.clone()).countdown("100ms");
            let again = tasks::ledger_flaky(ledger, line("again"), 5, 1, 100).queue(queue.clone());
            for call in [straight, delayed] {
                ids.push(call.send(client).await.expect("sending needs no Redis").id().clone());
            }
            ids.push(again.send(client).await.expect("sending needs no Redis").id().clone());
        }
        ids
    }

    /// Everything has succeeded, each run was one that was wanted, and nothing is left in the queue.
    async fn all_is_done(&mut self, ids: &[TaskId]) {
        for id in ids {
            let handle: Handle<Json> = self.client().handle(id.clone());
            handle.get_timeout(BOUND).await.unwrap_or_else(|error| {
                panic!("{id}: {error}\n{}", self.worker.stderr());
            });
        }
        let counts = self.ledger.counts();
        assert_eq!(counts.len(), ids.len(), "{counts:?}");
        for (line, count) in &counts {
            assert_eq!(*count, if line.starts_with("again") { 2 } else { 1 }, "{line}: {counts:?}");
        }
        let queue = &self.queue;
        wait_until("everything is acknowledged", || {
            (self.fixture.vhost.queues()[queue] == Count::default()).then_some(())
        });
        assert!(self.client().dead().list(10).await.expect("it can be read").is_empty());
    }

    /// The worker's log has these words.
    fn is_logged(&mut self, words: &str) {
        self.worker
            .wait_for(&format!("{words:?} is in the log"), |worker| worker.stderr().contains(words).then_some(()));
    }

    /// How many tasks are in the hands of the broker, whether they were delivered or not.
    fn kept(&self) -> u64 {
        let Count { ready, unacked } = self.fixture.vhost.queues()[&self.queue];
        ready + unacked
    }
}

/// Nobody sends anything, and the worker looks all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_nothing_to_do_notices_that_redis_is_away() {
    let Some(mut fixture) = Fixture::start(Some("s3cret")).await else { return };
    for hangs in [false, true] {
        let begun = Instant::now();
        if hangs {
            fixture.redis.signal("STOP");
        } else {
            fixture.redis.kill();
        }
        let reason = fixture.health.wait_until_red();
        println!("red after {:?}: {reason}", begun.elapsed());
        let named = format!("cannot use the result backend redis://:***@127.0.0.1:{}/0 (", fixture.redis.port);
        assert!(reason.contains(&named), "{reason}");
        fixture.is_logged("the result backend does not answer");
        let begun = Instant::now();
        if hangs {
            fixture.redis.signal("CONT");
        } else {
            fixture.redis.up();
        }
        fixture.health.wait_until_green();
        println!("green after {:?}", begun.elapsed());
    }
    fixture.worker.drain();
}

/// F30 of the guarantees. Nothing is acknowledged whose record Redis did not take.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_costs_time_and_no_task() {
    let Some(mut fixture) = Fixture::start(None).await else { return };
    let url = fixture.redis.url();
    fixture.tell(&url, &["CONFIG", "SET", "maxmemory", "1"]);
    let ids = fixture.send().await;
    let reason = fixture.health.wait_until_red();
    assert!(reason.contains(&url) && reason.contains("maxmemory"), "{reason}");
    fixture.is_logged("maxmemory");
    let ran_while_full = fixture.ledger.len();
    // How many depends on how soon the slots are full of tasks that wait for a claim.
    assert!(ran_while_full > 0, "none has run that needs no claim");
    let kept = fixture.kept();
    assert_eq!(kept, ids.len() as u64, "none is acknowledged whose record is not written");
    fixture.tell(&url, &["CONFIG", "SET", "maxmemory", "0"]);
    let begun = Instant::now();
    fixture.all_is_done(&ids).await;
    fixture.health.wait_until_green();
    println!(
        "{} sent to a worker whose Redis was full, {ran_while_full} runs meanwhile, {kept} messages kept; 0 lost, 0 \
         repeated, all results {} ms after there was room",
        ids.len(),
        begun.elapsed().as_millis(),
    );
    fixture.worker.drain();
}

/// Connections that are made already would go on, so they are closed as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_and_changed_back_costs_no_task() {
    let Some(mut fixture) = Fixture::start(Some("s3cret")).await else { return };
    let (old, new) = (fixture.redis.url(), fixture.redis.url().replace("s3cret", "an0ther"));
    let refused = "Password authentication failed";
    for by_acl in [false, true] {
        if by_acl {
            fixture.tell(&old, &["ACL", "SETUSER", "default", "resetpass", ">an0ther"]);
        } else {
            fixture.tell(&old, &["CONFIG", "SET", "requirepass", "an0ther"]);
        }
        for kind in ["normal", "pubsub"] {
            fixture.tell(&new, &["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        }
        let ids = fixture.send().await;
        let reason = fixture.health.wait_until_red_of(refused);
        assert!(reason.contains("redis://:***@127.0.0.1:"), "{reason}");
        fixture.is_logged(refused);
        let kept = fixture.kept();
        assert_eq!(kept, ids.len() as u64, "none is acknowledged whose record is not written");
        if by_acl {
            fixture.tell(&new, &["ACL", "SETUSER", "default", "resetpass", ">s3cret"]);
        } else {
            fixture.tell(&new, &["CONFIG", "SET", "requirepass", "s3cret"]);
        }
        println!("{kept} messages kept while the password was another; {reason}");
        fixture.all_is_done(&ids).await;
        fixture.health.wait_until_green();
        fixture.ledger = Ledger::new();
    }
    assert!(!fixture.worker.stderr().contains("s3cret"), "{}", fixture.worker.stderr());
    fixture.worker.drain();
}

/// Leases and records of what is running are gone in an instant, and the connections stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_in_the_middle_of_runs_repeats_none_of_them() {
    let Some(mut fixture) = Fixture::start(None).await else { return };
    let url = fixture.redis.url();
    let mut ids = Vec::new();
    for number in 0..4 {
        // Those that were delayed claim before they run.
        let call = tasks::ledger(fixture.ledger.path(), format!("slow {number}"), 1500).queue(fixture.queue.clone());
        let call = if number % 2 == 0 { call.countdown("100ms") } else { call };
        ids.push(call.send(fixture.client()).await.expect("it is accepted").id().clone());
    }
    wait_until("all four run", || {
        let Value::Array(running) = fixture.tell(&url, &["KEYS", "celery-task-meta-*"]) else { return None };
        (running.len() == 4).then_some(())
    });
    assert_eq!(fixture.ledger.len(), 0, "none has ended");
    fixture.tell(&url, &["FLUSHALL"]);
    ids.extend(fixture.send().await);
    fixture.all_is_done(&ids).await;
    fixture.health.wait_until_green();
    println!("{} tasks, 4 of them running when everything in Redis was deleted: 0 lost, 0 repeated", ids.len());
    fixture.worker.drain();
}
