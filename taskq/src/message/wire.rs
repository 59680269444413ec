//! A message as a broker carries it.

use std::borrow::Cow;

use bytes::Bytes;

use super::Headers;

/// The message properties that matter to us, by AMQP's names. Persistence is not among them: everything we
/// publish is persistent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// For example `application/json`. `None` if the sender named none.
    pub content_type: Option<Cow<'static, str>>,
    /// For example `utf-8`.
    pub content_encoding: Option<Cow<'static, str>>,
    /// 0 to 255; larger is served first, on queues that know priorities.
    pub priority: Option<u8>,
    /// The task id once more; returned messages are matched by it.
    pub correlation_id: Option<String>,
    /// Where an rpc result would go.
    pub reply_to: Option<String>,
}

/// A message as a broker carries it: properties, headers, body. What it means is said by
/// [`codec`](crate::codec), and a message that means nothing is still a `WireMessage`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WireMessage {
    /// The properties.
    pub properties: Properties,
    /// The header table.
    pub headers: Headers,
    /// The body, as it came or as it will go.
    pub body: Bytes,
}
