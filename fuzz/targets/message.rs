//! Task messages: each is read, or refused with a reason; and what was read is written as the same message.
//!
//! Input: a line of JSON with the properties `type` and `encoding`, and all `headers`, then the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use taskq::internal::codec::{self, MessageBody};
use taskq::message::{Properties, WireMessage};

const BODY_BYTES_MAX: usize = 1 << 20;
const PARAMETERS: usize = 3;

fuzz_target!(|input: &[u8]| {
    let Some(message) = message(input) else { return };
    let envelope = match codec::decode(&message) {
        Ok(envelope) => envelope,
        Err(error) => return says_something(&error),
    };
    assert!((1..=1000).contains(&envelope.task.len()) && (1..=255).contains(&envelope.id.as_str().len()));
    let written = codec::encode(envelope.clone());
    let again = codec::decode(&written).expect("taskq reads what it writes");
    assert_eq!((&again.id, &again.task, &again.payload), (&envelope.id, &envelope.task, &envelope.payload));
    assert_eq!(codec::encode(again), written);
    match MessageBody::read(&envelope.payload, BODY_BYTES_MAX) {
        Ok(body) => match body.arguments(PARAMETERS) {
            Ok(_) => drop(serde_json::from_slice::<Value>(body.text()).expect("arguments are JSON")),
            Err(error) => says_something(&error),
        },
        Err(error) => says_something(&error),
    }
});

fn message(input: &[u8]) -> Option<WireMessage> {
    let line = input.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = (serde_json::from_slice::<Value>(&input[..line]).ok()?, &input[line + 1..]);
    let text = |name: &str| head[name].as_str().map(|text| text.to_owned().into());
    Some(WireMessage {
        properties: Properties::default().with(|properties| {
            properties.content_type = text("type");
            properties.content_encoding = text("encoding");
        }),
        headers: head["headers"].as_object()?.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        body: body.to_vec().into(),
    })
}

fn says_something(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(text.len() > 10, "{text:?} says nothing");
}
