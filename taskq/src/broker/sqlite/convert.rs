//! The stored form of a message: properties and headers as JSON, the body as it is.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::codec::celery::UNREADABLE;
use crate::message::{HeaderValue, Headers, Properties, WireMessage};

/// A message in its stored form.
#[derive(Debug)]
pub(super) struct StoredMessage {
    pub(super) properties: String,
    pub(super) headers: String,
    pub(super) body: Bytes,
    /// The rank among the messages of the queue: smaller first.
    pub(super) rank: i64,
}

impl StoredMessage {
    pub(super) fn of(message: &WireMessage) -> Self {
        let Properties { content_type, content_encoding, priority, correlation_id, reply_to } = &message.properties;
        let properties = Plain {
            content_type: content_type.as_deref().map(Cow::Borrowed),
            content_encoding: content_encoding.as_deref().map(Cow::Borrowed),
            priority: *priority,
            correlation_id: correlation_id.as_deref().map(Cow::Borrowed),
            reply_to: reply_to.as_deref().map(Cow::Borrowed),
        };
        let why = "tables with text keys are valid JSON";
        Self {
            properties: serde_json::to_string(&properties).expect(why),
            headers: serde_json::to_string(&Table(&message.headers)).expect(why),
            body: message.body.clone(),
            rank: -i64::from(priority.unwrap_or(0)),
        }
    }

    /// Converts it to a message. Parts that are damaged are left out, and the header [`UNREADABLE`] says so: such a
    /// message ends in the dead set with the parts that are left.
    pub(super) fn read(self) -> WireMessage {
        let mut faults = Vec::new();
        let plain: Plain<'_> = parse("properties", &self.properties, &mut faults).unwrap_or_default();
        let table: Option<OwnedTable> = parse("headers", &self.headers, &mut faults);
        let mut headers = table.map(|table| table.0).unwrap_or_default();
        if !faults.is_empty() {
            headers.set(UNREADABLE, faults.join("; "));
        }
        let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        WireMessage {
            properties: Properties {
                content_type: text(plain.content_type).map(Cow::Owned),
                content_encoding: text(plain.content_encoding).map(Cow::Owned),
                priority: plain.priority,
                correlation_id: text(plain.correlation_id),
                reply_to: text(plain.reply_to),
            },
            headers,
            body: self.body,
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str, faults: &mut Vec<String>) -> Option<T> {
    let parsed = serde_json::from_str(text);
    parsed.map_err(|error| faults.push(format!("its {what} in the file are damaged ({error})"))).ok()
}

#[derive(Default, Serialize, Deserialize)]
struct Plain<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_encoding: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Cow<'a, str>>,
}

struct Table<'a>(&'a Headers);

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

struct OwnedTable(Headers);

impl<'de> Deserialize<'de> for OwnedTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = OwnedTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of headers")
            }

            // A map of serde_json's would sort the entries.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnedTable, A::Error> {
                let mut headers = Headers::with_capacity(12);
                while let Some((key, value)) = map.next_entry::<String, HeaderValue>()? {
                    // Of two values under one name the last one counts, for each reader.
                    headers.set(key, value);
                }
                Ok(OwnedTable(headers))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let headers: Headers = [
            ("z", json!(null)),
            ("a", json!({"n": [1, -2, u64::MAX, 0.5, "\0\u{1f980}\"\\"]})),
            ("m", json!(9_007_199_254_740_993_i64)),
        ]
        .into_iter()
        .collect();
        let properties = Properties {
            content_type: Some("application/json".into()),
            content_encoding: None,
            priority: Some(9),
            correlation_id: Some("a \"quoted\" id".to_owned()),
            reply_to: None,
        };
        for message in
            [WireMessage { properties, headers, body: Bytes::from_static(b"\0\xff") }, WireMessage::default()]
        {
            assert_eq!(StoredMessage::of(&message).read(), message);
        }
    }

    #[test]
    fn damage_is_told() {
        let damaged = StoredMessage {
            properties: "{".to_owned(),
            headers: "[]".to_owned(),
            body: Bytes::from_static(b"x"),
            rank: 0,
        };
        let read = damaged.read();
        assert_eq!(read.body, "x");
        let told = read.headers.text(UNREADABLE).expect("it is told");
        assert!(told.contains("its properties in the file are damaged") && told.contains("its headers"), "{told}");
        let twice = StoredMessage {
            headers: r#"{"id":"one","id":"two"}"#.to_owned(),
            ..StoredMessage::of(&WireMessage::default())
        };
        let headers = twice.read().headers;
        assert_eq!((headers.len(), headers.text("id")), (1, Some("two")));
    }
}
