//! The whole path with a worker in a process of its own, over real RabbitMQ and Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;
use taskq::{Client, Error};
use taskq_tests::harness::{App, BOUND, Ledger, ServerFixture, unique};
use taskq_tests::tasks;
use tokio::time::{sleep, timeout};

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// How many results are waited for side by side.
const WAITING_MAX: usize = 256;

/// Ten thousand tasks on a queue of this kind: all confirmed, all results right.
async fn ten_thousand(kind: &str) {
    const TASKS: i64 = 10_000;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique(kind);
    let settings = std::env::temp_dir().join(unique("taskq-settings"));
    std::fs::write(&settings, format!("[queues.\"{queue}\"]\nkind = \"{kind}\"\n")).expect("a file can be written");
    let servers = &fixture.vhost.servers;
    let client = Client::builder().config_file(&settings).broker(&servers.amqp).results(&servers.redis).build().await;
    let client = client.expect("the servers are up");
    let config = settings.to_str().expect("the temporary folder has a Unicode path");
    let mut worker = fixture.app().start(&["worker", "-c", "8", "-Q", &queue, "-l", "warn", "--config", config]);
    worker.wait_until_ready();

    let report = client.send_all((0..TASKS).map(|n| tasks::add(n, 2 * n).queue(queue.clone()))).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let mut sent = BTreeMap::new();
    let waits = report.sent.into_iter().map(|(index, handle)| async move { (index, handle.get_timeout(BOUND).await) });
    let mut results = stream::iter(waits).buffer_unordered(WAITING_MAX);
    while let Some((index, sum)) = results.next().await {
        sent.insert(index, sum.expect("every task succeeds"));
    }
    assert_eq!(sent.len() as i64, TASKS);
    for (index, sum) in sent {
        assert_eq!(sum, 3 * index as i64, "the result of call {index}");
    }
    assert!(!worker.stderr().contains("other arguments"), "the queue is of the kind that was asked for");
    worker.drain();
    assert_eq!(client.broker().stats(&queue).await.expect("it exists").ready, 0);
    drop(std::fs::remove_file(settings));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_over_a_quorum_queue() {
    ten_thousand("quorum").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_over_a_classic_queue() {
    ten_thousand("classic").await;
}

/// A channel that does what it is told, past everything of ours.
async fn raw(fixture: &ServerFixture) -> Channel {
    let url = &fixture.vhost.servers.amqp;
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    // The connection closes when it is dropped; it may last as long as the test.
    std::mem::forget(connection);
    channel
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_by_the_client() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let refused = tasks::letter("x".repeat(20 << 20)).send(&fixture.client).await;
    let Err(Error::Publish(error)) = refused else { panic!("20 MB are too much: {refused:?}") };
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_call_is_sent_once_whichever_clients_race() {
    const ROUNDS: usize = 20;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, ledger) = (unique("unique"), Ledger::new());
    let worker = fixture.worker(&[&queue]);
    let other = fixture.client_with(&[]).await;
    for round in 0..ROUNDS {
        let key = unique("key");
        let call = || tasks::ledger(ledger.path(), round.to_string(), 0).queue(queue.clone()).unique(key.clone(), "1h");
        let racing = (0..10).map(|racer| call().send(if racer % 2 == 0 { &fixture.client } else { &other }));
        let handles = join_all(racing).await;
        let ids: BTreeSet<_> =
            handles.into_iter().map(|handle| handle.expect("each has a handle").id().to_string()).collect();
        assert_eq!(ids.len(), 1, "one task for all of them: {ids:?}");
        let first = call().send(&other).await.expect("it has a handle");
        first.get_timeout(BOUND).await.expect("it succeeds");
        let late = call().send(&fixture.client).await.expect("it has a handle");
        assert!(ids.contains(late.id().as_str()), "the finished one has the key");
    }
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().max()), (ROUNDS, Some(&1)), "{counts:?}");
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_may_be_written_as_msgpack() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("msgpack");
    let client = fixture.client_with(&[("serializer", "msgpack")]).await;
    // Before there is a worker, the message can be looked at.
    let value = json!({ "text": "ä😀\u{0}", "numbers": [0, -1, u64::MAX, i64::MIN, 0.1], "nested": { "none": null, "flags": [true, false] } });
    let echo = tasks::echo(value.clone()).queue(queue.clone()).send(&client).await.expect("it is accepted");
    let browse = client.broker().browse(&queue, 1).await.expect("the queue exists");
    assert_eq!(browse.deliveries[0].message.properties.content_type.as_deref(), Some("application/x-msgpack"));
    browse.finish().await;
    let worker = fixture.worker(&[&queue]);
    assert_eq!(echo.get_timeout(BOUND).await.expect("it succeeds"), value);
    let items = vec![tasks::Item { name: "tea".to_owned(), count: 3, cents: 250 }];
    let price = tasks::price(items).queue(queue.clone()).send(&client).await.expect("it is accepted");
    assert_eq!(price.get_timeout(BOUND).await.expect("it succeeds"), 750);
    // A retry passes the body on.
    let flaky = tasks::flaky(2, 10).queue(queue.clone()).send(&client).await.expect("it is accepted");
    assert_eq!(flaky.get_timeout(BOUND).await.expect("the third attempt succeeds"), 2);
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_exists_with_other_arguments_is_named() {
    // The broker names the first of several.
    const NAMED: &str = "`x-dead-letter-exchange` is none, asked for";
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("other");
    let channel = raw(&fixture).await;
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .expect("a new queue can be declared");
    let mut worker = fixture.worker(&[&queue]);
    worker.wait_for("the difference is named", |worker| {
        let log = worker.stderr();
        (log.contains(&queue) && log.contains(NAMED)).then_some(())
    });
    let sum = tasks::add(2, 3).queue(queue.clone()).send(&fixture.client).await.expect("the queue is used as it is");
    assert_eq!(sum.get_timeout(BOUND).await.expect("it succeeds"), 5);
    let late = tasks::add(3, 4).queue(queue.clone()).countdown("200ms").send(&fixture.client).await.expect("accepted");
    assert_eq!(late.get_timeout(BOUND).await.expect("delays reach it, too"), 7);
    worker.drain();

    let strict = fixture.app().env("TASKQ_STRICT", "true").run(&["worker", "-Q", &queue]);
    assert_ne!(strict.exit, 0, "{strict}");
    assert!(strict.stderr.contains(&queue) && strict.stderr.contains(NAMED), "{strict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_more_often_than_its_queue_allows_is_in_the_dead_set() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, channel) = (unique("limit"), raw(&fixture).await);
    let sum = tasks::add(2, 3).queue(queue.clone()).send(&fixture.client).await.expect("it is accepted");
    channel.basic_qos(1, BasicQosOptions::default()).await.expect("the channel is open");
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.as_str().into(), "tired".into(), options, arguments).await;
    let mut consumer = consumer.expect("the queue exists");
    let mut returns = 0;
    let give_back = async {
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery.expect("the channel stays open");
            // From RabbitMQ 4.3 on `basic.nack` does not count.
            delivery.acker.reject(BasicRejectOptions { requeue: true }).await.expect("the channel stays open");
            returns += 1;
        }
    };
    let is_dead = async {
        loop {
            if let Some(entry) = fixture.client.dead().list(10).await.expect("the dead set can be read").pop() {
                return entry;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let entry = timeout(BOUND, async {
        tokio::select! {
            entry = is_dead => entry,
            () = give_back => panic!("the stream ended"),
        }
    });
    let entry = entry.await.expect("the broker gives up in the end");
    println!("given back {returns} times, then dead as {:?}", entry.letter.reason);
    assert!(returns > 1000, "not before the limit of the queue: {returns}");
    assert_eq!((entry.id.as_ref(), &*entry.letter.reason), (Some(sum.id()), "delivery_limit"));
    assert_eq!((&*entry.letter.queue, entry.letter.error.is_empty()), (&*queue, false), "{entry:?}");
    channel.basic_cancel("tired".into(), BasicCancelOptions::default()).await.expect("it consumes");

    fixture.app().run(&["dead", "retry", sum.id().as_str()]).expect_exit(0);
    let worker = fixture.worker(&[&queue]);
    assert_eq!(sum.get_timeout(BOUND).await.expect("nothing of it was lost"), 5);
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_put_the_dead_set_back_at_once_start_each_task_once() {
    const TASKS: usize = 200;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, ledger) = (unique("back"), Ledger::new());
    let fail = |n: usize| tasks::ledger_fail(ledger.path(), n.to_string(), 0).queue(queue.clone());
    fixture.client.send_all((0..TASKS).map(fail)).await.all().expect("they are accepted");
    let worker = fixture.worker(&[&queue]);
    let dead = async |count: usize| {
        let found = async {
            while fixture.client.dead().list(usize::MAX).await.expect("the dead set can be read").len() != count {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(BOUND, found).await.unwrap_or_else(|_| panic!("there are never {count} in the dead set"));
    };
    dead(TASKS).await;
    worker.drain();
    let racing = [(); 2].map(|()| fixture.app().start(&["dead", "retry", "--all"]));
    let put_back = racing.map(|racer| racer.finish().expect_exit(0).json()["count"].as_u64().expect("a number"));
    println!("{TASKS} dead tasks, put back by two at once: {put_back:?}");
    assert_eq!(put_back.iter().sum::<u64>(), TASKS as u64);
    let worker = fixture.worker(&[&queue]);
    dead(TASKS).await;
    worker.drain();
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().min(), counts.values().max()), (TASKS, Some(&2), Some(&2)), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_costs_no_task() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("full");
    // A full disk, under everything that the worker and its children write.
    let start = format!("exec {SHOP} worker -l debug -Q {queue} >/dev/full 2>&1");
    let worker = App::new("/bin/sh").servers(&fixture.vhost.servers).start(&["-c", &start]);
    let calls = (0..500).map(|n| tasks::add(n, n).queue(queue.clone()));
    let report = fixture.client.send_all(calls).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    for (n, handle) in report.sent {
        assert_eq!(handle.get_timeout(BOUND).await.expect("it succeeds"), 2 * n as i64);
    }
    let fails = tasks::fail("no shelf").queue(queue.clone()).send(&fixture.client).await.expect("accepted");
    fails.get_timeout(BOUND).await.expect_err("it fails, which is logged");
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tasks_share_is_made_by_each_process_that_runs_them() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("shared");
    for how in [&["--processes", "2"][..], &["--unsupervised"]] {
        let mut worker = fixture.app().start(&[&["worker", "-Q", &queue, "-l", "warn"], how].concat());
        worker.wait_until_ready();
        let calls = (0..20).map(|_| tasks::stock().queue(queue.clone()));
        for (_, handle) in fixture.client.send_all(calls).await.sent {
            let (made_in, run_in) = handle.get_timeout(BOUND).await.expect("it is there");
            assert_eq!(made_in, run_in, "{how:?}");
        }
        worker.drain();
        let app = fixture.app().env("SHOP_SETUP_FAILS", "the shelves are locked");
        let refused = app.run(&[&["worker", "-Q", &queue], how].concat()).expect_exit(4);
        assert!(refused.stderr.contains("the shelves are locked"), "{refused}");
    }
    // What runs no tasks needs nothing of it.
    fixture.app().env("SHOP_SETUP_FAILS", "the shelves are locked").run(&["queues", "list"]).expect_exit(0);
}
