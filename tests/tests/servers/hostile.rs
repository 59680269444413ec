//! Messages that no library writes: each ends in the dead set with a reason, and costs nobody else anything.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;
use taskq::broker::DEAD_QUEUE;
use taskq::client::DeadFilter;
use taskq::{Error, Handle, TaskId};
use taskq_cli::torture::stranger::{RawProperties, Stranger, entry, nested, text};
use taskq_tests::harness::{BOUND, ServerFixture, unique};
use taskq_tests::tasks;

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

const BODY: &[u8] = b"[[2, 3], {}, {}]";

/// The number of innocent tasks before and behind the hostile ones.
const INNOCENT: i64 = 20;

/// A hostile message: the case, its properties, and a part of the reason that it has to end with.
fn hostile(case: &'static str) -> (RawProperties, &'static str) {
    let id = format!("hostile-{case}");
    let mut headers = vec![text("task", "shop.add"), text("id", &id), text("x-case", case)];
    let mut content_type = &b"application/json"[..];
    let reason = match case {
        "deep list" => {
            headers.insert(0, nested("x-deep", 1_400));
            "the header \"x-deep\" is nested deeper than 32 levels"
        }
        "as deep as a frame" => {
            headers.push(nested("x-deep", 26_000));
            "nested deeper than 32 levels"
        }
        "deep table" => {
            let inner = (0..2_000).fold(Vec::new(), |inner: Vec<u8>, _| {
                entry("t", b'F', &[&u32::try_from(inner.len()).expect("short").to_be_bytes()[..], &inner].concat())
            });
            headers.push(inner);
            "the header \"t\" is nested deeper than 32 levels"
        }
        "content type" => {
            content_type = b"application/json\xff";
            "the content type is not UTF-8"
        }
        "name of a header" => {
            headers.push([&[2, 0xC3, 0x28, b't', 1][..]].concat());
            "is not UTF-8"
        }
        other => panic!("no case {other}"),
    };
    (RawProperties::of(content_type, &headers), reason)
}

const CASES: [&str; 5] = ["deep list", "as deep as a frame", "deep table", "content type", "name of a header"];

async fn innocent(fixture: &ServerFixture, queue: &str) -> Vec<Handle<i64>> {
    let mut handles = Vec::new();
    for x in 0..INNOCENT {
        handles.push(tasks::add(x, 1).queue(queue.to_owned()).send(&fixture.client).await.expect("it is accepted"));
    }
    handles
}

/// Publishes messages with their routing keys, or else to `queue`.
async fn publish(
    fixture: &ServerFixture,
    exchange: &'static str,
    queue: &str,
    body: impl Into<Vec<u8>>,
    messages: Vec<(Vec<u8>, RawProperties)>,
) {
    let (url, queue, body) = (fixture.vhost.servers.amqp.clone(), queue.to_owned(), body.into());
    let sending = tokio::task::spawn_blocking(move || {
        let mut stranger = Stranger::connect(&url).expect("the broker is up");
        for (key, properties) in messages {
            let key = if key.is_empty() { queue.as_bytes() } else { &key };
            stranger.publish(exchange, key, &properties, &body).expect("the broker takes it");
        }
    });
    sending.await.expect("it does not panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_cannot_be_parsed_stop_no_worker_and_end_in_the_dead_set() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("hostile");
    let worker = fixture.worker(&[&queue]);
    let processes = worker.children();
    let mut others = innocent(&fixture, &queue).await;
    let messages = CASES.iter().map(|case| (Vec::new(), hostile(case).0)).collect();
    publish(&fixture, "", &queue, BODY, messages).await;
    others.extend(innocent(&fixture, &queue).await);
    for (x, other) in (0..INNOCENT).chain(0..INNOCENT).zip(&others) {
        assert_eq!(other.get_timeout(BOUND).await.expect("it is not held up"), x + 1);
    }
    let dead = fixture.dead_by_case(CASES.len()).await;
    assert_eq!(dead.len(), CASES.len(), "no innocent one");
    for case in CASES {
        let entry = dead.get(case).unwrap_or_else(|| panic!("{case} is not in the dead set"));
        let (letter, expected) = (&entry.letter, hostile(case).1);
        assert_eq!((letter.reason.as_str(), letter.queue.as_str()), ("decode", queue.as_str()), "{case}");
        assert!(letter.error.contains(expected), "{case}: {}", letter.error);
        assert_eq!(&entry.message.body[..], BODY, "{case}");
        // Its caller is told.
        let id = TaskId::parse(&format!("hostile-{case}")).expect("it is one");
        let outcome = fixture.client.handle::<Value>(id).get_timeout(BOUND).await;
        let Err(Error::Failed { failure, .. }) = outcome else { panic!("{case} ends in FAILURE, not {outcome:?}") };
        assert!(failure.message().contains(expected), "{case}: {failure}");
    }
    assert_eq!(worker.children(), processes, "the same process as before");
    worker.drain();
    println!("{} messages that cannot be parsed: in the dead set; {} others: run", CASES.len(), others.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_set_with_messages_that_cannot_be_parsed_is_read_and_emptied() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    fixture.client.dead().list(1).await.expect("it is declared");
    let mut messages: Vec<_> = CASES.iter().map(|case| (Vec::new(), hostile(case).0)).collect();
    // By way of the exchange, the routing key is the sender's as well.
    let strange = RawProperties::of(b"application/json", &[text("task", "shop.add"), text("x-case", "key")]);
    messages.push((b"\xffkey".to_vec(), strange));
    publish(&fixture, DEAD_QUEUE, DEAD_QUEUE, BODY, messages).await;
    let dead = fixture.dead_by_case(CASES.len() + 1).await;
    assert!(dead.contains_key("key"), "{:?}", dead.keys());
    fixture.app().run(&["dead", "list"]).expect_exit(0);
    let count = fixture.client.dead().discard(&DeadFilter::All).await.expect("it can be emptied");
    assert_eq!(count, CASES.len() + 1);
    println!("a dead set of {count} messages that cannot be parsed: listed, discarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_cannot_choose_the_queue_that_a_worker_sends_it_on_to() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, payroll) = (unique("shared"), unique("payroll"));
    fixture.client.declare(&payroll).await.expect("it can be made");
    let worker = fixture.worker(&[&queue]);
    let message = |case: &str, more: Vec<Vec<u8>>| {
        let mut headers = vec![text("task", "shop.fail_retried"), text("id", &unique(case)), text("x-case", case)];
        headers.extend(more);
        (Vec::new(), RawProperties::of(b"application/json", &headers))
    };
    let absent = unique("absent");
    let messages = vec![
        message("origin", vec![text("taskq-origin-queue", &payroll)]),
        message("no such queue", vec![text("taskq-origin-queue", &absent)]),
        message("no queue at all", vec![text("taskq-origin-queue", "amq.x")]),
        message("an old name", vec![text("taskq-alone", "amq.x")]),
        message("letter", vec![text("taskq-dead-queue", &payroll), text("x-death-queue", &payroll)]),
    ];
    let count = messages.len();
    publish(&fixture, "", &queue, *b"[[\"no\"], {}, {}]", messages).await;
    let dead = fixture.dead_by_case(count).await;
    for (case, entry) in &dead {
        assert_eq!(entry.letter.queue, queue, "{case}");
    }
    let ready = async |queue: &str| fixture.client.broker().stats(queue).await.map(|stats| stats.ready).ok();
    assert_eq!((ready(&payroll).await, ready(&absent).await), (Some(0), None));
    worker.drain();
    let returned = ready(&queue).await.expect("it exists");
    if returned > 0 {
        // The broker returned what it did not see acknowledged: that ends too, without a second letter.
        let worker = fixture.worker(&[&queue]);
        let taken = async {
            while ready(&queue).await != Some(0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(BOUND, taken).await.expect("all of them are taken");
        worker.drain();
        assert_eq!(fixture.client.dead().list(usize::MAX).await.expect("it can be read").len(), count);
    }
    println!("{count} messages that name another queue: none was sent there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_the_sender_is_not_believed_when_the_broker_moves_a_message_to_the_dead_set() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, payroll) = (unique("shared"), unique("payroll"));
    for queue in [&queue, &payroll] {
        fixture.client.declare(queue).await.expect("it can be made");
    }
    fixture.client.dead().list(1).await.expect("it is declared");
    let forged = |name: &str| text(name, &payroll);
    let headers = [
        vec![text("task", "shop.add"), text("id", "forged"), text("x-case", "forged")],
        ["taskq-dead-queue", "taskq-dead-fingerprint", "taskq-dead-error", "x-death-queue"].map(forged).to_vec(),
    ]
    .concat();
    let message = RawProperties::of(b"application/json", &headers).expiring_after(1);
    publish(&fixture, "", &queue, BODY, vec![(Vec::new(), message)]).await;
    let letter = &fixture.dead_by_case(1).await["forged"].letter;
    assert_eq!((letter.reason.as_str(), letter.queue.as_str()), ("expired", queue.as_str()));
    assert!(!letter.error.contains(&payroll) && letter.fingerprint != payroll, "{letter:?}");
    assert_eq!(fixture.client.dead().retry(&DeadFilter::All).await.expect("it can be put back"), 1);
    let ready = async |queue: &str| fixture.client.broker().stats(queue).await.expect("it exists").ready;
    assert_eq!((ready(&queue).await, ready(&payroll).await), (1, 0));
    println!("a message with a forged letter that expired in {queue}: put back there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_message_that_cannot_be_put_back_keeps_no_other_from_it() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("back");
    fixture.client.declare(&queue).await.expect("it can be made");
    fixture.client.dead().list(1).await.expect("it is declared");
    let letter = |queue: &str| {
        let headers = [
            text("task", "shop.add"),
            text("id", &unique("dead")),
            text("x-case", queue),
            text("taskq-dead-queue", queue),
            text("taskq-dead-reason", "failed"),
            text("taskq-dead-fingerprint", "f"),
        ];
        (Vec::new(), RawProperties::of(b"application/json", &headers))
    };
    let messages = vec![letter("amq.x"), letter(&queue), letter("a.*.b")];
    publish(&fixture, "", DEAD_QUEUE, BODY, messages).await;
    fixture.dead_by_case(3).await;
    let error = fixture.client.dead().retry(&DeadFilter::All).await.expect_err("two of them cannot");
    let Error::PutBackInPart { put_back: 1, kept: 2, first } = &error else { panic!("{error}") };
    assert!(first.to_string().contains("\"amq.x\" cannot be a queue name"), "{error}");
    assert_eq!(fixture.client.broker().stats(&queue).await.expect("it exists").ready, 1);
    assert_eq!(fixture.dead_by_case(2).await.len(), 2);
    println!("{error}");
}

/// The most memory that a process has had resident, in MiB. Linux only.
fn peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_grows_costs_little_memory_and_ends_in_the_dead_set() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("bombs");
    let app = fixture.app().env("TASKQ_UNKNOWN_TASK_GRACE", "1ms").env("TASKQ_MAX_RECEIVED_BYTES", "30_000_000");
    let worker = fixture.worker_of(&app, &[&queue]);
    let child = worker.children()[0];
    let before = peak_mb(child);
    let zeros = |count: usize| format!("[[{}0], {{}}, null]", "0,".repeat(count));
    let bomb = |case: &str, body: &str| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body.as_bytes()).expect("memory takes everything");
        let headers = ["task", "id", "x-case", "compression"].map(|name| {
            let value = match name {
                "task" => "shop.add",
                "id" => &unique("bomb"),
                "compression" => "application/x-gzip",
                _ => case,
            };
            text(name, value)
        });
        (RawProperties::of(b"application/json", &headers), encoder.finish().expect("memory takes everything"))
    };
    let bombs = vec![
        bomb("too many arguments", &zeros(12_000_000)),
        bomb("too large", &zeros(100_000_000)),
        bomb("too many values", &format!("[[{{\"__type__\": 0}}, {}], {{}}, null]", zeros(5_000_000))),
    ];
    for (properties, body) in &bombs {
        assert!(body.len() < 300_000, "{} bytes", body.len());
        publish(&fixture, "", &queue, body.clone(), vec![(Vec::new(), properties.clone())]).await;
    }
    let dead = fixture.dead_by_case(bombs.len()).await;
    for (case, expected) in [
        ("too many arguments", "takes 2 arguments but 12000001 were given"),
        ("too large", "more than 30000000 bytes"),
        ("too many values", "more than 4194304 values"),
    ] {
        assert!(dead[case].letter.error.contains(expected), "{case}: {}", dead[case].letter.error);
    }
    let grown = peak_mb(child) - before;
    assert_eq!(worker.children(), [child], "the same process as before");
    assert!(grown < 400, "it has grown by {grown} MiB");
    worker.drain();
    println!("three bodies of less than 300 KB that grow to 24, 200 and 10 MB: {grown} MiB");
}
