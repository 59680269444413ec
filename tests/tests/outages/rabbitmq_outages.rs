//! RabbitMQ goes away in every way that it can, and everything goes on by itself afterwards.
//!
//! Each test has a broker of its own, from `scripts/services`, and takes it down under load.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use taskq::TaskId;
use taskq::broker::{self, Broker, BrokerOptions, Publication, PublishError, QueueKind, QueueSpec};
use taskq::message::{Properties, WireMessage};
use taskq_tests::harness::PrivateServers;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);

/// A RabbitMQ that belongs to one test. Its methods run scripts, and do not hold up the test's runtime.
struct Server {
    servers: Arc<PrivateServers>,
    url: String,
}

impl Server {
    /// Starts one; `None` where servers are neither given nor required.
    async fn start() -> Option<Self> {
        let servers = spawn_blocking(PrivateServers::start).await.expect("it does not panic")?;
        let url = servers.servers.amqp.clone();
        Some(Self { servers: Arc::new(servers), url })
    }

    async fn restart(&self, options: &'static [&str]) {
        let servers = Arc::clone(&self.servers);
        spawn_blocking(move || servers.restart_rabbit(options)).await.expect("it does not panic");
    }

    async fn ctl(&self, arguments: &'static [&str]) -> String {
        let servers = Arc::clone(&self.servers);
        spawn_blocking(move || servers.rabbitmqctl(arguments)).await.expect("it does not panic")
    }
}

/// Publishes numbers to several queues and takes them from there, for as long as it is told to.
struct Load {
    queues: Vec<Arc<str>>,
    enough: Arc<AtomicBool>,
    confirmed: JoinHandle<(HashSet<(usize, u64)>, u64)>,
    seen: Arc<Mutex<HashMap<(usize, u64), Seen>>>,
    consumer: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    copies: u32,
    /// Copies after the first that did not say that they may be one.
    silent: u32,
}

impl Load {
    async fn start(publishing: Arc<dyn Broker>, consuming: Arc<dyn Broker>, kinds: &[QueueKind]) -> Self {
        let mut queues = Vec::new();
        for &kind in kinds {
            let spec = QueueSpec::new(format!("outage.{}", TaskId::new()), kind);
            publishing.declare(&spec).await.expect("the broker is up");
            consuming.declare(&spec).await.expect("the broker is up");
            queues.push(spec.name);
        }
        let mut consumption = consuming.consume(&queues, 50).await.expect("the queues exist");
        let seen: Arc<Mutex<HashMap<(usize, u64), Seen>>> = Arc::default();
        let consumer = {
            let (queues, seen) = (queues.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                while let Some(delivery) = consumption.deliveries.next().await {
                    let at = queues.iter().position(|queue| *queue == delivery.queue).expect("it is one of ours");
                    let number = std::str::from_utf8(&delivery.message.body).expect("all bodies are text");
                    let number = number.parse().expect("all bodies are numbers");
                    let flagged = delivery.redelivered || delivery.message.headers.contains("taskq-resent");
                    {
                        let mut seen = seen.lock().expect("nobody panics with it");
                        let seen = seen.entry((at, number)).or_default();
                        seen.copies += 1;
                        seen.silent += u32::from(seen.copies > 1 && !flagged);
                    }
                    delivery.acker.ack();
                }
            })
        };
        let enough = Arc::new(AtomicBool::new(false));
        let confirmed = tokio::spawn(publish(publishing, queues.clone(), Arc::clone(&enough)));
        Self { queues, enough, confirmed, seen, consumer }
    }

    /// Waits until every queue delivers messages that nobody has seen before.
    async fn flows(&self) {
        let last = |seen: &HashMap<(usize, u64), Seen>, at: usize| {
            seen.keys().filter(|(queue, _)| *queue == at).map(|(_, number)| *number).max()
        };
        let before: Vec<_> = {
            let seen = self.seen.lock().expect("nobody panics with it");
            (0..self.queues.len()).map(|at| last(&seen, at)).collect()
        };
        let flowing = timeout(PATIENCE, async {
            loop {
                let flowing = {
                    let seen = self.seen.lock().expect("nobody panics with it");
                    (0..self.queues.len()).all(|at| last(&seen, at) > before[at].map(|number| number + 100))
                };
                if flowing {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        flowing.await.expect("every queue flows");
    }

    /// Ends the load: everything confirmed has been seen, and every second copy said that it may be one.
    async fn finish(self, name: &str) {
        self.enough.store(true, Ordering::Release);
        let (confirmed, failed) = timeout(PATIENCE, self.confirmed).await.expect("it ends").expect("it does not panic");
        let missing = timeout(PATIENCE, async {
            loop {
                let missing = {
                    let seen = self.seen.lock().expect("nobody panics with it");
                    confirmed.iter().filter(|key| !seen.contains_key(key)).count()
                };
                if missing == 0 {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        if missing.await.is_err() {
            let seen = self.seen.lock().expect("nobody panics with it");
            let lost: Vec<_> = confirmed.iter().filter(|key| !seen.contains_key(key)).take(10).collect();
            panic!("{name}: confirmed and never delivered: {lost:?}");
        }
        self.consumer.abort();
        let seen = self.seen.lock().expect("nobody panics with it");
        let (copies, silent) =
            seen.values().fold((0, 0), |(copies, silent), seen| (copies + seen.copies - 1, silent + seen.silent));
        println!("{name}: {} confirmed, {failed} failed, {copies} second copies", confirmed.len());
        assert_eq!(silent, 0, "{name}: second copies that did not say that they may be one");
        assert_eq!(failed, 0, "{name}: the outage was shorter than the time allowed");
    }
}

async fn publish(
    broker: Arc<dyn Broker>,
    queues: Vec<Arc<str>>,
    enough: Arc<AtomicBool>,
) -> (HashSet<(usize, u64)>, u64) {
    let (mut confirmed, mut failed, mut number) = (HashSet::new(), 0, 0);
    let mut waiting = FuturesUnordered::new();
    loop {
        while waiting.len() < 300 && !enough.load(Ordering::Acquire) {
            let at = (number % queues.len() as u64) as usize;
            let sent = send(&*broker, &queues[at], &number.to_string());
            waiting.push(async move { ((at, number), sent.await) });
            number += 1;
        }
        match waiting.next().await {
            Some((key, Ok(()))) => {
                confirmed.insert(key);
            }
            Some((key, Err(error))) => {
                println!("{key:?}: {error}");
                failed += 1;
            }
            None => return (confirmed, failed),
        }
        // About 10,000 a second are plenty, and leave the broker room to restart.
        if number % 10 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn send(
    broker: &dyn Broker,
    queue: &Arc<str>,
    body: &str,
) -> futures_util::future::BoxFuture<'static, Result<(), PublishError>> {
    let properties = Properties::default().with(|properties| properties.correlation_id = Some(body.to_owned()));
    let message = WireMessage { properties, body: body.to_owned().into(), ..WireMessage::default() };
    broker.publish(Publication::new(Arc::clone(queue), message))
}

async fn client(url: &str) -> Arc<dyn Broker> {
    let options = BrokerOptions::default().with(|options| options.publish_timeout = Duration::from_secs(90));
    broker::connect(url, options).await.expect("the broker is up")
}

const KINDS: [QueueKind; 3] = [QueueKind::Quorum, QueueKind::Classic, QueueKind::Celery];

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_kills_lose_nothing() {
    let Some(server) = Server::start().await else { return };
    let (publishing, consuming) = (client(&server.url).await, client(&server.url).await);
    let load = Load::start(Arc::clone(&publishing), Arc::clone(&consuming), &KINDS).await;
    load.flows().await;
    server.restart(&[]).await;
    load.flows().await;
    server.restart(&["--kill", "--down", "2"]).await;
    load.flows().await;
    server.restart(&["--kill"]).await;
    load.flows().await;
    load.finish("restarts and kills").await;
    publishing.close().await;
    consuming.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_connections_lose_nothing() {
    let Some(server) = Server::start().await else { return };
    // One client for both, to see that its two connections do not disturb each other.
    let client = client(&server.url).await;
    let load = Load::start(Arc::clone(&client), Arc::clone(&client), &KINDS).await;
    for _ in 0..3 {
        load.flows().await;
        server.ctl(&["close_all_connections", "for a test"]).await;
    }
    load.flows().await;
    server.ctl(&["stop_app"]).await;
    server.ctl(&["start_app"]).await;
    load.flows().await;
    load.finish("closed connections").await;
    client.close().await;
}

/// With heartbeats of a second: the process stands still, and the sockets stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_is_noticed() {
    let Some(server) = Server::start().await else { return };
    let client = client(&format!("{}?heartbeat=1", server.url)).await;
    let name: Arc<str> = "outage.still".into();
    client.declare(&QueueSpec::quorum(Arc::clone(&name))).await.expect("the broker is up");
    let mut consumption = client.consume(std::slice::from_ref(&name), 10).await.expect("the queue exists");
    let pid = server.ctl(&["eval", "list_to_integer(os:getpid())."]).await.trim().to_owned();
    let signal = |signal: &'static str| {
        let pid = pid.clone();
        async move {
            let kill = spawn_blocking(move || Command::new("kill").args([signal, &pid]).status());
            assert!(kill.await.expect("it does not panic").expect("kill exists").success());
        }
    };
    signal("-STOP").await;
    let noticed = timeout(PATIENCE, async {
        while consumption.control.is_live() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let noticed = noticed.await;
    let sent = send(&*client, &name, "while it stood still");
    signal("-CONT").await;
    noticed.expect("silence is noticed");
    timeout(PATIENCE, sent).await.expect("it is answered").expect("it was only late");
    let delivery = timeout(PATIENCE, consumption.deliveries.next()).await.expect("it arrives").expect("it goes on");
    delivery.acker.ack();
    client.close().await;
}

/// Under a memory alarm publishing fails as blocked when its time is over, consuming goes on, and afterwards all is
/// well.
#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_blocks_publishing_only() {
    let Some(server) = Server::start().await else { return };
    let options = BrokerOptions::default().with(|options| options.publish_timeout = Duration::from_secs(3));
    let client = broker::connect(&server.url, options).await.expect("the broker is up");
    let name: Arc<str> = "outage.alarm".into();
    client.declare(&QueueSpec::quorum(Arc::clone(&name))).await.expect("the broker is up");
    let mut consumption = client.consume(std::slice::from_ref(&name), 1).await.expect("the queue exists");
    for number in 0..3 {
        send(&*client, &name, &number.to_string()).await.expect("the queue exists");
    }
    server.ctl(&["set_vm_memory_high_watermark", "0"]).await;
    let first = send(&*client, &name, "blocked").await.expect_err("the broker takes nothing");
    assert!(matches!(first, PublishError::Blocked { .. }), "{first}");
    println!("{first}");
    let more: Vec<_> = (0..100).map(|_| send(&*client, &name, "blocked as well")).collect();
    for number in 0..3 {
        let delivery = timeout(PATIENCE, consumption.deliveries.next()).await.expect("it arrives").expect("it goes on");
        assert_eq!(delivery.message.body, number.to_string());
        delivery.acker.ack();
    }
    assert_eq!(client.stats(&name).await.expect("requests go on over the other connection").consumers, 1);
    for sent in more {
        let error = sent.await.expect_err("the broker takes nothing");
        assert!(matches!(error, PublishError::Blocked { .. }), "{error}");
    }
    server.ctl(&["set_vm_memory_high_watermark", "0.8"]).await;
    send(&*client, &name, "again").await.expect("the broker takes messages again");
    // Of those that were blocked, the broker had been sent the first; it may arrive, and says no more than that.
    loop {
        let delivery = timeout(PATIENCE, consumption.deliveries.next()).await.expect("it arrives").expect("it goes on");
        let last = delivery.message.body == "again";
        delivery.acker.ack();
        if last {
            break;
        }
    }
    client.close().await;
}
