//! Tests of message bodies.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::{decode, recorded};
use crate::message::WireMessage;

fn payload(content_type: &'static str, body: impl Into<Bytes>) -> Payload {
    Payload {
        content_type: content_type.into(),
        content_encoding: "utf-8".into(),
        compression: None,
        body: body.into(),
    }
}

fn json_list(body: &MessageBody) -> Vec<Value> {
    let arguments = body.arguments().expect("the body has the right form");
    arguments.positional().iter().map(|raw| serde_json::from_str(raw.get()).expect("JSON")).collect()
}

#[test]
fn bodies_of_another_form_are_refused() {
    for body in [
        "",
        "7",
        "null",
        "{}",
        "[]",
        "[[1]]",
        "[[1], {}]",
        "[[1], {}, {}, {}]",
        "[[1], 7, {}]",
        "[7, {}, {}]",
        "[[1], {}, {}",
        "[[1], {\"a\": }, {}]",
        "\u{0}",
        "[[1], {}, {}] x",
    ] {
        let read = MessageBody::read(&payload(JSON, body)).and_then(|body| body.arguments().map(|_| ()));
        assert!(read.is_err(), "{body:?} was taken");
    }
}

#[test]
fn halves_of_surrogate_pairs_are_replaced() {
    let body =
        MessageBody::read(&payload(JSON, r#"[["\udc80.txt", "\ud83d\ude00", "\\ud83d"], {}, {}]"#)).expect("readable");
    assert_eq!(json_list(&body), [json!("\u{fffd}.txt"), json!("😀"), json!("\\ud83d")]);
}

#[test]
fn what_python_writes_is_read() {
    let body =
        MessageBody::read(&payload(JSON, r#"[[NaN, -Infinity, 1e3, 123456789012345678901234567890], null, null]"#))
            .expect("readable");
    assert_eq!(json_list(&body)[..2], [Value::Null, Value::Null]);
    let typed = r#"[[{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}], {}, {}]"#;
    let body = MessageBody::read(&payload(JSON, typed)).expect("readable");
    assert_eq!(json_list(&body), [json!("00000000-0000-0000-0000-000000000005")]);
}

#[test]
fn foreign_forms_are_refused_by_name() {
    let refusal = |payload: &Payload| MessageBody::read(payload).expect_err("foreign").to_string();
    assert!(refusal(&payload("application/x-python-serialize", "x")).contains("x-python-serialize"));
    assert!(refusal(&payload("", "[[],{},{}]")).contains("\"\""));
    let mut brotli = payload(JSON, "x");
    brotli.compression = Some("application/x-brotli".to_owned());
    assert!(refusal(&brotli).contains("brotli"));
    let mut utf16 = payload(JSON, "x");
    utf16.content_encoding = "utf-16".into();
    assert!(refusal(&utf16).contains("utf-16"));
    let mut gzip = payload(JSON, "not compressed");
    gzip.compression = Some(GZIP.to_owned());
    assert!(MessageBody::read(&gzip).is_err());
}

#[test]
fn what_follows_is_never_dropped_in_silence() {
    for (embed, named) in [
        ("{}", None),
        ("null", None),
        (r#"{"callbacks": null, "errbacks": [], "chain": [], "chord": null}"#, None),
        (r#"{"callbacks": [{"task": "a"}]}"#, Some("callbacks")),
        (r#"{"chain": [{"task": "a"}]}"#, Some("chain")),
        (r#"{"chord": {"task": "a"}}"#, Some("chord")),
    ] {
        let body = MessageBody::read(&payload(JSON, format!("[[], {{}}, {embed}]"))).expect("JSON");
        match (body.arguments(), named) {
            (Ok(_), None) => {}
            (Err(BodyError::Follows(what)), Some(named)) => assert_eq!(what, named),
            (other, _) => panic!("{embed}: {other:?}"),
        }
    }
}

/// Bodies recorded from Celery are read, or refused for what they carry.
#[test]
#[cfg(all(feature = "gzip", feature = "msgpack"))]
fn recorded_bodies_are_read() {
    let recorded = recorded::messages();
    let arguments_of = |name: &str| recorded_arguments(&recorded[name]);
    for (name, expected) in [
        ("plain", json!([[2, 3], {}])),
        ("kwargs", json!([[], {"x": 2, "y": 3}])),
        ("all_options", json!([[2], {"y": 3}])),
        ("unicode", json!([["grüße 🦀", "quote \" and \\ and \n"], {"schlüssel": "wert"}])),
        ("nan", json!([[null, null, null, 0.1, 1e300], {}])),
        ("retry", json!([[], {"countdown": 3600}])),
    ] {
        let (positional, named) = arguments_of(name).expect(name);
        assert_eq!(json!([positional, named]), expected, "{name}");
    }
    let (numbers, _) = arguments_of("bigint").expect("numbers of any size");
    assert_eq!(numbers[2], json!(u64::MAX));
    let (_, typed) = arguments_of("typed_values").expect("typed values");
    assert_eq!(typed["datetime"], json!("2025-01-02T03:04:05.678901+00:00"));
    for name in ["gzip", "msgpack"] {
        let (positional, _) = arguments_of(name).expect(name);
        assert!(!positional.is_empty(), "{name}");
    }
    for (name, carries) in [("chain", "chain"), ("chord_member_0", "chord"), ("link_and_link_error", "callbacks")] {
        let refusal = arguments_of(name).expect_err(name).to_string();
        assert!(refusal.contains(carries), "{name}: {refusal}");
    }
}

/// The arguments in a recording, as plain JSON.
fn recorded_arguments(message: &WireMessage) -> Result<(Vec<Value>, Value), BodyError> {
    let payload = decode(message).expect("a recording can be read").payload;
    let body = MessageBody::read(&payload)?;
    let arguments = body.arguments()?;
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).expect("JSON");
    let positional = arguments.positional().iter().map(|raw| value(raw)).collect();
    let named = arguments.named().map(|(name, raw)| (name.to_owned(), value(raw))).collect::<serde_json::Map<_, _>>();
    Ok((positional, named.into()))
}

proptest! {
    #[test]
    fn arguments_round_trip(
        numbers in proptest::collection::vec(any::<i64>(), 0..6),
        names in proptest::collection::btree_map(".{1,8}", ".{0,20}", 0..4),
        msgpack in any::<bool>(),
    ) {
        let positional: Vec<Value> = numbers.iter().map(|number| json!(number)).collect();
        let named: serde_json::Map<_, _> = names.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
        let text = format!("{},{}", json!(positional), json!(named));
        let serializer = if msgpack && cfg!(feature = "msgpack") { Serializer::Msgpack } else { Serializer::Json };
        let body = MessageBody::read(&encode(|body| body.extend_from_slice(text.as_bytes()), serializer).expect("plain JSON")).expect("our own");
        prop_assert_eq!(json_list(&body), positional);
        let arguments = body.arguments().expect("our own");
        let read: serde_json::Map<_, _> = arguments
            .named()
            .map(|(name, raw)| (name.to_owned(), serde_json::from_str(raw.get()).expect("JSON")))
            .collect();
        prop_assert_eq!(read, named);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..4) {
        let mut payload = payload(if kind % 2 == 0 { JSON } else { MSGPACK }, bytes);
        if kind > 1 {
            payload.compression = Some(GZIP.to_owned());
        }
        if let Ok(body) = MessageBody::read(&payload) {
            let _ = body.arguments();
        }
    }
}
