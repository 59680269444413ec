//! Signed messages and sealed arguments, over RabbitMQ and Redis.

use std::time::Duration;

use serde_json::json;
use taskq::backend::ResultBackendExt;
use taskq::broker::{DEAD_QUEUE, Publication};
use taskq::client::{DeadEntry, DeadFilter};
use taskq::message::WireMessage;
use taskq::{Client, Error};
use taskq_tests::harness::{App, BOUND, Ledger, ServerFixture, now_ms, unique};
use taskq_tests::tasks;
use tokio::time::Instant;

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// 32 bytes each, by no means secret.
const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const TWO: &str = "_wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The public halves of both as private keys of Ed25519.
const ONE_PUBLIC: &str = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg";

/// The text that nobody else may read.
const SECRET: &str = "4111 1111 1111 1111";

fn hmac(id: &str, key: &str) -> String {
    format!("hmac-sha256:{id}:{key}")
}

async fn dead(client: &Client, count: usize) -> Vec<DeadEntry> {
    let deadline = Instant::now() + BOUND;
    loop {
        let entries = client.dead().list(usize::MAX).await.expect("the dead set can be read");
        if entries.len() >= count {
            return entries;
        }
        let letters: Vec<_> = entries.iter().map(|entry| &entry.letter).collect();
        assert!(Instant::now() < deadline, "only these are dead: {letters:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until something has run.
async fn has_run(ledger: &Ledger) {
    let deadline = Instant::now() + BOUND;
    while ledger.is_empty() {
        assert!(Instant::now() < deadline, "nothing has run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The messages of a queue, as they are.
async fn messages(client: &Client, queue: &str) -> Vec<WireMessage> {
    let browse = client.broker().browse(queue, usize::MAX).await.expect("the queue exists");
    let messages = browse.deliveries.iter().map(|delivery| delivery.message.clone()).collect();
    browse.finish().await;
    messages
}

fn signing(app: App, key: &str, verify: &str) -> App {
    app.env("TASKQ_SIGNING_KEY", key).env("TASKQ_VERIFY_KEYS", verify)
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_messages_are_run_whatever_way_they_take() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("signed");
    // Senders and workers have keys of their own; one of the senders has a new one already.
    let verify = format!("{},ed25519:sender:{ONE_PUBLIC},{}", hmac("worker", TWO), hmac("new", ONE));
    let worker = fixture.worker_of(&signing(fixture.app(), &hmac("worker", TWO), &verify), &[&queue]);
    for key in [format!("ed25519:sender:{ONE}"), hmac("new", ONE)] {
        let client = fixture.client_with(&[("signing_key", &key), ("verify_keys", &verify)]).await;
        let send = |x: i64| tasks::add(x, 1).queue(queue.clone());
        let at_once = send(1).send(&client).await.expect("accepted");
        let later =
            send(2).countdown("700ms").priority(3).header("x-tenant", 7.5).send(&client).await.expect("accepted");
        let retried = tasks::flaky(2, Some(100)).queue(queue.clone()).send(&client).await.expect("accepted");
        let snoozed = tasks::snooze(now_ms() + 700, 200).queue(queue.clone()).send(&client).await.expect("accepted");
        assert_eq!(at_once.get_timeout(BOUND).await.expect("it runs"), 2);
        assert_eq!(later.get_timeout(BOUND).await.expect("it runs"), 3);
        assert_eq!(retried.get_timeout(BOUND).await.expect("it runs"), 2);
        assert_eq!(snoozed.get_timeout(BOUND).await.expect("it runs"), 0);
        // What a worker gave up can be put back by those who have a key.
        let failed = tasks::fail("no".to_owned()).queue(queue.clone()).send(&client).await.expect("accepted");
        failed.get_timeout(BOUND).await.expect_err("it fails");
        assert_eq!(dead(&client, 1).await[0].letter.reason, "failed");
        assert_eq!(client.dead().retry(&DeadFilter::All).await.expect("it is signed"), 1);
        let again = dead(&client, 1).await;
        assert_eq!(client.dead().discard(&DeadFilter::All).await.expect("it is there"), again.len());
    }
    let finished = worker.drain();
    assert!(!finished.stderr.contains("refused"), "{}", finished.stderr);
    println!("at once, after a delay, retried, snoozed, put back; by HMAC and Ed25519: all run");
}

/// A message, changed in one way.
type Alteration = (&'static str, fn(&mut WireMessage));

/// Alterations by somebody who has no key.
const ALTERATIONS: [Alteration; 19] = [
    ("another task", |message| drop(message.headers.set("task", "shop.add"))),
    ("another id", |message| drop(message.headers.set("id", "another"))),
    ("another argument", |message| {
        let text = String::from_utf8(message.body.to_vec()).expect("it is JSON");
        message.body = text.replace("good", "evil").into_bytes().into();
    }),
    ("one that follows", |message| {
        let text = String::from_utf8(message.body.to_vec()).expect("it is JSON");
        message.body = text.replace("\"chain\":null", "\"chain\":[{}]").into_bytes().into();
    }),
    ("another content type", |message| message.properties.content_type = Some("application/x-msgpack".into())),
    ("another encoding", |message| message.properties.content_encoding = Some("binary".into())),
    ("a compression", |message| drop(message.headers.set("compression", "application/x-gzip"))),
    ("an attempt", |message| drop(message.headers.set("retries", 1))),
    ("a generation", |message| drop(message.headers.set("taskq-generation", 1))),
    ("an eta", |message| drop(message.headers.set("eta", "2026-01-01T00:00:00.000000+00:00"))),
    ("an expiry", |message| drop(message.headers.set("expires", "2126-01-01T00:00:00.000000+00:00"))),
    ("limits", |message| drop(message.headers.set("timelimit", json!([1, null])))),
    ("another root", |message| drop(message.headers.set("root_id", "root"))),
    ("a group", |message| drop(message.headers.set("group", "group"))),
    ("no result", |message| drop(message.headers.set("ignore_result", true))),
    ("a queue of origin", |message| drop(message.headers.set("taskq-origin-queue", "payroll"))),
    ("a header more", |message| drop(message.headers.set("x-tenant", "another"))),
    ("no signature", |message| drop(message.headers.remove("taskq-signature"))),
    ("another's signature", |message| {
        let text = message.headers.text("taskq-signature").expect("it is signed").replace(";one;", ";two;");
        message.headers.set("taskq-signature", text);
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_moved_or_never_signed_is_in_the_dead_set_and_never_run() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, elsewhere) = (unique("signed"), unique("elsewhere"));
    let ledger = Ledger::new();
    let keys = format!("{},{}", hmac("one", ONE), hmac("two", TWO));
    let client = fixture.client_with(&[("signing_key", &hmac("one", ONE))]).await;
    // One is captured from each queue.
    for queue in [&queue, &elsewhere] {
        let call = tasks::ledger(ledger.path().to_owned(), "good".to_owned(), 0);
        call.queue(queue.clone()).send(&client).await.expect("accepted");
    }
    let (original, of_elsewhere) =
        (messages(&client, &queue).await.remove(0), messages(&client, &elsewhere).await.remove(0));
    // By somebody who may publish, and has no key.
    let publish = async |message: WireMessage, queue: &str| {
        let queue = fixture.client.declare(queue).await.expect("it exists");
        fixture.client.publish(Publication::new(queue, message)).await.expect("the broker takes it");
    };
    for (_, alter) in ALTERATIONS {
        let mut altered = original.clone();
        alter(&mut altered);
        assert_ne!(altered, original);
        publish(altered, &queue).await;
    }
    publish(of_elsewhere.clone(), &queue).await;
    let worker = fixture.worker_of(&signing(fixture.app(), &hmac("two", TWO), &keys), &[&queue]);
    let count = ALTERATIONS.len() + 1;
    for entry in dead(&client, count).await {
        let letter = &entry.letter;
        assert_eq!((letter.reason.as_str(), letter.queue.as_str()), ("signature", queue.as_str()), "{}", letter.error);
    }
    has_run(&ledger).await;
    // Putting them back does not sign them.
    let Err(Error::PutBackInPart { put_back: 0, kept, first }) = client.dead().retry(&DeadFilter::All).await else {
        panic!("none of them can be put back")
    };
    assert_eq!(kept, count);
    assert!(matches!(*first, Error::Untrusted { .. }), "{first}");
    // Nor does it help to say that a worker gave them up.
    let mut forged = original.clone();
    for (name, value) in
        [("taskq-dead-reason", "failed"), ("taskq-dead-queue", &queue), ("taskq-dead-fingerprint", "f")]
    {
        forged.headers.set(name, value);
    }
    publish(forged, DEAD_QUEUE).await;
    client.dead().retry(&DeadFilter::All).await.expect_err("it is not signed for the dead set");
    let finished = worker.drain();
    assert_eq!(ledger.len(), 1, "only the original has run");
    assert_eq!(finished.stderr.matches("a message is refused").count(), count, "{}", finished.stderr);
    println!("{count} alterations: all refused, in the dead set, and not to be put back; runs: 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_after_its_window_is_refused() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("signed");
    let ledger = Ledger::new();
    let key = hmac("one", ONE);
    let client = fixture.client_with(&[("signing_key", &key)]).await;
    let call = tasks::ledger(ledger.path().to_owned(), "good".to_owned(), 0).queue(queue.clone());
    call.send(&client).await.expect("accepted");
    let captured = messages(&client, &queue).await.remove(0);
    let app = signing(fixture.app(), &key, &key).env("TASKQ_SIGNATURE_WINDOW", "8s");
    let worker = fixture.worker_of(&app, &[&queue]);
    has_run(&ledger).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    let name = fixture.client.declare(&queue).await.expect("it exists");
    fixture.client.publish(Publication::new(name, captured)).await.expect("the broker takes it");
    let letter = dead(&client, 1).await.remove(0).letter;
    assert!(letter.reason == "signature" && letter.error.contains("outside of `signature_window`"), "{letter:?}");
    worker.drain();
    assert_eq!(ledger.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_own_messages_would_be_refused_does_not_start() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let worker = ["worker", "-Q", "mail", "-l", "warn"];
    let only_verify = fixture.app().env("TASKQ_VERIFY_KEYS", &hmac("one", ONE)).run(&worker).expect_exit(3);
    assert!(only_verify.stderr.contains("`verify_keys` is set and `signing_key` is not"), "{}", only_verify.stderr);
    let other = signing(fixture.app(), &hmac("two", TWO), &hmac("one", ONE)).run(&worker).expect_exit(3);
    assert!(other.stderr.contains("is not among `verify_keys`"), "{}", other.stderr);
    let broken = fixture.app().env("TASKQ_SIGNING_KEY", &hmac("one", "c2hvcnQgc2VjcmV0")).run(&worker).expect_exit(3);
    assert!(broken.stderr.contains("`signing_key` takes a key of the form"), "{}", broken.stderr);
    for finished in [only_verify, other, broken] {
        for secret in [ONE, TWO, "c2hvcnQgc2VjcmV0"] {
            assert!(!finished.stderr.contains(secret) && !finished.stdout.contains(secret), "{}", finished.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_arguments_are_readable_nowhere_and_reach_their_task() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("sealed");
    let keys = format!("one:{ONE}");
    let client = fixture.client_with(&[("sealing_keys", &keys)]).await;
    let send = |failures: u32| tasks::sealed(SECRET.to_owned(), failures).queue(queue.clone());
    let error = send(0).send(&fixture.client).await.expect_err("there is no key").to_string();
    assert!(error.contains("`sealing_keys`"), "{error}");
    let retried = send(2).send(&client).await.expect("accepted");
    let hopeless = send(9).send(&client).await.expect("accepted");
    let hides = |message: &WireMessage| {
        let text = format!("{message:?} {}", String::from_utf8_lossy(&message.body));
        assert!(!text.contains("4111"), "{text}");
    };
    messages(&client, &queue).await.iter().for_each(hides);
    // Without a key it is given up, and says so; with one it runs.
    let without = fixture.worker(&[&queue]);
    let letters = dead(&client, 2).await;
    for entry in &letters {
        assert!(entry.letter.error.contains("sealed with the key \"one\""), "{:?}", entry.letter);
    }
    without.drain();
    assert_eq!(client.dead().retry(&DeadFilter::All).await.expect("they can be put back"), 2);
    // New keys are added in front.
    let app = fixture.app().env("TASKQ_SEALING_KEYS", &format!("two:{TWO},{keys}")).env("RUST_LOG", "trace");
    let worker = fixture.worker_of(&app, &[&queue]);
    let entry = dead(&client, 1).await.remove(0);
    hides(&entry.message);
    let length = loop {
        // The first failure is recorded until the second generation has ended.
        match retried.get_timeout(BOUND).await {
            Ok(length) => break length,
            Err(error) => assert!(error.to_string().contains("sealed"), "{error}"),
        }
    };
    assert_eq!(length, SECRET.len());
    let finished = worker.drain();
    let records = client.results().expect("there is a store");
    for id in [retried.id(), hopeless.id()] {
        let record = records.read_one(id).await.expect("it can be read");
        assert!(!format!("{record:?}").contains("4111"), "{record:?}");
    }
    let list = fixture.app().run(&["dead", "list", "--json"]).expect_exit(0);
    for text in [&finished.stdout, &finished.stderr, &list.stdout, &list.stderr] {
        assert!(!text.contains("4111"), "{text}");
    }
    println!("sealed arguments: run after two retries; in no message, record, log or answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_arguments_cannot_be_replaced_or_moved_to_another_task() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("sealed");
    let keys = format!("one:{ONE}");
    let client = fixture.client_with(&[("sealing_keys", &keys)]).await;
    let alterations: [Alteration; 4] = [
        ("cannot be opened", |message| drop(message.headers.set("id", "another"))),
        ("cannot be opened", |message| drop(message.headers.set("task", "shop.echo"))),
        ("cannot be opened", |message| {
            let mut body = message.body.to_vec();
            *body.last_mut().expect("it is not empty") ^= 1;
            message.body = body.into();
        }),
        ("are not sealed", |message| {
            message.properties.content_type = Some("application/json".into());
            message.properties.content_encoding = Some("utf-8".into());
            message.body = b"[[\"chosen\", 0], {}, null]".as_slice().into();
        }),
    ];
    for (_, alter) in &alterations {
        tasks::sealed(SECRET.to_owned(), 0).queue(queue.clone()).send(&client).await.expect("accepted");
        let mut browse = client.broker().browse(&queue, usize::MAX).await.expect("the queue exists");
        let original = browse.deliveries.remove(0);
        let mut message = original.message.clone();
        original.acker.ack();
        browse.finish().await;
        alter(&mut message);
        let elsewhere = client.declare(&format!("{queue}.altered")).await.expect("it can be made");
        client.publish(Publication::new(elsewhere, message)).await.expect("the broker takes it");
    }
    let app = fixture.app().env("TASKQ_SEALING_KEYS", &keys);
    let worker = fixture.worker_of(&app, &[&format!("{queue}.altered")]);
    let errors: Vec<_> = dead(&client, 4).await.into_iter().map(|entry| entry.letter.error).collect();
    for (expected, _) in alterations {
        let expected_times = alterations.iter().filter(|(other, _)| *other == expected).count();
        assert_eq!(errors.iter().filter(|error| error.contains(expected)).count(), expected_times, "{errors:?}");
    }
    worker.drain();
}
