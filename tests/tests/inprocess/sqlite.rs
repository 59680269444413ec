//! The promises of a file beyond the ports: between processes, and when something is wrong with it.
//!
//! "Another process" is a client of its own on the same file: it shares neither threads nor connections.

use std::collections::HashMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use rusqlite::Connection;
use taskq::backend::sqlite::SqliteBackend;
use taskq::backend::{BackendError, BackendOptions, Kv, ResultBackend, ResultBackendExt};
use taskq::broker::sqlite::SqliteBroker;
use taskq::broker::{Broker, BrokerError, BrokerOptions, Consumption, Delivery, Publication, PublishError, QueueSpec};
use taskq::message::{Record, TaskState, WireMessage};
use taskq::{TaskId, backend, broker};
use taskq_tests::harness::{BOUND, unique};
use tokio::time::{Instant, sleep, timeout};

/// A file in a folder of one test's own, deleted with it.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("taskq-sqlite"));
        fs::create_dir(&folder).expect("the temporary folder can be written");
        Self(folder.join("taskq.db"))
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    /// A broker as another process would have it.
    async fn broker(&self) -> Arc<SqliteBroker> {
        let broker = SqliteBroker::connect_alone(&self.url(), BrokerOptions::default()).await;
        broker.expect("the file can be used")
    }

    /// A backend as another process would have it.
    async fn backend(&self) -> SqliteBackend {
        let backend = SqliteBackend::connect_alone(&self.url(), &BackendOptions::default()).await;
        backend.expect("the file can be used")
    }

    /// The file as SQLite has it.
    fn plain(&self) -> Connection {
        let connection = Connection::open(&self.0).expect("the file is there");
        connection.busy_timeout(BOUND).expect("a time-out is a number");
        connection
    }

    fn count(&self, table: &str) -> i64 {
        self.plain().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it is a table")
    }

    /// Waits until nobody has it open: the last process to close it deletes the log.
    async fn closed(&self) {
        let log = format!("{}-wal", self.0.display());
        until("the file is closed", async || {
            // Where two close it at the same time, neither is the last; this one is, once they have.
            self.count("queues");
            !fs::exists(&log).expect("the folder can be read")
        })
        .await;
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let folder = self.0.parent().expect("it is in a folder");
        // What is left in the temporary folder is no test's concern.
        drop(fs::remove_dir_all(folder));
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < BOUND, "still not after {BOUND:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn queue(broker: &SqliteBroker, name: &str) -> Arc<str> {
    broker.declare(&QueueSpec::quorum(name)).await.expect("the queue can be made");
    name.into()
}

fn publication(queue: &Arc<str>, body: impl Into<String>) -> Publication {
    let message = WireMessage { body: body.into().into(), ..WireMessage::default() };
    Publication::new(Arc::clone(queue), message)
}

async fn consume(broker: &SqliteBroker, queue: &Arc<str>, prefetch: u16) -> Consumption {
    broker.consume(std::slice::from_ref(queue), prefetch).await.expect("the queue exists")
}

async fn next(consumption: &mut Consumption) -> Delivery {
    let next = timeout(BOUND, consumption.deliveries.next()).await;
    next.expect("a message comes").expect("the stream goes on")
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("all bodies here are text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_processes_pass_twenty_thousand_messages_once_each() {
    const EACH: usize = 10_000;
    let file = File::new();
    let (producer, one, other) = (file.broker().await, file.broker().await, file.broker().await);
    let orders = queue(&producer, "orders").await;
    let producers = ["a", "b"].map(|prefix| {
        let (producer, orders) = (Arc::clone(&producer), Arc::clone(&orders));
        tokio::spawn(async move {
            for batch in 0..EACH / 100 {
                let numbers = batch * 100..(batch + 1) * 100;
                let answers = numbers.map(|number| producer.publish(publication(&orders, format!("{prefix}{number}"))));
                for answer in join_all(answers).await {
                    answer.expect("the queue exists");
                }
            }
        })
    });
    let mut consumptions = [consume(&one, &orders, 100).await, consume(&other, &orders, 100).await];
    let mut seen = HashMap::new();
    let mut shares = [0_usize; 2];
    let [first, second] = &mut consumptions;
    while seen.len() < 2 * EACH {
        let (at, delivery) = tokio::select! {
            delivery = next(first) => (0, delivery),
            delivery = next(second) => (1, delivery),
        };
        shares[at] += 1;
        let earlier = seen.insert(body(&delivery), at);
        assert!(earlier.is_none() && !delivery.redelivered, "{} came twice", body(&delivery));
        delivery.acker.ack();
    }
    for producer in producers {
        producer.await.expect("it does not panic");
    }
    for consumption in consumptions {
        consumption.control.close().await;
    }
    println!("shares of two consumers: {shares:?}");
    assert!(shares.iter().all(|&share| share > 0), "one got everything: {shares:?}");
    for table in ["messages", "ready", "held", "delayed", "leases", "consumers"] {
        assert_eq!(file.count(table), 0, "{table}");
    }
}

#[tokio::test]
async fn a_message_wakes_the_consumer_of_another_process() {
    let file = File::new();
    let (producer, consumer) = (file.broker().await, file.broker().await);
    let orders = queue(&producer, "orders").await;
    let mut consumption = consume(&consumer, &orders, 10).await;
    let mut took = Vec::new();
    for number in 0..50 {
        let begun = Instant::now();
        producer.publish(publication(&orders, number.to_string())).await.expect("the queue exists");
        let delivery = next(&mut consumption).await;
        took.push(begun.elapsed());
        assert_eq!(body(&delivery), number.to_string());
        delivery.acker.ack();
    }
    took.sort();
    println!("to an idle consumer of another process: median {:?}, at most {:?}", took[took.len() / 2], took[49]);
    consumption.control.close().await;
}

#[tokio::test]
async fn messages_of_a_killed_process_come_back() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    for number in 0..20 {
        broker.publish(publication(&orders, number.to_string())).await.expect("the queue exists");
    }
    // What a process leaves that had taken ten of them and was killed more than a lease ago.
    let left = "BEGIN IMMEDIATE;
        INSERT INTO leases (lease, until) VALUES (7, 1);
        INSERT INTO consumers (lease, queue) SELECT 7, id FROM queues;
        INSERT INTO held (lease, id, queue, rank, returns) SELECT 7, id, queue, rank, returns FROM ready ORDER BY id LIMIT 10;
        DELETE FROM ready WHERE id IN (SELECT id FROM held);
        COMMIT;";
    file.plain().execute_batch(left).expect("the tables are as they were");
    assert_eq!(broker.stats("orders").await.expect("the queue exists").consumers, 0);
    let mut consumption = consume(&broker, &orders, 100).await;
    for number in 0..20 {
        let delivery = next(&mut consumption).await;
        assert_eq!((body(&delivery), delivery.redelivered), (number.to_string(), number < 10));
        delivery.acker.ack();
    }
    // The same while the consumer is idle: nobody tells it, and the time comes by itself.
    broker.publish(publication(&orders, "last")).await.expect("the queue exists");
    let held = next(&mut consumption).await;
    let soon = taskq_tests::harness::now_ms() + 200;
    let moved = format!(
        "BEGIN IMMEDIATE; INSERT INTO leases (lease, until) VALUES (8, {soon}); UPDATE held SET lease = 8; COMMIT;"
    );
    file.plain().execute_batch(&moved).expect("the tables are as they were");
    let again = next(&mut consumption).await;
    assert!(again.redelivered && body(&again) == "last");
    drop(held);
    again.acker.ack();
    consumption.control.close().await;
    assert_eq!((file.count("messages"), file.count("leases")), (0, 0));
}

#[tokio::test]
async fn a_consumer_that_lost_its_lease_begins_anew() {
    let file = File::new();
    let (suspended, other) = (file.broker().await, file.broker().await);
    let orders = queue(&suspended, "orders").await;
    for number in 0..20 {
        suspended.publish(publication(&orders, number.to_string())).await.expect("the queue exists");
    }
    let mut before = consume(&suspended, &orders, 10).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(next(&mut before).await);
    }
    // What others do with the messages of a process that slept for longer than its lease.
    let taken_over = "BEGIN IMMEDIATE;
        INSERT INTO ready (queue, rank, id, returns) SELECT queue, rank, id, returns + 1 FROM held;
        DELETE FROM held; DELETE FROM leases; DELETE FROM consumers;
        COMMIT;";
    file.plain().execute_batch(taken_over).expect("the tables are as they were");
    let mut after = consume(&other, &orders, 10).await;
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(next(&mut after).await);
    }
    assert!(taken.iter().all(|delivery| delivery.redelivered), "the first ten were read before");
    // The first one notices when it settles, and what it settles has no effect.
    held.remove(0).acker.ack();
    until("the first consumer notices", async || !held[0].acker.is_current()).await;
    for delivery in held {
        delivery.acker.ack();
    }
    for _ in 0..10 {
        let delivery = next(&mut before).await;
        assert!(!delivery.redelivered, "{} is new to all", body(&delivery));
        delivery.acker.ack();
    }
    before.control.close().await;
    assert_eq!(file.count("messages"), 10, "the other's messages are still there");
    assert!(taken.iter().all(|delivery| delivery.acker.is_current()));
    for delivery in taken {
        delivery.acker.ack();
    }
    after.control.close().await;
    assert_eq!(file.count("messages"), 0);
}

#[tokio::test]
async fn larger_priorities_come_first() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    for (number, priority) in [None, Some(3), Some(0), Some(9), Some(3)].into_iter().enumerate() {
        let mut publication = publication(&orders, number.to_string());
        publication.message.properties.priority = priority;
        broker.publish(publication).await.expect("the queue exists");
    }
    let mut consumption = consume(&broker, &orders, 1).await;
    for expected in ["3", "1", "4", "0", "2"] {
        let delivery = next(&mut consumption).await;
        assert_eq!(body(&delivery), expected);
        delivery.acker.ack();
    }
    consumption.control.close().await;
}

#[tokio::test]
async fn a_watcher_of_another_process_gets_every_end() {
    let file = File::new();
    let (worker, watcher) = (file.backend().await, file.backend().await);
    let ids: Vec<TaskId> = (0..500).map(|_| TaskId::new()).collect();
    let mut watches = Vec::new();
    for id in &ids {
        watches.push(watcher.watch(id).await.expect("the file can be read"));
    }
    for ids in ids.chunks(7) {
        let begun: Vec<Record> = ids.iter().map(|id| Record::new(id.clone(), TaskState::Started)).collect();
        worker.write(&begun).await.expect("the file can be written");
        let ended: Vec<Record> = ids.iter().map(|id| Record::new(id.clone(), TaskState::Success)).collect();
        worker.write(&ended).await.expect("the file can be written");
    }
    for watch in &mut watches {
        let end = async {
            while let Some(record) = watch.next().await {
                if record.expect("our own records can be read").state == TaskState::Success {
                    return;
                }
            }
            panic!("the watch ended early");
        };
        timeout(BOUND, end).await.expect("every task ends");
    }
}

#[tokio::test]
async fn what_expired_is_deleted() {
    let file = File::new();
    let options = BackendOptions::default().with(|options| options.result_ttl = Some(Duration::from_millis(50)));
    let backend = SqliteBackend::connect(&file.url(), &options).await.expect("the file can be made");
    let write = async |count: usize| {
        let records: Vec<Record> = (0..count).map(|_| Record::new(TaskId::new(), TaskState::Success)).collect();
        backend.write(&records).await.expect("the file can be written");
    };
    write(3000).await;
    let last = Record::new(TaskId::new(), TaskState::Failure);
    backend.write(std::slice::from_ref(&last)).await.expect("the file can be written");
    until("the record expires", async || backend.read_one(&last.id).await.expect("it can be read").is_none()).await;
    // Each time a larger piece is swept than was written.
    until("the expired records are gone", async || {
        write(1000).await;
        let first: i64 = file
            .plain()
            .query_row("SELECT count(*) FROM results WHERE number <= 3001", [], |row| row.get(0))
            .expect("it is a table");
        first == 0
    })
    .await;
    for number in 0..10 {
        backend.put(&format!("old {number}"), "".into(), Some(Duration::from_millis(1))).await.expect("it works");
    }
    until("expired facts are gone", async || {
        backend.put("new", "".into(), None).await.expect("it works");
        file.count("kv") == 1
    })
    .await;
}

/// Connects, and gives the error as a person sees it.
async fn refusal(url: &str) -> String {
    let as_broker = broker::connect(url, BrokerOptions::default()).await.expect_err("it cannot be used");
    let as_backend = backend::connect(url, BackendOptions::default()).await.expect_err("it cannot be used");
    let said = as_broker.to_string();
    assert!(matches!(as_broker, BrokerError::Url { .. }), "{as_broker:?}");
    assert!(!said.contains('\n') && !as_backend.to_string().contains('\n'));
    said
}

#[tokio::test]
async fn files_that_cannot_be_used_say_so() {
    let file = File::new();
    let folder = file.0.parent().expect("it is in a folder").display().to_string();
    assert!(refusal(&format!("sqlite:{folder}/no/such/taskq.db")).await.contains("mkdir -p"));
    assert!(refusal(&format!("sqlite:{folder}")).await.contains("cannot be opened"));

    fs::write(format!("{folder}/text.db"), "This is a text, and not a short one.\n".repeat(500))
        .expect("it can be written");
    assert!(refusal(&format!("sqlite:{folder}/text.db")).await.contains("not an SQLite file"));

    let foreign = Connection::open(format!("{folder}/shop.db")).expect("it can be made");
    foreign.execute_batch("CREATE TABLE customers (name TEXT)").expect("it can be written");
    assert!(refusal(&format!("sqlite:{folder}/shop.db")).await.contains("another program"));
    let mode: String = foreign.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("it has one");
    assert_eq!(mode, "delete", "a file of another program stays as it is");

    file.broker().await.close().await;
    file.plain().pragma_update(None, "user_version", 1_000_000).expect("it can be written");
    assert!(refusal(&file.url()).await.contains("newer taskq"));
}

#[tokio::test]
async fn code_in_a_file_is_not_run_and_the_next_process_refuses_the_file() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    let backend = file.backend().await;
    let code = "CREATE TABLE spied (body); CREATE TRIGGER spy AFTER INSERT ON messages BEGIN INSERT INTO spied VALUES \
                (NEW.body); END; CREATE TRIGGER spy_kv AFTER INSERT ON kv BEGIN INSERT INTO spied VALUES (NEW.value); END";
    file.plain().execute_batch(code).expect("it can be written");
    broker.publish(publication(&orders, "secret")).await.expect("the queue exists");
    backend.put("key", "secret".into(), None).await.expect("it works");
    assert_eq!((file.count("messages"), file.count("kv"), file.count("spied")), (1, 1, 0));
    let said = refusal(&file.url()).await;
    for words in ["the trigger \"spy\" on \"messages\"", "nothing of it was run", "DROP TRIGGER"] {
        assert!(said.contains(words), "{said}");
    }
    file.plain().execute_batch("DROP TRIGGER spy; DROP TRIGGER spy_kv").expect("it can be written");
    file.broker().await.close().await;
}

#[tokio::test]
async fn a_locked_file_is_waited_for() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    let mut consumption = consume(&broker, &orders, 10).await;
    let locker = file.plain();
    locker.execute_batch("BEGIN IMMEDIATE").expect("nobody writes");
    let mut answer = broker.publish(publication(&orders, "late"));
    let early = timeout(Duration::from_millis(300), &mut answer).await;
    assert!(early.is_err(), "it was accepted while the file was locked: {early:?}");
    locker.execute_batch("ROLLBACK").expect("it is under way");
    answer.await.expect("the file is free");
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "late");
    delivery.acker.ack();
    consumption.control.close().await;
}

#[tokio::test]
async fn a_deleted_file_is_an_error_and_nothing_is_lost_silently() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    broker.publish(publication(&orders, "before")).await.expect("the queue exists");
    let mut consumption = consume(&broker, &orders, 10).await;
    let delivery = next(&mut consumption).await;
    fs::remove_file(&file.0).expect("it is there");
    let error = broker.publish(publication(&orders, "after")).await.expect_err("it would be lost");
    assert!(with_causes(&error).contains("was deleted or replaced"), "{}", with_causes(&error));
    delivery.acker.ack();
    until("the consumption says that it does not work", async || !consumption.control.is_live()).await;
    timeout(BOUND, consumption.control.close()).await.expect("closing does not wait for the file");
    // A client that connects now means the new file.
    let anew = file.broker().await;
    let error = anew.stats("orders").await.expect_err("the new file is empty");
    assert!(matches!(error, BrokerError::NoQueue { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_page_is_an_error() {
    let file = File::new();
    let broker = file.broker().await;
    let orders = queue(&broker, "orders").await;
    for number in 0..500 {
        broker.publish(publication(&orders, number.to_string())).await.expect("the queue exists");
    }
    drop(broker);
    file.closed().await;
    let plain = file.plain();
    let page: i64 = plain
        .query_row("SELECT rootpage FROM sqlite_master WHERE name = 'ready'", [], |row| row.get(0))
        .expect("it is a table");
    let size: i64 = plain.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("it has one");
    drop(plain);
    file.closed().await;
    let mut bytes = fs::File::options().write(true).open(&file.0).expect("it is there");
    bytes.seek(SeekFrom::Start(((page - 1) * size).unsigned_abs())).expect("it is large enough");
    bytes.write_all(&[0xff; 512].repeat(8)).expect("it can be written");
    drop(bytes);

    let broker = file.broker().await;
    let error = broker.publish(publication(&orders, "x")).await.expect_err("the page is damaged");
    assert!(matches!(error, PublishError::Broker(_)), "{error:?}");
    assert!(with_causes(&error).contains("is damaged"), "{}", with_causes(&error));
    let error = broker.consume(&[orders], 10).await.err().expect("the page is damaged");
    assert!(with_causes(&error).contains(".recover"), "{}", with_causes(&error));
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_at_once() {
    let file = File::new();
    let backend = file.backend().await;
    let id = TaskId::new();
    let mut changes = backend.changes(&id).await.expect("the file can be used");
    let foreign = async {
        // As another program would write it, that knows of numbers.
        file.plain()
            .execute_batch(&format!(
                "BEGIN IMMEDIATE;
                 UPDATE counters SET value = value + 1 WHERE name = 'results';
                 INSERT INTO results SELECT value, '{id}', -1, NULL, x'7b7d' FROM counters WHERE name = 'results';
                 COMMIT;"
            ))
            .expect("it is a table");
    };
    let (waited, ()) = tokio::join!(backend.wait(&id, BOUND), foreign);
    let change = timeout(BOUND, changes.next()).await.expect("it is passed on");
    for error in [
        waited.map(drop).expect_err("it cannot be read"),
        change.expect("the stream goes on").map(drop).expect_err("it cannot be read"),
        backend.read_one(&id).await.map(drop).expect_err("it cannot be read"),
        backend.wait(&id, BOUND).await.map(drop).expect_err("it cannot be read"),
    ] {
        assert!(matches!(error, BackendError::UnreadableResult { .. }), "{error:?}");
        assert!(error.to_string().contains(id.as_str()), "{error}");
    }
}
