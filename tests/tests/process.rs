//! The whole path with a worker in a process of its own, over real RabbitMQ and Redis.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;
use taskq::{Client, Error};
use taskq_tests::harness::{BOUND, Bench, Ledger, unique};
use taskq_tests::tasks;

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// How many results are waited for side by side.
const WAITING_MAX: usize = 256;

/// Ten thousand tasks on a queue of this kind: all confirmed, all results right.
async fn ten_thousand(kind: &str) {
    const TASKS: i64 = 10_000;
    let Some(bench) = Bench::start(SHOP).await else { return };
    let queue = unique(kind);
    let settings = std::env::temp_dir().join(unique("taskq-settings"));
    std::fs::write(&settings, format!("[queues.\"{queue}\"]\nkind = \"{kind}\"\n")).expect("a file can be written");
    let servers = &bench.vhost.servers;
    let client = Client::builder().config_file(&settings).broker(&servers.amqp).results(&servers.redis).build().await;
    let client = client.expect("the servers are up");
    let config = settings.to_str().expect("the temporary folder has a Unicode path");
    let mut worker = bench.app().start(&["worker", "-c", "8", "-Q", &queue, "-l", "warn", "--config", config]);
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
async fn raw(bench: &Bench) -> Channel {
    let url = &bench.vhost.servers.amqp;
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    // The connection closes when it is dropped; it may last as long as the test.
    std::mem::forget(connection);
    channel
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_by_the_client() {
    let Some(bench) = Bench::start(SHOP).await else { return };
    let refused = tasks::letter("x".repeat(20 << 20)).send(&bench.client).await;
    let Err(Error::Publish(error)) = refused else { panic!("20 MB are too much: {refused:?}") };
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_call_is_sent_once_whichever_clients_race() {
    const ROUNDS: usize = 20;
    let Some(bench) = Bench::start(SHOP).await else { return };
    let (queue, ledger) = (unique("unique"), Ledger::new());
    let worker = bench.worker(&[&queue]);
    let other = bench.client_with(&[]).await;
    for round in 0..ROUNDS {
        let key = unique("key");
        let call = || tasks::ledger(ledger.path(), round.to_string(), 0).queue(queue.clone()).unique(key.clone(), "1h");
        let racing = (0..10).map(|racer| call().send(if racer % 2 == 0 { &bench.client } else { &other }));
        let handles = join_all(racing).await;
        let ids: BTreeSet<_> =
            handles.into_iter().map(|handle| handle.expect("each has a handle").id().to_string()).collect();
        assert_eq!(ids.len(), 1, "one task for all of them: {ids:?}");
        let first = call().send(&other).await.expect("it has a handle");
        first.get_timeout(BOUND).await.expect("it succeeds");
        let late = call().send(&bench.client).await.expect("it has a handle");
        assert!(ids.contains(late.id().as_str()), "the finished one has the key");
    }
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().max()), (ROUNDS, Some(&1)), "{counts:?}");
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_may_be_written_as_msgpack() {
    let Some(bench) = Bench::start(SHOP).await else { return };
    let queue = unique("msgpack");
    let client = bench.client_with(&[("serializer", "msgpack")]).await;
    // Before there is a worker, the message can be looked at.
    let value = json!({ "text": "ä😀\u{0}", "numbers": [0, -1, u64::MAX, i64::MIN, 0.1], "nested": { "none": null, "flags": [true, false] } });
    let echo = tasks::echo(value.clone()).queue(queue.clone()).send(&client).await.expect("it is accepted");
    let browse = client.broker().browse(&queue, 1).await.expect("the queue exists");
    assert_eq!(browse.deliveries[0].message.properties.content_type.as_deref(), Some("application/x-msgpack"));
    browse.finish().await;
    let worker = bench.worker(&[&queue]);
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
    let Some(bench) = Bench::start(SHOP).await else { return };
    let queue = unique("other");
    let channel = raw(&bench).await;
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .expect("a new queue can be declared");
    let mut worker = bench.worker(&[&queue]);
    worker.wait_for("the difference is named", |worker| {
        let log = worker.stderr();
        (log.contains(&queue) && log.contains(NAMED)).then_some(())
    });
    let sum = tasks::add(2, 3).queue(queue.clone()).send(&bench.client).await.expect("the queue is used as it is");
    assert_eq!(sum.get_timeout(BOUND).await.expect("it succeeds"), 5);
    let late = tasks::add(3, 4).queue(queue.clone()).countdown("200ms").send(&bench.client).await.expect("accepted");
    assert_eq!(late.get_timeout(BOUND).await.expect("delays reach it, too"), 7);
    worker.drain();

    let strict = bench.app().env("TASKQ_STRICT", "true").run(&["worker", "-Q", &queue]);
    assert_ne!(strict.exit, 0, "{strict}");
    assert!(strict.stderr.contains(&queue) && strict.stderr.contains(NAMED), "{strict}");
}
