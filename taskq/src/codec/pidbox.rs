//! Requests to workers and their answers, in the form of kombu's `pidbox` (Celery's remote control).
//!
//! Whatever arrives may come from anybody: what cannot be read is an error in words, and nothing is taken on trust.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::message::{Headers, Properties, WireMessage};
use crate::remote::{Destination, NodeReply, ReplyAddress, Request};

/// The longest request or answer that is read, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// The longest pattern of node names that is read, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;

/// Reads a request. An error tells what is wrong with it.
pub fn decode_request(message: &WireMessage) -> Result<Request, String> {
    let mut fields = object(message)?;
    let Some(Value::String(method)) = fields.remove("method") else {
        return Err("it names no `method`".to_owned());
    };
    let arguments = match fields.remove("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err("its `arguments` are no object".to_owned()),
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let reply_to = match fields.get("reply_to") {
        None | Some(Value::Null) => None,
        Some(address) => match (text(address.get("exchange")), text(address.get("routing_key"))) {
            (Some(exchange), Some(routing_key)) => Some(ReplyAddress::new(exchange, routing_key)),
            _ => return Err("its `reply_to` names no exchange and routing key".to_owned()),
        },
    };
    let destination = destination(&fields)?;
    let seconds = message.headers.get("expires").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
    Ok(Request::new(method).with(|request| {
        request.arguments = arguments;
        request.destination = destination;
        request.reply_to = reply_to;
        request.ticket = text(fields.get("ticket"));
        request.expires = seconds.and_then(moment);
        request.clock = clock(message);
    }))
}

/// Writes a request.
pub fn encode_request(request: &Request) -> WireMessage {
    let nodes = match &request.destination {
        Destination::Nodes(nodes) => Some(nodes),
        Destination::All | Destination::Matching(_) => None,
    };
    let pattern = match &request.destination {
        Destination::Matching(pattern) => Some(pattern),
        Destination::All | Destination::Nodes(_) => None,
    };
    let mut body = json!({
        "method": request.method,
        "arguments": request.arguments,
        "destination": nodes,
        "pattern": pattern,
        "matcher": pattern.map(|_| "glob"),
    });
    if let Some(ReplyAddress { exchange, routing_key }) = &request.reply_to {
        body["reply_to"] = json!({ "exchange": exchange, "routing_key": routing_key });
        body["ticket"] = json!(request.ticket);
    }
    let expires = request.expires.map_or(0.0, |at| at.timestamp_micros() as f64 / 1e6);
    wire(&body, [("clock", json!(request.clock)), ("expires", json!(expires))])
}

/// Reads the answer of a worker. An error tells what is wrong with it.
pub fn decode_answer(message: &WireMessage) -> Result<NodeReply, String> {
    let mut fields = object(message)?.into_iter();
    match (fields.next(), fields.next()) {
        (Some((node, value)), None) => {
            Ok(NodeReply::new(node, value, message.headers.text("ticket").map(str::to_owned)))
        }
        _ => Err("it is not the answer of one node".to_owned()),
    }
}

/// Writes the answer of a worker; `clock` is its logical clock.
pub fn encode_answer(answer: &NodeReply, clock: u64) -> WireMessage {
    let mut body = Map::new();
    body.insert(answer.node.clone(), answer.value.clone());
    wire(&Value::Object(body), [("ticket", json!(answer.ticket)), ("clock", json!(clock))])
}

fn wire(body: &Value, entries: [(&'static str, Value); 2]) -> WireMessage {
    let mut headers = Headers::with_capacity(entries.len());
    for (name, value) in entries {
        headers.push(name, value);
    }
    let properties = Properties::default().with(|properties| {
        properties.content_type = Some("application/json".into());
        properties.content_encoding = Some("utf-8".into());
    });
    WireMessage { properties, headers, body: Bytes::from(body.to_string()) }
}

fn object(message: &WireMessage) -> Result<Map<String, Value>, String> {
    if message.body.len() > BYTES_MAX {
        return Err(format!("it has {} bytes, and {BYTES_MAX} are read", message.body.len()));
    }
    match message.properties.content_type.as_deref() {
        Some("application/json") => {}
        Some(other) => return Err(format!("its content type is {other:?}, and only application/json is read")),
        None => return Err("it has no content type".to_owned()),
    }
    match serde_json::from_slice(&message.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is no object".to_owned()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

fn destination(fields: &Map<String, Value>) -> Result<Destination, String> {
    let unclear = || "its `destination` is no list of node names".to_owned();
    match fields.get("destination") {
        None | Some(Value::Null) => {}
        Some(Value::String(node)) => return Ok(Destination::Nodes(vec![node.clone()])),
        Some(Value::Array(nodes)) => {
            let nodes = nodes.iter().map(|node| node.as_str().map(str::to_owned).ok_or_else(unclear));
            return Ok(Destination::Nodes(nodes.collect::<Result<_, _>>()?));
        }
        Some(_) => return Err(unclear()),
    }
    match (fields.get("pattern").and_then(Value::as_str), fields.get("matcher").and_then(Value::as_str)) {
        (None, _) => Ok(Destination::All),
        (Some(pattern), _) if pattern.len() > PATTERN_BYTES_MAX => {
            Err(format!("its `pattern` has {} bytes, and {PATTERN_BYTES_MAX} are read", pattern.len()))
        }
        (Some(pattern), Some("glob") | None) => Ok(Destination::Matching(pattern.to_owned())),
        (Some(_), Some(other)) => Err(format!("its `matcher` is {other:?}, and only `glob` is known")),
    }
}

/// The logical clock of a message's sender. It only ever orders events, so one that makes no sense is 0.
fn clock(message: &WireMessage) -> u64 {
    message.headers.get("clock").and_then(Value::as_u64).unwrap_or_default()
}

/// The moment so many seconds after the beginning of 1970.
fn moment(seconds: f64) -> Option<DateTime<Utc>> {
    // Beyond the times that can be told there is no end.
    let micros = (seconds * 1e6) as i64;
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::microseconds(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> WireMessage {
        let mut message = wire(&Value::Null, [("clock", json!(7)), ("expires", json!(1_795_226_686.5))]);
        message.body = Bytes::from(body.to_owned());
        message
    }

    #[test]
    fn a_recorded_request_is_read() {
        let request = decode_request(&message(
            r#"{"method":"ping","arguments":{},"destination":null,"pattern":null,"matcher":null,
                "ticket":"57383ea6-7118-4391-942b-c9beba061d68",
                "reply_to":{"exchange":"reply.celery.pidbox","routing_key":"7186c075-a6dc-34ed-840c-2260c10a5f98"}}"#,
        ));
        let request = request.expect("Celery sent it");
        assert_eq!((request.method.as_str(), request.clock), ("ping", 7));
        assert_eq!(request.expires.map(|at| at.timestamp_millis()), Some(1_795_226_686_500));
        let address = ReplyAddress::new("reply.celery.pidbox", "7186c075-a6dc-34ed-840c-2260c10a5f98");
        assert_eq!((request.destination, request.reply_to), (Destination::All, Some(address)));
        assert_eq!(request.ticket.as_deref(), Some("57383ea6-7118-4391-942b-c9beba061d68"));
    }

    #[test]
    fn requests_and_answers_are_read_as_they_were_written() {
        for destination in [
            Destination::All,
            Destination::Nodes(vec!["a@b".to_owned(), "c@d".to_owned()]),
            Destination::Matching("a@*".to_owned()),
        ] {
            let request = Request::new("revoke").with(|request| {
                request.arguments.insert("task_id".to_owned(), json!(["1", "2"]));
                request.destination = destination;
                request.reply_to = Some(ReplyAddress::new("x", "y"));
                request.ticket = Some("t".to_owned());
                request.expires = DateTime::from_timestamp_millis(1_795_226_686_250);
                request.clock = 3;
            });
            assert_eq!(decode_request(&encode_request(&request)), Ok(request));
        }
        let answer = NodeReply::new("w1@vm", json!({"ok": "pong"}), Some("t".to_owned()));
        let written = encode_answer(&answer, 9);
        assert_eq!(&written.body[..], br#"{"w1@vm":{"ok":"pong"}}"#);
        assert_eq!(decode_answer(&written), Ok(answer));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (body, expected) in [
            ("", "no JSON"),
            ("[]", "no object"),
            ("{}", "no `method`"),
            (r#"{"method": 1}"#, "no `method`"),
            (r#"{"method": "ping", "arguments": []}"#, "`arguments`"),
            (r#"{"method": "ping", "destination": 7}"#, "`destination`"),
            (r#"{"method": "ping", "destination": [7]}"#, "`destination`"),
            (r#"{"method": "ping", "reply_to": 7}"#, "`reply_to`"),
            (r#"{"method": "ping", "pattern": "a", "matcher": "pcre"}"#, "`matcher`"),
        ] {
            let error = decode_request(&message(body)).expect_err(body);
            assert!(error.contains(expected), "{body}: {error}");
        }
        let mut untyped = message("{}");
        untyped.properties.content_type = None;
        assert!(decode_request(&untyped).is_err_and(|error| error.contains("no content type")));
        untyped.properties.content_type = Some("application/x-python-serialize".into());
        assert!(decode_answer(&untyped).is_err_and(|error| error.contains("only application/json")));
        for body in ["{}", r#"{"a": 1, "b": 2}"#, "7"] {
            decode_answer(&message(body)).expect_err(body);
        }
        let extreme = WireMessage { headers: message("").headers, ..message(r#"{"method": "m"}"#) };
        for seconds in [json!(1e300), json!(-1.0), json!("x"), json!(f64::MAX)] {
            let mut extreme = extreme.clone();
            extreme.headers.set("expires", seconds);
            decode_request(&extreme).expect("it is read");
        }
    }
}
