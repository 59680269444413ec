//! Conversion between taskq's messages and AMQP's: properties and header tables, in both directions.
//!
//! Types are written as py-amqp writes them, since all other readers of these queues expect that. On input, every AMQP
//! type has a sensible counterpart, and nothing that another client sends causes a panic.

use std::borrow::Cow;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use serde_json::{Number, Value};

use super::death;
use super::screen::DEPTH_MAX;
use super::value::from_value;
use crate::broker::{DEAD_QUEUE, DEATH_QUEUE, DEATH_REASON, EXPIRED_QUEUE};
use crate::message::{Headers, Properties, WireMessage};

/// The header that marks a message as a possible second copy.
const RESENT: &str = "taskq-resent";

/// The maximum size of the other parts of a content header frame: the frame itself and all properties but the table.
const PROPERTIES_MAX: usize = 2048;

/// A message that cannot be written as AMQP.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("the {what} has {bytes} bytes, and AMQP allows 255")]
    TooLong { what: String, bytes: usize },
    #[error("the headers have {size} bytes, and a frame of this connection holds {limit}")]
    Headers { size: usize, limit: usize },
    #[error("the header `{header}` is nested deeper than {DEPTH_MAX} levels")]
    TooDeep { header: String },
}

/// The AMQP properties of `message`. `number` distinguishes it from every other message on this connection, so that it
/// is recognized when the broker returns it. `frame_max` limits the headers, which AMQP cannot split over frames.
pub(super) fn to_amqp(
    message: &WireMessage,
    number: u64,
    resent: bool,
    frame_max: usize,
) -> Result<BasicProperties, Unsendable> {
    let Properties { content_type, content_encoding, priority, correlation_id, reply_to } = &message.properties;
    let mut properties =
        BasicProperties::default().with_delivery_mode(2).with_message_id(ShortString::from(number.to_string()));
    if let Some(text) = content_type {
        properties = properties.with_content_type(short("content type", text)?);
    }
    if let Some(text) = content_encoding {
        properties = properties.with_content_encoding(short("content encoding", text)?);
    }
    if let Some(priority) = priority {
        properties = properties.with_priority(*priority);
    }
    if let Some(text) = correlation_id {
        properties = properties.with_correlation_id(short("correlation id", text)?);
    }
    if let Some(text) = reply_to {
        properties = properties.with_reply_to(short("reply address", text)?);
    }
    for (header, value) in message.headers.iter() {
        if is_deeper(value, DEPTH_MAX) {
            return Err(Unsendable::TooDeep { header: header.to_owned() });
        }
    }
    let mut table = table(message.headers.iter())?;
    if resent {
        table.insert(ShortString::from(RESENT), AMQPValue::Boolean(true));
    }
    let (size, limit) = (table_size(&table), frame_max.saturating_sub(PROPERTIES_MAX));
    if size > limit {
        return Err(Unsendable::Headers { size, limit });
    }
    Ok(properties.with_headers(table))
}

/// The message of a delivery from `queue`, and the number of times it came back before, if the broker counts that.
///
/// Headers that brokers add on the way are removed: if the message is published again, they would look to the broker
/// like a cycle. Only in the queues that the broker itself fills, of dead and of expired messages, the reason and the
/// queue of its death are kept.
pub(super) fn from_amqp(
    properties: &BasicProperties,
    body: Vec<u8>,
    queue: &str,
    key: &str,
) -> (WireMessage, Option<u32>) {
    let mut headers = Headers::new();
    let mut returns = None;
    if let Some(table) = properties.headers() {
        headers = Headers::with_capacity(table.inner().len());
        for (key, value) in table {
            match key.as_str() {
                "x-delivery-count" => returns = count(value),
                key if broker_made(key) => {}
                key => headers.push(key.to_owned(), from_value(value)),
            }
        }
        if [DEAD_QUEUE, EXPIRED_QUEUE].contains(&queue)
            && let Some((reason, queue)) = death::of(table, key)
        {
            headers.push(DEATH_REASON, reason);
            headers.push(DEATH_QUEUE, queue);
        }
    }
    let message = WireMessage {
        properties: Properties {
            content_type: properties.content_type().as_ref().map(known_text),
            content_encoding: properties.content_encoding().as_ref().map(known_text),
            priority: *properties.priority(),
            correlation_id: properties.correlation_id().as_ref().map(ToString::to_string),
            reply_to: properties.reply_to().as_ref().map(ToString::to_string),
        },
        headers,
        body: body.into(),
    };
    (message, returns)
}

fn broker_made(key: &str) -> bool {
    key.starts_with("x-")
        && (matches!(key, "x-death" | "x-acquired-count" | DEATH_REASON | DEATH_QUEUE)
            || key.starts_with("x-first-death-")
            || key.starts_with("x-last-death-"))
}

fn count(value: &AMQPValue) -> Option<u32> {
    from_value(value).as_u64().map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// Returns common texts without an allocation; nearly every message has one of these few.
fn known_text(text: &ShortString) -> Cow<'static, str> {
    match text.as_str() {
        "application/json" => Cow::Borrowed("application/json"),
        "utf-8" => Cow::Borrowed("utf-8"),
        "application/x-msgpack" => Cow::Borrowed("application/x-msgpack"),
        "binary" => Cow::Borrowed("binary"),
        other => Cow::Owned(other.to_owned()),
    }
}

fn short(what: &str, text: &str) -> Result<ShortString, Unsendable> {
    ShortString::try_new(text).map_err(|_| Unsendable::TooLong { what: what.to_owned(), bytes: text.len() })
}

fn table<'a>(entries: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<FieldTable, Unsendable> {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(short("name of a header", key)?, to_value(value)?);
    }
    Ok(table)
}

/// Whether tables and lists are nested in `value` deeper than `levels`.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let deeper = |inner: &Value| is_deeper(inner, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(deeper),
        Value::Object(map) => levels == 0 || map.values().any(deeper),
        _ => false,
    }
}

fn to_value(value: &Value) -> Result<AMQPValue, Unsendable> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => to_number(number),
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_bytes())),
        Value::Array(items) => {
            AMQPValue::FieldArray(FieldArray::from(items.iter().map(to_value).collect::<Result<Vec<_>, _>>()?))
        }
        Value::Object(map) => AMQPValue::FieldTable(table(map.iter().map(|(key, value)| (key.as_str(), value)))?),
    })
}

/// Converts a number, never to one of the short integers: old releases of py-amqp read their tag as a string and lose
/// the rest of the table.
fn to_number(number: &Number) -> AMQPValue {
    match number.as_i64() {
        Some(int) => i32::try_from(int).map_or(AMQPValue::LongLongInt(int), AMQPValue::LongInt),
        // Beyond signed 64 bits, AMQP has only floats.
        None => number.as_f64().map_or(AMQPValue::Void, AMQPValue::Double),
    }
}

fn table_size(table: &FieldTable) -> usize {
    4 + table.into_iter().map(|(key, value)| 1 + key.as_str().len() + value_size(value)).sum::<usize>()
}

fn value_size(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::FieldArray(items) => 4 + items.as_slice().iter().map(value_size).sum::<usize>(),
        AMQPValue::FieldTable(table) => table_size(table),
        // All other types that are written here have at most eight bytes.
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn there_and_back(message: &WireMessage) -> WireMessage {
        let properties = to_amqp(message, 1, false, 131_072).expect("the message can be sent");
        from_amqp(&properties, message.body.to_vec(), "q", "q").0
    }

    #[test]
    fn types_are_those_that_py_amqp_writes() {
        for (value, expected) in [
            (json!("text"), AMQPValue::LongString("text".into())),
            (json!(null), AMQPValue::Void),
            (json!(true), AMQPValue::Boolean(true)),
            (json!(0), AMQPValue::LongInt(0)),
            (json!(2_147_483_647), AMQPValue::LongInt(i32::MAX)),
            (json!(-2_147_483_648_i64), AMQPValue::LongInt(i32::MIN)),
            (json!(2_147_483_648_i64), AMQPValue::LongLongInt(2_147_483_648)),
            (json!(u64::MAX), AMQPValue::Double(u64::MAX as f64)),
            (json!(1.5), AMQPValue::Double(1.5)),
            (
                json!([1, "a"]),
                AMQPValue::FieldArray(vec![AMQPValue::LongInt(1), AMQPValue::LongString("a".into())].into()),
            ),
        ] {
            assert_eq!(to_value(&value).expect("it is short"), expected, "{value}");
        }
    }

    #[test]
    fn what_brokers_add_is_taken_out() {
        let mut table = FieldTable::default();
        for key in ["x-death", "x-first-death-queue", "x-first-death-reason", "x-last-death-exchange", "x-mine", "id"] {
            table.insert(key.into(), AMQPValue::LongString("here".into()));
        }
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = BasicProperties::default().with_headers(table);
        let names = |message: WireMessage| message.headers.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
        let (message, returns) = from_amqp(&properties, Vec::new(), "q", "q");
        assert_eq!((names(message), returns), (vec!["id".to_owned(), "x-mine".to_owned()], Some(3)));
        let (message, _) = from_amqp(&properties, Vec::new(), DEAD_QUEUE, "q");
        assert_eq!(names(message), ["id", "x-mine", DEATH_REASON, DEATH_QUEUE]);
    }

    #[test]
    fn what_amqp_cannot_hold_is_an_error() {
        let mut message = WireMessage::default();
        message.properties.correlation_id = Some("x".repeat(256));
        let error = to_amqp(&message, 1, false, 16_384).expect_err("256 bytes are too many").to_string();
        assert_eq!(error, "the correlation id has 256 bytes, and AMQP allows 255");
        let mut message = WireMessage::default();
        message.headers.set("long", "x".repeat(20_000));
        assert!(matches!(to_amqp(&message, 1, false, 16_384), Err(Unsendable::Headers { .. })));
        assert!(to_amqp(&message, 1, false, 131_072).is_ok());
    }

    #[test]
    fn a_resent_message_says_so() {
        let properties = to_amqp(&WireMessage::default(), 1, true, 16_384).expect("it is short");
        assert_eq!(from_amqp(&properties, Vec::new(), "q", "q").0.headers.get(RESENT), Some(&json!(true)));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e15..1e15).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        // The keys are generated sorted, because they come back sorted.
        #[test]
        fn messages_survive(headers in proptest::collection::btree_map("[a-z-]{1,20}", value(), 0..8), body: Vec<u8>,
                priority: Option<u8>, id in proptest::option::of("[a-z0-9-]{1,36}")) {
            let message = WireMessage {
                properties: Properties {
                    content_type: Some("application/json".into()),
                    content_encoding: None,
                    priority,
                    correlation_id: id,
                    reply_to: None,
                },
                headers: headers.into_iter().filter(|(key, _)| key != RESENT && !broker_made(key)).collect(),
                body: body.into(),
            };
            prop_assert_eq!(there_and_back(&message), message);
        }
    }
}
