//! Property tests of broken messages: each message is either read, or refused with a reason.
//!
//! `PROPTEST_CASES=1000000` makes it a million; `scripts/torture F33` does.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::{MessageBody, decode, recorded};
use crate::message::WireMessage;

static RECORDED: LazyLock<Vec<WireMessage>> = LazyLock::new(|| recorded::messages().into_values().collect());

/// A fault in a message.
#[derive(Debug, Clone)]
enum Wrong {
    Cut(Index),
    Byte(Index, u8),
    Inserted(Index, Vec<u8>),
    /// The end of another message's body.
    Spliced(Index, Index),
    Nested(u16),
    ContentType(&'static str),
    Encoding(&'static str),
    Compression(&'static str),
    Header(Index, Value),
    NoHeader(Index),
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let odd = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        Just(json!([[null, -1], {"a": []}])),
        Just(json!("2026-02-30T25:61:00+99:99")),
        Just(json!(u64::MAX)),
    ];
    let types =
        prop::sample::select(vec!["", "application/json", "application/x-msgpack", "application/x-python-serialize"]);
    let encodings = prop::sample::select(vec!["", "utf-8", "binary", "base64", "utf-16"]);
    let compressions = prop::sample::select(vec!["", "application/x-gzip", "application/x-bz2", "gzip"]);
    prop_oneof![
        any::<Index>().prop_map(Wrong::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Wrong::Byte(at, byte)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(at, bytes)| Wrong::Inserted(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(other, at)| Wrong::Spliced(other, at)),
        any::<u16>().prop_map(Wrong::Nested),
        types.prop_map(Wrong::ContentType),
        encodings.prop_map(Wrong::Encoding),
        compressions.prop_map(Wrong::Compression),
        (any::<Index>(), odd).prop_map(|(at, value)| Wrong::Header(at, value)),
        any::<Index>().prop_map(Wrong::NoHeader),
    ]
}

impl Wrong {
    fn befall(self, message: &mut WireMessage) {
        let mut body = message.body.to_vec();
        let within = |at: Index, body: &[u8]| at.index(body.len() + 1);
        match self {
            Self::Cut(at) => body.truncate(within(at, &body)),
            Self::Byte(at, byte) => {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = byte;
                }
            }
            Self::Inserted(at, bytes) => {
                let at = within(at, &body);
                body.splice(at..at, bytes);
            }
            Self::Spliced(other, at) => {
                let other = &other.get(&RECORDED).body;
                body.truncate(within(at, &body));
                body.extend_from_slice(&other[within(at, other)..]);
            }
            Self::Nested(depth) => body = "[".repeat(depth.into()).into_bytes(),
            Self::ContentType(text) => message.properties.content_type = Some(text.into()),
            Self::Encoding(text) => message.properties.content_encoding = Some(text.into()),
            Self::Compression(text) => drop(message.headers.set("compression", text)),
            Self::Header(at, value) => {
                if let Some(name) = header(at, message) {
                    message.headers.set(name, value);
                }
            }
            Self::NoHeader(at) => {
                let name = header(at, message);
                let kept = message.headers.iter().filter(|(other, _)| Some(*other) != name.as_deref());
                message.headers = kept.map(|(name, value)| (name.to_owned(), value.clone())).collect();
            }
        }
        message.body = Bytes::from(body);
    }
}

/// The name of one of its headers.
fn header(at: Index, message: &WireMessage) -> Option<String> {
    let names: Vec<&str> = message.headers.iter().map(|(name, _)| name).collect();
    (!names.is_empty()).then(|| (*at.get(&names)).to_owned())
}

/// Reads everything that a worker reads before it runs a body.
fn read(message: &WireMessage) -> Result<(), String> {
    let envelope = decode(message).map_err(|error| error.to_string())?;
    let body = MessageBody::read(&envelope.payload, 64 << 20).map_err(|error| error.to_string())?;
    body.arguments(99).map_err(|error| error.to_string())?;
    Ok(())
}

proptest! {
    #[test]
    fn a_broken_message_is_read_or_refused_with_a_reason(
        which in any::<Index>(),
        wrongs in prop::collection::vec(wrong(), 1..5),
    ) {
        let mut message = which.get(&RECORDED).clone();
        for wrong in wrongs {
            wrong.befall(&mut message);
        }
        if let Err(reason) = read(&message) {
            prop_assert!(reason.len() > 10, "{reason:?} says nothing");
        }
    }
}
