//! Tests of the message codec.

use chrono::TimeZone;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::recorded;

fn message(headers: &[(&'static str, Value)]) -> WireMessage {
    WireMessage { headers: headers.iter().cloned().collect(), ..WireMessage::default() }
}

#[test]
fn the_smallest_message_is_a_name_and_an_id() {
    let envelope = decode(&message(&[("task", "a.b".into()), ("id", "1".into())])).expect("it has both");
    assert_eq!((envelope.task.as_ref(), envelope.id.as_str(), envelope.attempt), ("a.b", "1", 0));
    assert!(!envelope.may_be_copy());
}

#[test]
fn headers_of_other_types_are_refused_by_name() {
    for (header, value) in [
        ("id", json!("")),
        ("id", json!(7)),
        ("id", Value::Null),
        ("task", json!(["a"])),
        ("retries", json!("three")),
        ("retries", json!(-1)),
        ("eta", json!(1_795_226_686)),
        ("eta", json!("tomorrow")),
        ("expires", json!({})),
        ("timelimit", json!([1])),
        ("timelimit", json!([1, 2, 3])),
        ("timelimit", json!([-1, null])),
        ("timelimit", json!(["20", 10])),
        ("root_id", json!([])),
        ("group_index", json!("first")),
        ("ignore_result", json!("yes")),
    ] {
        let mut message = message(&[("task", "a".into()), ("id", "1".into())]);
        message.headers.set(header, value.clone());
        let error = decode(&message).expect_err("the header is wrong").to_string();
        assert!(error.contains(header), "{header} = {value}: {error}");
    }
    assert_eq!(decode(&WireMessage::default()), Err(DecodeError::NoTask));
}

#[test]
fn nulls_mean_nothing() {
    let mut message = message(&[("task", "a".into()), ("id", "1".into())]);
    for header in INTERPRETED.into_iter().filter(|header| !["task", "id"].contains(header)) {
        message.headers.set(header, Value::Null);
    }
    let envelope = decode(&message).expect("nulls are allowed");
    let plain = Envelope::new(envelope.id.clone(), "a", Payload::default());
    assert_eq!(envelope, plain);
}

#[test]
fn times_are_read_in_every_form() {
    let expected = Utc.with_ymd_and_hms(2026, 11, 21, 2, 3, 34).single().expect("the time exists");
    for text in [
        "2026-11-21T02:03:34+00:00",
        "2026-11-21T02:03:34Z",
        "2026-11-21T03:03:34+01:00",
        "2026-11-21T03:03:34+0100",
        "2026-11-21T02:03:34",
        "2026-11-21 02:03:34.000000",
    ] {
        assert_eq!(parse_time(text), Some(expected), "{text}");
    }
    assert_eq!(parse_time("2026-11-21"), None);
}

/// Celery copies headers that it does not know into the message of a retry, and holds that back in a worker.
#[test]
fn a_delay_was_served_only_if_the_eta_is_still_the_same() {
    let eta = Utc.with_ymd_and_hms(2026, 11, 21, 2, 3, 34).single().expect("the time exists");
    let envelope = Envelope::new(TaskId::new(), "t", Payload::default()).with(|envelope| {
        envelope.eta = Some(eta);
        envelope.delay_served = true;
    });
    let mut message = encode(envelope);
    assert!(decode(&message).expect("it can be read").delay_served);
    message.headers.set("eta", time_text(eta + chrono::TimeDelta::seconds(1)));
    assert!(!decode(&message).expect("it can be read").delay_served);
    message.headers.remove("eta");
    assert!(!decode(&message).expect("it can be read").delay_served);
}

#[test]
fn no_priority_is_the_lowest_one_as_with_celery() {
    for (given, written, read) in [(None, 0, None), (Some(0), 0, None), (Some(1), 1, Some(1)), (Some(9), 9, Some(9))] {
        let envelope = Envelope::new(TaskId::new(), "t", Payload::default()).with(|envelope| envelope.priority = given);
        let message = encode(envelope);
        assert_eq!(message.properties.priority, Some(written), "{given:?}");
        assert_eq!(decode(&message).expect("it can be read").priority, read, "{given:?}");
    }
}

/// Messages recorded from Celery are understood, and nothing in them is lost on the way through.
#[test]
fn recorded_messages_pass_through() {
    for (name, message) in recorded::messages() {
        let envelope = decode(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Some(envelope.task.as_ref()), message.headers.get("task").and_then(Value::as_str));
        let again = encode(envelope);
        assert_eq!(again.body, message.body);
        for (key, value) in message.headers.iter().filter(|(key, value)| *key != "lang" && !value.is_null()) {
            let kept = again.headers.get(key);
            match key {
                "eta" | "expires" => {
                    assert_eq!(kept.and_then(Value::as_str).and_then(parse_time), value.as_str().and_then(parse_time));
                }
                "retries" if value == 0 => assert_eq!(kept, None),
                "timelimit" if *value == json!([null, null]) => assert_eq!(kept, None),
                _ => assert_eq!(kept, Some(value), "{name}: {key}"),
            }
        }
    }
}

prop_compose! {
    fn any_time()(micros in 0_i64..4_000_000_000_000_000) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).expect("within chrono's range")
    }
}

prop_compose! {
    fn any_envelope()(
        id in ".{1,60}",
        task in "[a-z]{1,10}\\.[a-z]{1,10}",
        numbers in (0_u32..1000, 0_u32..10, proptest::option::of(1_u8..=255), proptest::option::of(-5_i64..500)),
        eta in proptest::option::of(any_time()),
        expires in proptest::option::of(any_time()),
        limits in (proptest::option::of(0_u64..1_000_000), proptest::option::of(0_u64..1_000_000)),
        texts in (proptest::option::of("[a-z]{1,9}"), proptest::option::of("[a-z]{1,9}"), proptest::option::of("[a-z]{1,9}")),
        flags in (proptest::option::of(any::<bool>()), any::<bool>(), any::<bool>()),
        user in proptest::collection::vec(("[a-z]{3}-[a-z]{3}", "[ -~]{0,20}"), 0..4),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) -> Envelope {
        let id_of = |text: &Option<String>| text.as_ref().map(|text| TaskId::parse(text).expect("not empty"));
        Envelope {
            attempt: numbers.0,
            generation: numbers.1,
            snoozes: numbers.1,
            returns: numbers.0,
            priority: numbers.2,
            group_index: numbers.3,
            eta,
            expires,
            limits: TimeLimits { hard: limits.0.map(Duration::from_millis), soft: limits.1.map(Duration::from_millis) },
            root_id: id_of(&texts.0),
            parent_id: id_of(&texts.1),
            group_id: texts.2.clone(),
            origin: texts.0.clone(),
            ignore_result: flags.0,
            resent: flags.1,
            moved: flags.2,
            scheduled: flags.1 != flags.2,
            sender_clock: numbers.3.map(chrono::TimeDelta::milliseconds),
            delay_served: eta.is_some() && flags.1,
            put_back: limits.0.map(Duration::from_millis),
            origin_queue: texts.1.clone(),
            headers: user.into_iter().collect(),
            ..Envelope::new(TaskId::parse(&id.chars().take(60).collect::<String>()).expect("not empty"), task, Payload {
                content_type: "application/json".into(),
                content_encoding: "utf-8".into(),
                compression: texts.1.clone(),
                body: body.into(),
            })
        }
    }
}

/// Any header value that a broker may hand us.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((".{0,5}", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(envelope in any_envelope()) {
        prop_assert_eq!(decode(&encode(envelope.clone())), Ok(envelope));
    }

    #[test]
    fn no_header_table_panics(entries in proptest::collection::vec((proptest::sample::select(&INTERPRETED[..]), any_value()), 0..14)) {
        let mut message = WireMessage::default();
        for (key, value) in entries {
            message.headers.set(key, value);
        }
        let _ = decode(&message);
    }
}
