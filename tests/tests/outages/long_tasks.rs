//! Tasks that take longer than RabbitMQ waits for an acknowledgement run once: they are held by copies of their
//! messages.
//!
//! Workers here are told of a `consumer_timeout` of seconds, so that they do within seconds what they otherwise do in
//! half an hour; the broker itself has its default. With a broker that means it, the tests take minutes and are
//! ignored.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use taskq::Client;
use taskq::broker::{self, Broker, BrokerOptions, Publication, QueueKind, QueueSpec, QueueStats, RENEWAL_PREFIX};
use taskq::message::{Properties, WireMessage};
use taskq_tests::harness::{
    App, Count, Finished, Ledger, PrivateServers, Process, ServerFixture, Servers, signal, unique, wait_until,
    wait_within,
};
use taskq_tests::tasks::ledger;
use tokio::time::{sleep, timeout};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// Far longer than anything here takes; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A worker that thinks the broker waits for two seconds only.
fn worker(fixture: &ServerFixture, arguments: &[&str]) -> Process {
    start(&fixture.app().env("TASKQ_CONSUMER_TIMEOUT", "2s"), arguments)
}

fn start(app: &App, arguments: &[&str]) -> Process {
    let mut worker = app.start(&[&["worker", "-l", "warn"], arguments].concat());
    worker.wait_until_ready();
    worker
}

/// The held queues that there are, by name.
fn held(fixture: &ServerFixture) -> BTreeMap<String, Count> {
    fixture.vhost.queues().into_iter().filter(|(name, _)| name.starts_with(RENEWAL_PREFIX)).collect()
}

/// Waits until so many messages are held, and none is unacknowledged in its own queue.
fn wait_until_held(fixture: &ServerFixture, queue: &str, count: u64) {
    wait_until(&format!("{count} messages of {queue} are held"), || {
        let all = fixture.vhost.queues();
        let held: u64 =
            all.iter().filter(|(name, _)| name.starts_with(RENEWAL_PREFIX)).map(|(_, count)| count.unacked).sum();
        (held == count && all[queue].unacked == 0).then_some(())
    });
}

fn wait_until_nothing_is_left(fixture: &ServerFixture) {
    wait_until("nothing is left anywhere", || {
        fixture.vhost.queues().values().all(|count| *count == Count::default()).then_some(())
    });
}

/// Whether a worker had nothing to complain about, but for the results that the tests' Redis does not persist.
fn is_calm(ended: &Finished) -> bool {
    let complaints = ended.stderr.lines().filter(|line| line.contains("WARN") || line.contains("ERROR"));
    complaints.filter(|line| !line.contains("appendonly")).count() == 0
}

async fn send(client: &Client, queue: &str, ledger_path: &str, lines: impl IntoIterator<Item = String>, ms: u64) {
    for line in lines {
        let call = ledger(ledger_path.to_owned(), line, ms).queue(queue.to_owned());
        call.send(client).await.expect("the broker takes it");
    }
}

fn each_once(lines: &[(&str, usize)]) -> BTreeMap<String, usize> {
    lines.iter().flat_map(|(name, count)| (0..*count).map(move |n| (format!("{name}-{n}"), 1))).collect()
}

fn lines(name: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("{name}-{n}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_several_holds_runs_once_and_what_waits_beside_it_is_not_forgotten() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let notes = Ledger::new();
    let worker = worker(&fixture, &["-c", "2", "-Q", "long,short"]);
    send(&fixture.client, "long", notes.path(), lines("long", 3), 15_000).await;
    // Both slots are taken: these wait, and must neither stay with this worker nor be lost.
    wait_until_held(&fixture, "long", 2);
    send(&fixture.client, "short", notes.path(), lines("short", 6), 10).await;
    let expected = each_once(&[("long", 3), ("short", 6)]);
    wait_until("every task has run", || (notes.counts() == expected).then_some(()));
    wait_until("every message is acknowledged", || {
        fixture.vhost.queues().values().all(|count| *count == Count::default()).then_some(())
    });
    assert_eq!(held(&fixture).len(), 1, "there is one held queue for the one queue with long tasks");
    let ended = worker.drain();
    assert!(is_calm(&ended), "{ended}");
    assert_eq!(notes.counts(), expected, "each has run once");
    assert_eq!(held(&fixture), BTreeMap::new(), "a worker that ends takes its held queues with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_held_runs_again_elsewhere() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let notes = Ledger::new();
    let first = worker(&fixture, &["-c", "2", "-Q", "long"]);
    send(&fixture.client, "long", notes.path(), lines("long", 2), 20_000).await;
    wait_until_held(&fixture, "long", 2);
    let second = worker(&fixture, &["-c", "2", "-Q", "long"]);
    let began = Instant::now();
    // Its processes end with it.
    first.kill();
    let expected = each_once(&[("long", 2)]);
    wait_within("both have run", PATIENCE, || (notes.counts() == expected).then_some(()));
    println!("two tasks of 20 s that a killed worker held have run elsewhere after {:?}", began.elapsed());
    let pids: Vec<u32> = notes.entries().iter().map(|entry| entry.pid).collect();
    assert!(pids.iter().all(|pid| second.children().contains(pid)), "{pids:?}");
    second.drain();
    wait_until_nothing_is_left(&fixture);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_at_the_end_of_the_grace_is_given_back_at_once() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let notes = Ledger::new();
    let first = worker(&fixture, &["-c", "2", "-Q", "long", "--grace", "1s"]);
    send(&fixture.client, "long", notes.path(), lines("long", 2), 20_000).await;
    wait_until_held(&fixture, "long", 2);
    let second = worker(&fixture, &["-c", "2", "-Q", "long"]);
    first.signal("TERM");
    first.finish().expect_exit(8);
    let began = Instant::now();
    let expected = each_once(&[("long", 2)]);
    wait_until("both have run", || (notes.counts() == expected).then_some(()));
    let after = began.elapsed();
    println!("two tasks of 20 s that were given back have run elsewhere after {after:?}");
    // What comes back only because its time in the held queue is over takes another 20 s.
    assert!(after < Duration::from_secs(35), "{after:?}");
    let attempts: Vec<u32> = notes.entries().iter().map(|entry| entry.attempt).collect();
    assert_eq!(attempts, [0, 0], "an interruption costs no attempt");
    second.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_child_held_runs_again_soon() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let notes = Ledger::new();
    let worker = worker(&fixture, &["-c", "2", "-Q", "long"]);
    send(&fixture.client, "long", notes.path(), lines("long", 2), 20_000).await;
    wait_until_held(&fixture, "long", 2);
    let began = Instant::now();
    signal(worker.children()[0], "KILL");
    let expected = each_once(&[("long", 2)]);
    wait_within("both have run", PATIENCE, || (notes.counts() == expected).then_some(()));
    println!("two tasks of 20 s that a killed child held have run again after {:?}", began.elapsed());
    worker.drain();
    wait_until_nothing_is_left(&fixture);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_alone_is_held_and_nothing_is_fetched_beside_it() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let notes = Ledger::new();
    send(&fixture.client, "long.quarantine", notes.path(), lines("suspect", 2), 20_000).await;
    let worker = worker(&fixture, &["-c", "2", "-Q", "long"]);
    wait_until("one is held, and the other waits in its queue", || {
        let all = fixture.vhost.queues();
        let held =
            all.iter().find(|(name, _)| name.starts_with(RENEWAL_PREFIX) && name.ends_with(".long.quarantine"))?.1;
        (held.unacked == 1 && all["long.quarantine"] == Count { ready: 1, unacked: 0 }).then_some(())
    });
    let expected = each_once(&[("suspect", 2)]);
    wait_within("both have run", PATIENCE, || (notes.counts() == expected).then_some(()));
    wait_until("who ran them has ended, and taken its held queue along", || held(&fixture).is_empty().then_some(()));
    worker.drain();
    assert_eq!(notes.counts(), expected, "each has run once");
}

/// A broker's client that thinks so of its timeout.
async fn connect(url: &str, consumer_timeout: Duration) -> std::sync::Arc<dyn Broker> {
    let options = BrokerOptions::default().with(|options| options.consumer_timeout = Some(consumer_timeout));
    broker::connect(url, options).await.expect("the test broker is up")
}

fn message(text: &str) -> WireMessage {
    let properties = Properties::default().with(|properties| properties.priority = Some(3));
    WireMessage { properties, body: text.to_owned().into(), ..WireMessage::default() }
}

async fn publish(broker: &dyn Broker, queue: &str, text: &str) {
    let publication = Publication::new(queue, message(text));
    broker.publish(publication).await.expect("the queue exists");
}

async fn next(consumption: &mut broker::Consumption) -> broker::Delivery {
    let next = timeout(PATIENCE, consumption.deliveries.next()).await;
    next.expect("a message comes").expect("the stream goes on")
}

/// Waits until this is in the queue, and so many consume from it.
async fn wait_for_stats(broker: &dyn Broker, queue: &str, expected: QueueStats) {
    let found = async {
        while broker.stats(queue).await.expect("it is there") != expected {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{queue} is never seen with {expected:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_copies_that_nobody_wants_go_home() {
    let Some(servers) = Servers::from_env() else { return };
    for kind in [QueueKind::Quorum, QueueKind::Classic, QueueKind::Celery] {
        let broker = connect(&servers.amqp, Duration::from_secs(60)).await;
        let held = broker.delivery_timeout().expect("RabbitMQ wants deliveries settled in time");
        let home = unique("home");
        let queue = format!("{RENEWAL_PREFIX}{home}");
        broker.declare(&QueueSpec::new(home.as_str(), kind)).await.expect("declared");
        let mut holding = held.open_renewal_queue(&queue, &home).await.expect("it can be declared");
        for text in ["acknowledged", "given back", "with a consumer that goes"] {
            publish(&*broker, &queue, text).await;
        }
        next(&mut holding).await.acker.ack();
        next(&mut holding).await.acker.requeue();
        let _unsettled = next(&mut holding).await;
        let mut at_home = broker.consume(&[home.as_str().into()], 10).await.expect("it is there");
        let back = next(&mut at_home).await;
        assert_eq!((&*back.message.body, back.message.properties.priority), (&b"given back"[..], Some(3)), "{kind:?}");
        assert!(!back.message.headers.iter().any(|(name, _)| name.starts_with("x-")), "{:?}", back.message.headers);
        back.acker.ack();
        holding.control.close().await;
        // This one's time in the held queue begins now, and that of the one before it will soon be over.
        publish(&*broker, &queue, "never taken").await;
        let mut texts = Vec::new();
        for _ in 0..2 {
            let back = next(&mut at_home).await;
            texts.push(String::from_utf8(back.message.body.to_vec()).expect("it is text"));
            back.acker.ack();
        }
        assert_eq!(texts, ["with a consumer that goes", "never taken"], "{kind:?}");
        held.delete_renewal_queue(&queue).await.expect("it is there");
        assert!(broker.stats(&queue).await.is_err(), "it is gone");
        broker.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_reader_too_long_goes_back_until_he_comes() {
    let Some(servers) = Servers::from_env() else { return };
    let broker = connect(&servers.amqp, Duration::from_secs(8)).await;
    let other = connect(&servers.amqp, Duration::from_secs(8)).await;
    let queue = unique("stale");
    for client in [&broker, &other] {
        client.declare(&QueueSpec::quorum(queue.as_str())).await.expect("it can be declared");
    }
    let mut busy = broker.consume(&[queue.as_str().into()], 4).await.expect("it is there");
    for text in ["a", "b", "c"] {
        publish(&*broker, &queue, text).await;
    }
    let first = next(&mut busy).await;
    // The worker takes one, and is busy with it; the others are not its own for ever.
    let mut idle = other.consume(&[queue.as_str().into()], 4).await.expect("it is there");
    let mut taken = Vec::new();
    for _ in 0..2 {
        let delivery = next(&mut idle).await;
        assert!(delivery.redelivered, "it was given back");
        taken.push(delivery.message.body.to_vec());
        delivery.acker.ack();
    }
    assert_eq!(taken, [b"b".to_vec(), b"c".to_vec()]);
    assert!(busy.control.is_live(), "to rest is not to be ill");
    idle.control.close().await;
    first.acker.ack();
    publish(&*broker, &queue, "d").await;
    let fourth = next(&mut busy).await;
    assert_eq!((&*fourth.message.body, fourth.redelivered), (&b"d"[..], false), "when it comes, it is given more");
    fourth.acker.ack();
    // Told to rest, it does so at once. RabbitMQ counts it among the consumers until it has settled what it had.
    busy.control.fetch_control().expect("RabbitMQ has it").suspend_fetching().await;
    wait_for_stats(&*other, &queue, QueueStats::new(0, 0)).await;
    publish(&*broker, &queue, "e").await;
    wait_for_stats(&*other, &queue, QueueStats::new(1, 0)).await;
    let fifth = next(&mut busy).await;
    assert_eq!((&*fifth.message.body, fifth.redelivered), (&b"e"[..], false), "nobody had it before it came");
    broker.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_fetches_what_there_is_room_for() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let broker = fixture.client.broker();
    let queue = unique("room");
    broker.declare(&QueueSpec::quorum(queue.as_str())).await.expect("it can be declared");
    for number in 0..10 {
        publish(&**broker, &queue, &number.to_string()).await;
    }
    let mut busy = broker.consume(&[queue.as_str().into()], 4).await.expect("it is there");
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(next(&mut busy).await.acker);
    }
    busy.control.fetch_control().expect("RabbitMQ has it").suspend_fetching().await;
    running.remove(0).ack();
    running.push(next(&mut busy).await.acker);
    // What a cancelled consumer had does not count for the next; so the next is to ask for one only.
    let seen = |ready, unacked| {
        wait_until(&format!("{ready} are ready, {unacked} out"), || {
            (fixture.vhost.queues()[&queue] == Count { ready, unacked }).then_some(())
        });
    };
    seen(5, 4);
    // And for more when there is more room.
    for acker in running.drain(..) {
        acker.ack();
    }
    for _ in 0..4 {
        running.push(next(&mut busy).await.acker);
    }
    seen(1, 4);
    busy.control.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_waits_is_nothing_to_give_back() {
    let Some(servers) = Servers::from_env() else { return };
    let broker = connect(&servers.amqp, Duration::from_secs(8)).await;
    let (full, empty) = (unique("full"), unique("empty"));
    let mut consumptions = Vec::new();
    for (queue, texts) in [(&empty, &["a"][..]), (&full, &["a", "b"])] {
        broker.declare(&QueueSpec::quorum(queue.as_str())).await.expect("it can be declared");
        for text in texts {
            publish(&*broker, queue, text).await;
        }
        let mut consumption = broker.consume(&[queue.as_str().into()], 2).await.expect("it is there");
        let running = next(&mut consumption).await;
        consumptions.push((consumption, running));
    }
    // Nobody reads any more. What waits is given back; who has nothing waiting goes on fetching, though it is as old.
    wait_for_stats(&*broker, &full, QueueStats::new(1, 1)).await;
    publish(&*broker, &empty, "b").await;
    wait_for_stats(&*broker, &empty, QueueStats::new(0, 1)).await;
    broker.close().await;
}

/// The lines in which a broker says that it closed a channel over a delivery that was not acknowledged. It also closes
/// those on which it was asked for a queue that is not there; they are there to be closed.
fn channel_closes(servers: &PrivateServers) -> Vec<String> {
    let log = servers.broker_log();
    let closes = log.lines().filter(|line| line.contains("channel exception") && line.contains("timed out"));
    closes.map(str::to_owned).collect()
}

/// A RabbitMQ that waits for a minute; it looks once a minute, and supports no less.
fn impatient() -> Option<PrivateServers> {
    PrivateServers::start_with("consumer_timeout = 60000\n")
}

async fn client_of(servers: &Servers) -> Client {
    let builder = Client::builder().broker(&servers.amqp).results(&servers.redis);
    builder.build().await.expect("the servers are up")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes seven minutes"]
async fn tasks_of_three_minutes_under_a_timeout_of_one_run_once() {
    const LONG_MS: u64 = 180_000;
    const ALL: Duration = Duration::from_secs(900);
    let Some(own) = impatient() else { return };
    let (client, notes) = (client_of(&own.servers).await, Ledger::new());
    let app = App::new(SHOP).servers(&own.servers).env("TASKQ_CONSUMER_TIMEOUT", "60s");
    // One with slots to spare, under a stream of short tasks; one whose slots are all taken, so that others wait.
    let mixed = start(&app, &["-c", "8", "-Q", "mixed"]);
    let full = start(&app, &["-c", "2", "-Q", "full,beside"]);
    send(&client, "mixed", notes.path(), lines("mixed-long", 5), LONG_MS).await;
    send(&client, "full", notes.path(), lines("full-long", 4), LONG_MS).await;
    send(&client, "beside", notes.path(), lines("beside", 10), 10).await;
    let began = Instant::now();
    let mut short = 0;
    while began.elapsed() < Duration::from_secs(170) {
        send(&client, "mixed", notes.path(), [format!("short-{short}")], 100).await;
        short += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let expected = each_once(&[("mixed-long", 5), ("full-long", 4), ("beside", 10), ("short", short)]);
    wait_within("every task has run", ALL, || (notes.counts().len() == expected.len()).then_some(()));
    let took = began.elapsed();
    let logs = [mixed.drain(), full.drain()];
    let (counts, closes) = (notes.counts(), channel_closes(&own));
    let (effects, duplicated) = (counts.values().sum::<usize>(), counts.values().filter(|count| **count > 1).count());
    println!(
        "9 tasks of 180 s and {} short ones, consumer_timeout 60 s: {effects} effects, {duplicated} duplicated",
        short + 10
    );
    println!("channels closed by the broker: {}; all done after {} s", closes.len(), took.as_secs());
    assert_eq!(counts, expected);
    assert_eq!(closes, Vec::<String>::new());
    for ended in logs {
        assert!(is_calm(&ended), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes four minutes"]
async fn a_broker_that_waits_less_than_the_setting_says_is_told_of() {
    let Some(own) = impatient() else { return };
    let (client, notes) = (client_of(&own.servers).await, Ledger::new());
    let info = client.broker().info().await.expect("it tells");
    let is_asked = info.capabilities.iter().any(|line| line.contains("consumers set their own timeout"));
    let worker = start(&App::new(SHOP).servers(&own.servers), &["-c", "2", "-Q", "long"]);
    send(&client, "long", notes.path(), lines("long", 1), 150_000).await;
    wait_within("it has run", Duration::from_secs(600), || notes.counts().contains_key("long-0").then_some(()));
    let closes = channel_closes(&own);
    let ended = worker.drain();
    println!("with the setting at 30 min the broker closed {} channels; {} effects", closes.len(), notes.len());
    if is_asked {
        assert_eq!((closes, notes.len()), (Vec::new(), 1), "the worker has asked for more time");
        assert!(is_calm(&ended), "{ended}");
        return;
    }
    assert!(!closes.is_empty(), "{ended}");
    assert!(ended.stderr.contains("TASKQ_CONSUMER_TIMEOUT") && ended.stderr.contains("timed out"), "{ended}");
}
