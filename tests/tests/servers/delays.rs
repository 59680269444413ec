//! Delays over real RabbitMQ: nothing runs before its time, and what waits, waits in the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use taskq::TaskId;
use taskq::broker::QueueSpec;
use taskq::client::DeadFilter;
use taskq_tests::harness::{BOUND, Ledger, ServerFixture, now_ms, unique, wait_until};
use taskq_tests::tasks;

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// How late things were, in words.
fn lateness(what: &str, mut late_ms: Vec<u64>) {
    late_ms.sort_unstable();
    let (half, most) = (late_ms[late_ms.len() / 2], late_ms[late_ms.len() - 1]);
    println!("{what}: {} ran late by {half} ms in the median and {most} ms at most", late_ms.len());
}

/// A channel without anything of taskq on top.
async fn raw(fixture: &ServerFixture) -> (Connection, Channel) {
    let connection = Connection::connect(&fixture.vhost.servers.amqp, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_before_its_time() {
    const TASKS: usize = 100;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, ledger) = (unique("delays"), Ledger::new());
    let worker = fixture.worker(&[&queue]);
    let note = |line: String| tasks::ledger(ledger.path(), line, 0).queue(queue.clone());

    // What was asked for is known before the call is made, so no clock can excuse an early run.
    let mut asked = BTreeMap::new();
    let mut calls = Vec::new();
    for number in 0..TASKS {
        let (counted, dated) = (format!("countdown {number}"), format!("eta {number}"));
        let delay = Duration::from_millis(2000 + 7 * number as u64);
        let due = chrono::Utc::now() + delay;
        calls.push(note(dated.clone()).eta(due));
        asked.insert(dated, u64::try_from(due.timestamp_millis()).expect("after 1970"));
        asked.insert(counted.clone(), now_ms() + 2000);
        calls.push(note(counted).countdown("2s"));
    }
    fixture.client.send_all(calls).await.all().expect("every task is accepted");
    let retried = (0..TASKS)
        .map(|number| tasks::ledger_flaky(ledger.path(), format!("retry {number}"), 0, 2, 700).queue(queue.clone()));
    fixture.client.send_all(retried).await.all().expect("every task is accepted");
    let until = now_ms() + 6000;
    let snoozing = (0..TASKS)
        .map(|number| tasks::ledger_snooze(ledger.path(), format!("snooze {number}"), until, 900).queue(queue.clone()));
    let snoozing = fixture.client.send_all(snoozing).await.all().expect("every task is accepted");
    for handle in &snoozing {
        handle.get_timeout(BOUND).await.expect("in the end it stops snoozing");
    }
    let entries = wait_until("everything has run", || {
        let entries = ledger.entries();
        let ended = |kind: &str| entries.iter().filter(|entry| entry.line.starts_with(kind)).count();
        let all = ended("countdown") == TASKS && ended("eta") == TASKS && ended("retry") == 3 * TASKS;
        all.then_some(entries)
    });

    let mut late = BTreeMap::<&str, Vec<u64>>::new();
    let mut runs = BTreeMap::<&str, Vec<u64>>::new();
    for entry in &entries {
        let kind = entry.line.split(' ').next().expect("lines begin with their kind");
        let before = runs.entry(&entry.line).or_default();
        let due = match (kind, before.last()) {
            ("retry", Some(last)) => last + 700,
            ("snooze", Some(last)) => last + 900,
            ("retry" | "snooze", None) => entry.at_ms,
            _ => asked[&entry.line],
        };
        assert!(entry.at_ms >= due, "{}: {} ms early", entry.line, due - entry.at_ms);
        late.entry(kind).or_default().push(entry.at_ms - due);
        before.push(entry.at_ms);
    }
    for (line, runs) in &runs {
        let expected = if line.starts_with("retry") {
            3..=3
        } else if line.starts_with("snooze") {
            2..=9
        } else {
            1..=1
        };
        assert!(expected.contains(&runs.len()), "{line} ran {} times", runs.len());
    }
    for (kind, late) in late {
        lateness(kind, late);
    }
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_time_waits_in_the_broker() {
    const TASKS: u64 = 1000;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    // Of a classic queue the broker's figures are those of the moment.
    let (quorum, classic, ledger) = (unique("quorum"), unique("classic"), Ledger::new());
    fixture.client.broker().declare(&QueueSpec::classic(classic.as_str())).await.expect("a new queue can be declared");
    let worker = fixture.worker(&[&quorum, &classic]);
    let mut due = BTreeMap::new();
    let calls: Vec<_> = (0..TASKS)
        .flat_map(|number| [(number, &quorum), (number, &classic)])
        .map(|(number, queue)| {
            let delay = 8000 + 4 * number;
            let line = format!("{queue} {number}");
            due.insert(line.clone(), now_ms() + delay);
            tasks::ledger(ledger.path(), line, 0).queue(queue.clone()).countdown(Duration::from_millis(delay))
        })
        .collect();
    fixture.client.send_all(calls).await.all().expect("every task is accepted");
    let first_due = due.values().min().copied().expect("there are some");
    let (mut samples, mut samples_before) = (0, 0);
    wait_until("everything has run", || {
        let queues = fixture.vhost.queues();
        let now = now_ms();
        for queue in [&quorum, &classic] {
            let held = queues[queue].unacked;
            let may_be =
                due.iter().filter(|(line, due)| line.starts_with(queue.as_str()) && **due <= now).count() as u64;
            assert!(held <= may_be, "{queue}: {held} messages are with the worker, and {may_be} are due");
        }
        samples += 1;
        samples_before += usize::from(now < first_due);
        (ledger.len() as u64 == 2 * TASKS).then_some(())
    });
    assert!(samples_before > 0, "nothing was seen while everything waited");
    let entries = ledger.entries();
    let late = entries.iter().map(|entry| {
        let due = due[&entry.line];
        assert!(entry.at_ms >= due, "{}: {} ms early", entry.line, due - entry.at_ms);
        entry.at_ms - due
    });
    println!("{samples} samples, {samples_before} of them before the first task was due");
    lateness("2000 delayed tasks", late.collect());
    worker.drain();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_never_receives_delayed_tasks_of_another_that_ends_like_it() {
    const TASKS: usize = 50;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let mail = unique("mail");
    let queues = [mail.clone(), format!("eu.{mail}"), format!("x.eu.{mail}")];
    let ledger = Ledger::new();
    let workers = queues.each_ref().map(|queue| fixture.worker(&[queue]));
    let calls = (0..TASKS).flat_map(|number| {
        let delay = Duration::from_millis(100 + 30 * number as u64);
        let ledger = &ledger;
        queues
            .iter()
            .map(move |queue| tasks::ledger(ledger.path(), queue.as_str(), 0).queue(queue.clone()).countdown(delay))
    });
    let calls: Vec<_> = calls.collect();
    let handles = fixture.client.send_all(calls).await.all().expect("every task is accepted");
    for handle in &handles {
        handle.get_timeout(BOUND).await.expect("every task succeeds");
    }
    let entries = ledger.entries();
    assert_eq!(entries.len(), queues.len() * TASKS, "each ran once");
    for (queue, worker) in queues.iter().zip(&workers) {
        let processes = worker.children();
        let strangers: BTreeSet<_> = entries
            .iter()
            .filter(|entry| processes.contains(&entry.pid) && entry.line != *queue)
            .map(|entry| &entry.line)
            .collect();
        assert!(strangers.is_empty(), "the worker of {queue} ran tasks of {strangers:?}");
    }
    for worker in workers {
        worker.drain();
    }
}

/// A task that is `expired` on some level of the ladder is of no use to anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_queue_was_deleted_while_it_waited_is_told_and_goes_back_there() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (client, queue) = (&fixture.client, unique("deleted"));
    let sum = tasks::add(2, 3).queue(queue.clone()).countdown("6s").send(client).await.expect("the queue is made");
    let (_connection, channel) = raw(&fixture).await;
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("it exists"), 0, "the task still waits");
    let entry = loop {
        if let Some(entry) = client.dead().list(10).await.expect("it can be read").pop() {
            break entry;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((entry.id.as_ref(), entry.letter.queue.as_str()), (Some(sum.id()), queue.as_str()));
    assert_eq!(entry.letter.reason, "no-queue");
    assert!(entry.letter.error.contains(&format!("there was no queue {queue} any more")), "{}", entry.letter.error);
    // As another process does it: this one does not know yet that the queue is gone.
    let other = fixture.client_with(&[]).await;
    let put_back = other.dead().retry(&DeadFilter::Fingerprint(&entry.letter.fingerprint)).await;
    assert_eq!(put_back.expect("the queue is made again"), 1);
    let worker = fixture.worker(&[&queue]);
    assert_eq!(sum.get_timeout(BOUND).await.expect("it runs"), 5);
    worker.drain();
}

/// RabbitMQ has 32 messages of a queue on their way at a time, and one that cannot go on stays among them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_level_of_delays_by_mistake_is_dead_and_blocks_nobody() {
    const STRAYS: usize = 40;
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let client = &fixture.client;
    let refused = tasks::add(2, 3).queue("taskq.delay.3").send(client).await.expect_err("it is taskq's own");
    assert!(refused.to_string().contains("belong to taskq"), "{refused}");
    let worker = fixture.worker(&["default"]);
    // The first delay makes the levels.
    let first = tasks::add(1, 1).countdown("100ms").send(client).await.expect("it is accepted");
    assert_eq!(first.get_timeout(BOUND).await.expect("it runs"), 2);

    let (_connection, channel) = raw(&fixture).await;
    for number in 0..STRAYS {
        for level in ["taskq.delay.3", "taskq.delay.0"] {
            let mut headers = FieldTable::default();
            headers.insert("id".into(), AMQPValue::LongString(format!("{level}-{number}").into()));
            headers.insert("task".into(), AMQPValue::LongString("shop.add".into()));
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_content_encoding("utf-8".into())
                .with_delivery_mode(2)
                .with_headers(headers);
            let body = b"[[2, 3], {}, {}]";
            let options = BasicPublishOptions::default();
            channel.basic_publish("".into(), level.into(), options, body, properties).await.expect("it is written");
        }
    }
    let begun = std::time::Instant::now();
    let behind = tasks::add(20, 3).countdown("800ms").send(client).await.expect("it is accepted");
    assert_eq!(behind.get_timeout(BOUND).await.expect("it is not held up"), 23);
    println!("behind {STRAYS} strays a delay of 800 ms took {} ms", begun.elapsed().as_millis());
    let dead = loop {
        let dead = client.dead().list(1000).await.expect("it can be read");
        if dead.len() == 2 * STRAYS {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for entry in &dead {
        assert_eq!(entry.letter.reason, "not-delayed");
        assert!(entry.letter.error.contains(&entry.letter.queue), "{}", entry.letter.error);
    }
    // They were meant for somebody.
    assert_eq!(client.dead().retry(&DeadFilter::All).await.expect("they go to the default queue"), 2 * STRAYS);
    let id = TaskId::parse("taskq.delay.3-7").expect("it is an id");
    assert_eq!(client.handle::<i64>(id).get_timeout(BOUND).await.expect("it runs"), 5);
    worker.drain();
}
