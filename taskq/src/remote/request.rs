//! Requests to workers, and answers.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::node_pattern;

/// A request to workers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The name of the command, for example `ping`.
    pub method: String,
    /// The arguments of the command by their names.
    pub arguments: Map<String, Value>,
    /// The workers that are meant.
    pub destination: Destination,
    /// The address for the answer; `None` if none is wanted.
    pub reply_to: Option<ReplyAddress>,
    /// The mark by which the asker knows the answers to this request.
    pub ticket: Option<String>,
    /// The time at which the asker stops to listen.
    pub expires: Option<DateTime<Utc>>,
    /// The logical clock of the asker.
    pub clock: u64,
}

/// The workers that are meant by a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Destination {
    /// Every worker.
    #[default]
    All,
    /// The workers with these node names.
    Nodes(Vec<String>),
    /// The workers whose node name has this pattern, as a shell has them: `*`, `?`, `[abc]`.
    Matching(String),
}

/// The address for answers, given by the asker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ReplyAddress {
    /// The exchange, by AMQP's name for it.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

/// The answer of one worker.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeReply {
    /// The node name of the worker.
    pub node: String,
    /// The answer. By Celery's custom an object with `ok` or `error` for a command that changes something.
    pub value: Value,
    /// The mark of the request.
    pub ticket: Option<String>,
}

impl Request {
    /// Makes a request to all workers, without arguments, that wants no answer.
    pub fn new(method: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            arguments: Map::new(),
            destination: Destination::All,
            reply_to: None,
            ticket: None,
            expires: None,
            clock: 0,
        }
    }

    /// Changes the request by `change`, and returns it.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl ReplyAddress {
    /// Makes an address.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self { exchange: exchange.into(), routing_key: routing_key.into() }
    }
}

impl NodeReply {
    /// Makes the answer of a worker.
    pub fn new(node: impl Into<String>, value: Value, ticket: Option<String>) -> Self {
        Self { node: node.into(), value, ticket }
    }
}

impl Destination {
    /// Returns whether the worker with this node name is meant.
    pub fn includes(&self, node: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(nodes) => nodes.iter().any(|named| named == node),
            Self::Matching(pattern) => node_pattern::matches(pattern, node),
        }
    }
}
