//! Messages that were recorded from Celery, for tests.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::message::{Properties, WireMessage};

/// Returns all recorded messages, by the names of their files.
pub(super) fn messages() -> BTreeMap<String, WireMessage> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/messages");
    let entries = std::fs::read_dir(folder).expect("the recordings are part of the repository");
    let messages: BTreeMap<_, _> =
        entries.map(|entry| message(&entry.expect("the folder is readable").path())).collect();
    assert!(messages.len() >= 10, "only {} recordings", messages.len());
    messages
}

fn message(path: &Path) -> (String, WireMessage) {
    let text = std::fs::read_to_string(path).expect("the recording is readable");
    let recorded: Value = serde_json::from_str(&text).expect("a recording is JSON");
    let headers = recorded["headers"].as_object().expect("a recording has headers");
    let property = |name: &str| recorded["properties"][name].as_str().map(str::to_owned);
    let body = recorded["body_base64"].as_str().expect("a recording has a body");
    let message = WireMessage {
        properties: Properties {
            content_type: property("content_type").map(Into::into),
            content_encoding: property("content_encoding").map(Into::into),
            priority: recorded["properties"]["priority"].as_u64().map(|priority| priority as u8),
            correlation_id: property("correlation_id"),
            reply_to: None,
        },
        headers: headers.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        body: BASE64_STANDARD.decode(body).expect("the body is base64").into(),
    };
    let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    (name, message)
}
