//! Events in the form of Celery's: one object, or a list of them.

use bytes::Bytes;
use serde_json::Value;

use crate::message::{Headers, Properties, WireMessage};
use crate::remote::Event;

/// The longest message with events that is read, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// Writes events of one node. One alone is an object, several are a list.
pub fn encode_events(node: &str, events: Vec<Event>) -> WireMessage {
    let mut objects: Vec<Value> = events
        .into_iter()
        .map(|Event { kind, mut fields }| {
            fields.insert("type".to_owned(), kind.into());
            Value::Object(fields)
        })
        .collect();
    let body = if objects.len() == 1 { objects.swap_remove(0) } else { Value::Array(objects) };
    let properties = Properties::default().with(|properties| {
        properties.content_type = Some("application/json".into());
        properties.content_encoding = Some("utf-8".into());
        properties.priority = Some(0);
    });
    let mut headers = Headers::with_capacity(1);
    headers.push("hostname", node);
    WireMessage { properties, headers, body: Bytes::from(body.to_string()) }
}

/// Reads events. An error tells what is wrong with the message.
pub fn decode_events(message: &WireMessage) -> Result<Vec<Event>, String> {
    if message.body.len() > BYTES_MAX {
        return Err(format!("it has {} bytes, and {BYTES_MAX} are read", message.body.len()));
    }
    match serde_json::from_slice(&message.body) {
        Ok(Value::Array(events)) => events.into_iter().map(event).collect(),
        Ok(one) => Ok(vec![event(one)?]),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

fn event(value: Value) -> Result<Event, String> {
    let Value::Object(mut fields) = value else { return Err("an event in it is no object".to_owned()) };
    match fields.remove("type") {
        Some(Value::String(kind)) => {
            let mut event = Event::new(kind);
            event.fields = fields;
            Ok(event)
        }
        _ => Err("an event in it has no `type`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> WireMessage {
        WireMessage { body: Bytes::from(body.to_owned()), ..WireMessage::default() }
    }

    #[test]
    fn recorded_events_are_read() {
        let heartbeat = r#"{"hostname":"w1@vm","utcoffset":0,"pid":27806,"clock":2,"freq":2.0,"active":0,"processed":0,
            "loadavg":[2.18,0.87,0.36],"sw_ident":"py-celery","sw_ver":"5.6.3","sw_sys":"Linux",
            "timestamp":1795226688.9984252,"type":"worker-heartbeat"}"#;
        let events = decode_events(&message(heartbeat)).expect("Celery sent it");
        assert_eq!(
            (events.len(), events[0].kind.as_str(), events[0].text("hostname")),
            (1, "worker-heartbeat", Some("w1@vm"))
        );
        assert_eq!(events[0].routing_key(), "worker.heartbeat");
        let batch = decode_events(&message(&format!("[{heartbeat},{heartbeat}]"))).expect("a list is read");
        assert_eq!(batch, [events.clone(), events].concat());
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        let one = Event::new("task-started").with("uuid", "1").with("clock", 7);
        let other = Event::new("task-succeeded").with("uuid", "1").with("runtime", 0.5);
        for events in [vec![one.clone()], vec![one, other]] {
            let written = encode_events("w@here", events.clone());
            assert_eq!(written.headers.text("hostname"), Some("w@here"));
            assert_eq!(decode_events(&written), Ok(events));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, expected) in [
            ("", "no JSON"),
            ("7", "no object"),
            ("[7]", "no object"),
            ("{}", "no `type`"),
            (r#"[{"type":7}]"#, "no `type`"),
        ] {
            let error = decode_events(&message(body)).expect_err(body);
            assert!(error.contains(expected), "{body}: {error}");
        }
        assert_eq!(decode_events(&message("[]")), Ok(Vec::new()));
    }
}
