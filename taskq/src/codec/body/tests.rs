//! Tests of message bodies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

use crate::codec::{decode, recorded};
use crate::definition::Parameter;
use crate::message::WireMessage;

/// The largest body that is read here, in bytes.
const LIMIT: usize = 64 << 20;

fn payload(content_type: &'static str, body: impl Into<Bytes>) -> Payload {
    Payload {
        content_type: content_type.into(),
        content_encoding: "utf-8".into(),
        compression: None,
        body: body.into(),
    }
}

fn json_list(body: &MessageBody) -> Vec<Value> {
    let arguments = body.arguments(99).expect("the body has the right form");
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
        let read = MessageBody::read(&payload(JSON, body), LIMIT).and_then(|body| body.arguments(99).map(|_| ()));
        assert!(read.is_err(), "{body:?} was taken");
    }
}

/// Takes the first argument as a `T`.
fn first<T: serde::de::DeserializeOwned>(body: &MessageBody) -> Result<T, String> {
    let arguments = body.arguments(99).expect("the body has the right form");
    arguments.take("t", 0, &Parameter::new("x", "T"), crate::codec::exact::from_json).map_err(|error| error.to_string())
}

#[test]
fn what_json_has_no_form_for_is_refused_by_name() {
    for (value, name) in [
        ("NaN", "NaN"),
        ("[[1.5, -Infinity]]", "-Infinity"),
        (r#"{"a": Infinity}"#, "Infinity"),
        (r#""\udc80.txt""#, "not Unicode"),
        (r#"{"\ud83d": 1}"#, "not Unicode"),
    ] {
        for text in [format!(r#"[[{value}, 1], {{"y": 2}}, null]"#), format!(r#"[[], {{"y": 2, "x": {value}}}, null]"#)]
        {
            let body = MessageBody::read(&payload(JSON, text.clone()), LIMIT).expect("readable");
            for error in [
                first::<f64>(&body).expect_err("no f64"),
                first::<Option<f64>>(&body).expect_err("not none"),
                first::<Value>(&body).expect_err("not null"),
                first::<Box<RawValue>>(&body).expect_err("no JSON"),
            ] {
                assert!(error.contains("`x: T`") && error.contains(name), "{text}: {error}");
            }
            let other = body.arguments(99).expect("the body has the right form");
            assert!(
                other.take::<i64>("t", 1, &Parameter::new("y", "i64"), crate::codec::exact::from_json).is_ok(),
                "{text}"
            );
        }
    }
    let body =
        MessageBody::read(&payload(JSON, r#"[["\ud83d\ude00", "\\ud83d", "NaN"], {}, {}]"#), LIMIT).expect("readable");
    assert_eq!(json_list(&body), [json!("😀"), json!("\\ud83d"), json!("NaN")]);
    assert_eq!(first::<String>(&body).as_deref(), Ok("😀"));
}

/// One odd value in a body does not change the others.
#[test]
fn numbers_of_any_size_stay_as_they_are_written() {
    let number = "1267650600228229401496703205376";
    for beside in
        ["1", "NaN", r#""\udc80""#, r#"{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}"#]
    {
        let text = format!(r#"[[{number}, {beside}], {{"f": 0.10, "big": [-{number}]}}, {{"chain": null}}]"#);
        let body = MessageBody::read(&payload(JSON, text), LIMIT).expect("readable");
        assert_eq!(first::<u128>(&body), Ok(1 << 100));
        let arguments = body.arguments(99).expect("the body has the right form");
        let named: Vec<_> = arguments.named().map(|(name, raw)| (name.to_owned(), raw.get().to_owned())).collect();
        assert_eq!(
            named,
            [("f".to_owned(), "0.10".to_owned()), ("big".to_owned(), format!("[-{number}]"))],
            "{beside}"
        );
    }
}

#[test]
fn what_python_writes_is_read() {
    let typed = r#"[[{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}], {}, {}]"#;
    let body = MessageBody::read(&payload(JSON, typed), LIMIT).expect("readable");
    assert_eq!(json_list(&body), [json!("00000000-0000-0000-0000-000000000005")]);
}

#[test]
fn foreign_forms_are_refused_by_name() {
    let refusal = |payload: &Payload| MessageBody::read(payload, LIMIT).expect_err("foreign").to_string();
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
    assert!(MessageBody::read(&gzip, LIMIT).is_err());
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
        (r#"{"chain": [ ]}"#, None),
        (r#"{"chord": null, "chord": {"task": "a"}}"#, Some("chord")),
        (r#"{"chain": [1e999]}"#, Some("chain")),
        (r#"{"chain": [NaN, {"__type__": "date", "__value__": "2025-01-02"}]}"#, Some("chain")),
    ] {
        let body = MessageBody::read(&payload(JSON, format!("[[], {{}}, {embed}]")), LIMIT).expect("JSON");
        match (body.arguments(99), named) {
            (Ok(_), None) => {}
            (Err(BodyError::Follows(what)), Some(named)) => assert_eq!(what, named),
            (other, _) => panic!("{embed}: {other:?}"),
        }
    }
}

#[test]
fn what_follows_and_cannot_be_read_is_refused() {
    let many: Vec<String> = (0..200).map(|number| format!("\"{number}\": null")).collect();
    let many = format!("{{{}, \"chord\": {{\"task\": \"a\"}}}}", many.join(", "));
    for embed in ["7", "[]", "\"chord\"", r#"{"chord": {"task": "a"}, "\ud800": 1}"#, &many] {
        let text = format!("[[], {{}}, {embed}]");
        let refused = MessageBody::read(&payload(JSON, text), LIMIT).and_then(|body| body.arguments(99).map(|_| ()));
        match refused.expect_err(embed) {
            // JSON that holds half a pair is written anew before it is looked into.
            BodyError::Follows(what) => assert_eq!(what, "chord", "{embed}"),
            error => assert!(error.to_string().contains("neither null nor a map"), "{embed}: {error}"),
        }
    }
}

#[test]
#[cfg(feature = "gzip")]
fn a_body_takes_no_more_memory_than_the_limit() {
    use std::io::Write;

    let zeros = |count: usize| format!("[[{}0], {{}}, null]", "0,".repeat(count));
    let compressed = |text: &str| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).expect("memory takes everything");
        Payload {
            compression: Some("application/x-gzip".to_owned()),
            ..payload(JSON, encoder.finish().expect("memory takes everything"))
        }
    };
    let text = zeros(1 << 20);
    let bomb = compressed(&text);
    assert!(bomb.body.len() * INFLATED_BY_MAX >= text.len(), "{} bytes", bomb.body.len());
    assert_eq!(MessageBody::bytes_max(&bomb, LIMIT), bomb.body.len() * INFLATED_BY_MAX);
    let error = MessageBody::read(&bomb, 1 << 20).expect_err("it is too large").to_string();
    assert_eq!(error, "the body has more than 1048576 bytes, which this worker takes at most (`max_received_bytes`)");
    let error = MessageBody::read(&payload(JSON, text.clone()), 1 << 20).expect_err("it is too large").to_string();
    assert!(error.contains("max_received_bytes"), "{error}");
    // Arguments beyond the parameters are counted, and not kept.
    let body = MessageBody::read(&bomb, LIMIT).expect("it is large enough");
    let arguments = body.arguments(2).expect("it is a body");
    assert_eq!(arguments.positional().len(), 2);
    let error = arguments.check("t", &[]).expect_err("there are too many").to_string();
    assert_eq!(error, "t() takes 0 arguments but 1048577 were given");
    let named = format!("[[], {{{}\"z\": 0}}, null]", "\"x\": 0, ".repeat(1000));
    let body = MessageBody::read(&payload(JSON, named), LIMIT).expect("readable");
    let arguments = body.arguments(1).expect("it is a body");
    assert_eq!(arguments.named().count(), 2);
    let x = crate::definition::Parameter::new("x", "i64");
    let error = arguments.check("t", std::slice::from_ref(Box::leak(Box::new(x)))).expect_err("twice").to_string();
    assert_eq!(error, "t() got two values for `x`");
    // Bodies that have to be converted have a limit on their values as well.
    let typed = format!("[[{{\"__type__\": 1}}, {}], {{}}, null]", zeros(5 << 20));
    let error = MessageBody::read(&payload(JSON, typed), LIMIT).expect_err("too many").to_string();
    assert!(error.contains("more than 4194304 values"), "{error}");
}

#[test]
#[cfg(feature = "msgpack")]
fn a_msgpack_body_has_a_limit_on_its_values() {
    // A list of three, whose first element is a list of five million ones.
    let count = 5_000_000_u32.to_be_bytes();
    let body = [&[0x93, 0xdd][..], &count, &vec![1; 5_000_000], &[0x80, 0xc0]].concat();
    let error = MessageBody::read(&payload(MSGPACK, body), LIMIT).expect_err("too many").to_string();
    assert!(error.contains("more than 4194304 values"), "{error}");
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
    let nan = MessageBody::read(&decode(&recorded["nan"]).expect("a recording can be read").payload, LIMIT)
        .expect("readable");
    assert!(first::<f64>(&nan).expect_err("it is not a number").contains("NaN"));
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
    let body = MessageBody::read(&payload, LIMIT)?;
    let arguments = body.arguments(99)?;
    let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).expect("JSON");
    let positional = arguments.positional().iter().map(|raw| value(raw)).collect();
    let named = arguments.named().map(|(name, raw)| (name.to_owned(), value(raw))).collect::<serde_json::Map<_, _>>();
    Ok((positional, named.into()))
}

#[test]
#[cfg(feature = "msgpack")]
fn msgpack_names_the_argument_that_does_not_fit() {
    let write = |text: &'static str| encode(|body| body.extend_from_slice(text.as_bytes()), Serializer::Msgpack);
    for (text, place) in [
        ("[1,[18446744073709551616]],{}", "argument 2"),
        ("[],{\"a\":1,\"b\":-9223372036854775809}", "the argument `b`"),
    ] {
        let error = write(text).expect_err("it has more than 64 bits").to_string();
        assert!(error.contains(place) && error.contains("64 bits"), "{error}");
    }
    let typed = write(r#"[{"__type__":"base64","__value__":"/wA="},{"__type__":"date","__value__":"2025-01-02"}],{}"#);
    let body = typed.expect("bytes fit").body;
    assert!(body.windows(4).any(|bytes| bytes == b"\xc4\x02\xff\x00"), "{body:02x?}");
}

proptest! {
    /// Numbers come back bit for bit, with either serializer, or the call fails.
    #[test]
    fn numbers_come_back_bit_for_bit(double in any::<f64>(), single in any::<f32>(), big in any::<i128>(), msgpack in any::<bool>()) {
        let serializer = if msgpack && cfg!(feature = "msgpack") { Serializer::Msgpack } else { Serializer::Json };
        let sent = (double, Some(single), vec![big]);
        let mut text = b"[".to_vec();
        let written = crate::codec::finite::write(&sent, &mut text);
        text.extend_from_slice(b"],{}");
        prop_assert_eq!(written.is_ok(), double.is_finite() && single.is_finite());
        if written.is_err() {
            return Ok(());
        }
        match encode(|body| body.extend_from_slice(&text), serializer) {
            Ok(payload) => {
                let body = MessageBody::read(&payload, LIMIT).expect("our own");
                let (a, b, c): (f64, Option<f32>, Vec<i128>) = first(&body).expect("our own");
                prop_assert_eq!((a.to_bits(), b.map(f32::to_bits), c), (double.to_bits(), Some(single.to_bits()), vec![big]));
            }
            Err(error) => {
                let fits = i64::try_from(big).is_ok() || u64::try_from(big).is_ok();
                prop_assert!(serializer == Serializer::Msgpack && !fits, "{}", error);
            }
        }
    }

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
        let body = MessageBody::read(&encode(|body| body.extend_from_slice(text.as_bytes()), serializer).expect("plain JSON"), LIMIT).expect("our own");
        prop_assert_eq!(json_list(&body), positional);
        let arguments = body.arguments(99).expect("our own");
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
        if let Ok(body) = MessageBody::read(&payload, LIMIT) {
            let _ = body.arguments(99);
        }
    }
}
