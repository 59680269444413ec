use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec;
use crate::message::{Envelope, Payload, TaskId, TimeLimits};

const HMAC: &str = "hmac-sha256:one:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const OTHER_HMAC: &str = "hmac-sha256:one:_____wQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const ED25519: &str = "ed25519:two:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn key(text: &str) -> SigningKey {
    SigningKey::parse(text).expect("it is one")
}

fn verification(text: &str) -> Verification {
    Verification { keys: key(text).verify_key(), window_ms: 60_000, is_required: true }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_795_000_000_000).expect("it is a time")
}

/// A message with everything that a signature covers.
fn full() -> WireMessage {
    let payload = Payload {
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        compression: Some("application/x-gzip".into()),
        body: br#"[[1, "two"], {"three": 3}, {"callbacks": null}]"#.as_slice().into(),
    };
    let id = TaskId::parse("the-id").expect("it is one");
    let envelope = Envelope::new(id, "shop.buy", payload).with(|envelope| {
        envelope.attempt = 2;
        envelope.generation = 1;
        envelope.eta = Some(now());
        envelope.expires = Some(now() + TimeDelta::hours(1));
        envelope.limits = TimeLimits { soft: None, hard: Some(std::time::Duration::from_millis(1500)) };
        envelope.root_id = TaskId::parse("root").ok();
        envelope.group_id = Some("group".to_owned());
        envelope.origin_queue = Some("mail".to_owned());
        envelope.priority = Some(3);
        envelope.reply_to = Some("answers".to_owned());
        envelope.headers.set("x-tenant", json!({ "id": 7, "tags": ["a", null, 1.5] }));
    });
    codec::encode(envelope)
}

fn signed(text: &str) -> WireMessage {
    let mut message = full();
    sign(&mut message, "orders", &key(text), now());
    message
}

/// An alteration of a message.
type Alteration = fn(&mut WireMessage);

/// Alterations, each of which must be noticed.
const ALTERATIONS: [(&str, Alteration); 28] = [
    ("the task", |message| drop(message.headers.set("task", "shop.refund"))),
    ("the id", |message| drop(message.headers.set("id", "another"))),
    ("the correlation id", |message| message.properties.correlation_id = Some("another".into())),
    ("an argument", |message| message.body = br#"[[2, "two"], {"three": 3}, {"callbacks": null}]"#.as_slice().into()),
    ("what follows", |message| {
        message.body = br#"[[1, "two"], {"three": 3}, {"callbacks": [{"task": "x"}]}]"#.as_slice().into();
    }),
    ("a byte more", |message| message.body = [&message.body[..], b" "].concat().into()),
    ("no body", |message| message.body = Default::default()),
    ("the content type", |message| message.properties.content_type = Some("application/x-msgpack".into())),
    ("the content encoding", |message| message.properties.content_encoding = None),
    ("the compression", |message| drop(message.headers.remove("compression"))),
    ("the attempt", |message| drop(message.headers.set("retries", 0))),
    ("the generation", |message| drop(message.headers.set("taskq-generation", 2))),
    ("the eta", |message| drop(message.headers.set("eta", "2026-01-01T00:00:00.000000+00:00"))),
    ("no eta", |message| drop(message.headers.remove("eta"))),
    ("the expiry", |message| drop(message.headers.remove("expires"))),
    ("the limits", |message| drop(message.headers.set("timelimit", json!([null, null])))),
    ("the root", |message| drop(message.headers.set("root_id", "other"))),
    ("the parent", |message| drop(message.headers.set("parent_id", "other"))),
    ("the group", |message| drop(message.headers.set("group", "other"))),
    ("whether the result is stored", |message| drop(message.headers.set("ignore_result", true))),
    ("the queue of a quarantined task", |message| drop(message.headers.set("taskq-origin-queue", "payroll"))),
    ("a letter", |message| drop(message.headers.set("taskq-dead-queue", "payroll"))),
    ("the priority", |message| message.properties.priority = Some(9)),
    ("the reply address", |message| message.properties.reply_to = Some("elsewhere".into())),
    ("a header of the sender's", |message| drop(message.headers.set("x-tenant", json!({ "id": 8, "tags": [] })))),
    ("a header more", |message| drop(message.headers.set("x-more", 1))),
    ("the time of the signature", |message| {
        let text = message.headers.text(SIGNATURE).expect("it is signed").replace("1795000000000", "1795000000001");
        message.headers.set(SIGNATURE, text);
    }),
    ("the signature", |message| {
        let text = message.headers.text(SIGNATURE).expect("it is signed").to_owned();
        let (head, signature) = text.rsplit_once(';').expect("it has parts");
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        message.headers.set(SIGNATURE, format!("{head};{first}{}", &signature[1..]));
    }),
];

#[test]
fn each_alteration_is_noticed() {
    for text in [HMAC, ED25519] {
        let verification = verification(text);
        let verify = |message: &WireMessage| verification.verify(message, "orders", now(), Age::Recent);
        assert_eq!(verify(&signed(text)), Ok(()));
        for (what, alter) in ALTERATIONS {
            let mut message = signed(text);
            alter(&mut message);
            assert_eq!(verify(&message), Err(SignatureFault::Altered { queue: "orders".into() }), "{what}");
        }
    }
}

#[test]
fn other_faults_have_their_names() {
    let verification = verification(HMAC);
    let fault = |message: &WireMessage, queue: &str, at: DateTime<Utc>| {
        verification.verify(message, queue, at, Age::Recent).expect_err("it is refused").to_string()
    };
    assert!(fault(&signed(HMAC), "payroll", now()).contains("another queue than \"payroll\""));
    assert!(fault(&signed(OTHER_HMAC), "orders", now()).contains("altered"), "the same id, and another key");
    assert!(fault(&signed(ED25519), "orders", now()).contains("the key \"ed25519:two\""));
    assert!(fault(&full(), "orders", now()).contains("not signed"));
    let with = |signature: serde_json::Value| {
        let mut message = signed(HMAC);
        message.headers.set(SIGNATURE, signature);
        message
    };
    for signature in [
        json!(7),
        json!(""),
        json!("1;hmac-sha256;one;1"),
        json!("1;hmac-sha256;one;soon;AAAA"),
        json!("1;hmac-sha256;one;1;?"),
        json!("2;hmac-sha256;one;1;AAAA"),
        json!("1;hmac-sha256;one;1;AAAA;AAAA"),
    ] {
        assert!(fault(&with(signature.clone()), "orders", now()).contains("cannot be read"), "{signature}");
    }
    assert!(fault(&with(json!("1;none;one;1;")), "orders", now()).contains("\"none:one\""));
    // An HMAC key must not be taken for a public key, nor the other way round.
    let confused = signed(ED25519).headers.text(SIGNATURE).expect("it is signed").replace("ed25519", "hmac-sha256");
    assert!(fault(&with(json!(confused)), "orders", now()).contains("\"hmac-sha256:two\""));
}

#[test]
fn a_signature_holds_for_a_time_from_when_the_message_is_due() {
    let verification = verification(HMAC);
    let mut plain = full();
    plain.headers.remove("eta");
    let mut later = full();
    later.headers.set("eta", "2026-11-19T00:00:00.000000+00:00");
    let due = celery::parse_time("2026-11-19T00:00:00+00:00").expect("it is a time");
    for (message, at, holds) in [
        (&plain, now(), true),
        (&plain, now() + TimeDelta::seconds(60), true),
        (&plain, now() + TimeDelta::seconds(61), false),
        (&plain, now() - TimeDelta::minutes(5), true),
        (&plain, now() - TimeDelta::minutes(6), false),
        (&later, now() + TimeDelta::seconds(61), true),
        (&later, due + TimeDelta::seconds(60), true),
        (&later, due + TimeDelta::seconds(61), false),
    ] {
        let mut message = message.clone();
        sign(&mut message, "orders", &key(HMAC), now());
        let verified = verification.verify(&message, "orders", at, Age::Recent);
        assert_eq!(verified.is_ok(), holds, "{at}: {verified:?}");
        assert_eq!(verification.verify(&message, "orders", at, Age::Any), Ok(()));
    }
}

#[test]
fn where_signatures_are_not_required_only_wrong_ones_are_refused() {
    let verification = Verification { is_required: false, ..verification(HMAC) };
    assert_eq!(verification.verify(&full(), "orders", now(), Age::Recent), Ok(()));
    assert!(verification.verify(&signed(HMAC), "payroll", now(), Age::Recent).is_err());
}

#[test]
fn the_signed_form_is_what_the_guide_says() {
    // For other implementations: these bytes must not change without a new version.
    let mut message = WireMessage { body: b"[[], {}, {}]".as_slice().into(), ..WireMessage::default() };
    message.properties.content_type = Some("application/json".into());
    message.headers.set("task", "t");
    message.headers.set("id", "i");
    sign(&mut message, "q", &key(HMAC), now());
    let signature = message.headers.text(SIGNATURE).expect("it is signed");
    assert_eq!(signature, "1;hmac-sha256;one;1795000000000;NiayHuS_fcXmq3fvb26Kj-H8cla6Lfk3ikjQ_Un2G-U");
}

proptest! {
    /// Brokers sort maps and headers, and mark what was sent again.
    #[test]
    fn the_way_through_a_broker_changes_nothing(names in proptest::collection::hash_set("[a-z-]{1,9}", 0..6),
            number: f64, big: u64, resent: bool) {
        let mut message = full();
        for name in &names {
            message.headers.set(name.clone(), json!({ "z": number, "a": big as f64, "m": { "y": -1, "b": name } }));
        }
        sign(&mut message, "orders", &key(HMAC), now());
        let mut arrived = message.clone();
        let mut headers: Vec<_> = message.headers.clone().into_iter().collect();
        headers.sort_by(|(one, _), (other, _)| other.cmp(one));
        arrived.headers = headers.into_iter().collect();
        if resent {
            arrived.headers.set(celery::RESENT, true);
        }
        arrived.headers.set("shadow", serde_json::Value::Null);
        prop_assert_eq!(verification(HMAC).verify(&arrived, "orders", now(), Age::Recent), Ok(()));
    }
}
