//! A message as a broker carries it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::Headers;
use crate::redact::Size;

/// The message properties that taskq uses, by AMQP's names. Persistence is not among them: every message that taskq
/// publishes is persistent.
///
/// Made by [`Properties::default`], and changed field by field or by [`with`](Self::with).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// The format of the body, for example `application/json`. `None` if the sender named none.
    pub content_type: Option<Cow<'static, str>>,
    /// The encoding of the body, for example `utf-8`.
    pub content_encoding: Option<Cow<'static, str>>,
    /// The priority, 0 to 255; larger is served first, on queues that know priorities. None is 0.
    pub priority: Option<u8>,
    /// A copy of the task id; returned messages are matched by it.
    pub correlation_id: Option<String>,
    /// The queue to which an RPC result would go.
    pub reply_to: Option<String>,
}

impl Properties {
    /// Changes the properties by `change`, and returns them.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A message as a broker carries it: properties, headers, body. [`codec`](crate::codec) interprets it, and a message
/// without a meaning is still a `WireMessage`.
///
/// Exhaustive: a message has these three parts in every broker.
#[derive(Clone, Default, PartialEq)]
pub struct WireMessage {
    /// The properties.
    pub properties: Properties,
    /// The header table.
    pub headers: Headers,
    /// The body, as it came or as it will go.
    pub body: Bytes,
}

impl fmt::Debug for WireMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { properties, headers, body } = self;
        f.debug_struct("WireMessage")
            .field("properties", properties)
            .field("headers", headers)
            .field("body", &Size(body.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, Payload, Record, TaskId, TaskState};

    #[test]
    fn debug_shows_no_argument_and_no_result() {
        let body = Bytes::from_static(b"[[4111], {}, {}]");
        let message = WireMessage { body: body.clone(), ..WireMessage::default() };
        let envelope = Envelope::new(TaskId::new(), "t", Payload { body, ..Payload::default() });
        let value = serde_json::value::RawValue::from_string("4111".to_owned()).expect("it is JSON");
        let record = Record { value: Some(value), ..Record::new(TaskId::placeholder(), TaskState::Success) };
        for shown in [format!("{message:?}"), format!("{:?}", envelope.payload), format!("{record:?}")] {
            assert!(!shown.contains("4111") && !shown.contains("52, 49") && shown.contains(" bytes)"), "{shown}");
        }
    }
}
