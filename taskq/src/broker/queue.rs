//! Queues: how they are to be declared, and what is known of them.

use std::sync::Arc;

/// Where tasks that failed for good, and messages that mean nothing, are kept.
pub const DEAD_QUEUE: &str = "taskq.dead";

/// The header in which an adapter says why the broker itself put a message into [`DEAD_QUEUE`].
pub(crate) const DEATH_REASON: &str = "x-death-reason";

/// The header in which it says from which queue.
pub(crate) const DEATH_QUEUE: &str = "x-death-queue";

/// The reason of a message whose delay was over when its queue was not there any more.
pub(crate) const NO_QUEUE: &str = "no-queue";

/// What the name of a queue's companion ends with: there, tasks that may have killed a worker wait to be run alone.
pub const QUARANTINE_SUFFIX: &str = ".quarantine";

/// How a queue is to be declared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueSpec {
    /// Its name: 1 to 200 bytes, without `*` and `#`.
    pub name: Arc<str>,
    /// Of which kind.
    pub kind: QueueKind,
    /// The highest priority it knows, for classic queues that know any.
    pub max_priority: Option<u8>,
}

/// Kinds of queues. Brokers that have only one kind ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Replicated and safe; faster in the stream. The default.
    #[default]
    Quorum,
    /// On one node; faster for single tasks on an idle queue, and the only one with priorities.
    Classic,
    /// Exactly as Celery declares its queues, so that both may.
    Celery,
}

/// What declaring found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// The queue is as it was asked for.
    AsAsked,
    /// It existed with other arguments, and is used as it is.
    Differs(String),
}

/// What is in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct QueueStats {
    /// Messages waiting to be taken.
    pub ready: u64,
    /// Consumers.
    pub consumers: u64,
}

impl QueueSpec {
    /// A quorum queue of this name.
    pub fn quorum(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), kind: QueueKind::Quorum, max_priority: None }
    }

    /// A classic queue of this name.
    pub fn classic(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), kind: QueueKind::Classic, max_priority: None }
    }

    /// A queue of this name as Celery declares it.
    pub fn celery(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), kind: QueueKind::Celery, max_priority: None }
    }

    /// Fails with the reason if the name cannot be a queue's. Delays are routed by patterns over queue names, so a
    /// name must not look like one, and must leave room for the delay in a routing key of 255 bytes.
    pub fn check_name(name: &str) -> Result<(), super::BrokerError> {
        let why = if name.is_empty() {
            "it is empty"
        } else if name.len() > 190 {
            "it is longer than 190 bytes"
        } else if name.contains(['*', '#']) {
            "it contains `*` or `#`, which are patterns"
        } else if name.starts_with("amq.") {
            "names beginning with `amq.` belong to the broker"
        } else {
            return Ok(());
        };
        Err(super::BrokerError::QueueName { queue: name.to_owned(), why })
    }
}
