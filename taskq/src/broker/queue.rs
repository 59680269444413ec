//! Queues: their declaration, and the outcome of declaring them.

use std::sync::Arc;

/// The queue for tasks that failed for good and messages that cannot be understood.
pub const DEAD_QUEUE: &str = "taskq.dead";

/// The header in which an adapter gives the reason for which the broker itself moved a message to [`DEAD_QUEUE`].
pub(crate) const DEATH_REASON: &str = "x-death-reason";

/// The header in which an adapter gives the queue that such a message came from.
pub(crate) const DEATH_QUEUE: &str = "x-death-queue";

/// The reason of a message whose queue did not exist any more when its delay was over.
pub(crate) const NO_QUEUE: &str = "no-queue";

/// The reason of a message that was sent to a queue of taskq's own, where only delayed messages wait.
pub(crate) const NOT_DELAYED: &str = "not-delayed";

/// The prefix of the names of taskq's own queues: the dead set, those in which delayed messages wait, and those that
/// renew deliveries.
pub const OWN_PREFIX: &str = "taskq.";

/// The suffix of quarantine queues, where tasks that may have killed a worker wait to be run alone.
pub const QUARANTINE_SUFFIX: &str = ".quarantine";

/// The declaration of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct QueueSpec {
    /// The name of the queue: 1 to 190 bytes, without `*`, `#` and control characters, and without spaces around it.
    pub name: Arc<str>,
    /// The kind of the queue.
    pub kind: QueueKind,
    /// The highest priority of a classic queue with priorities.
    pub max_priority: Option<u8>,
}

/// Kinds of queues. Brokers that have only one kind ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    /// Replicated and safe, and faster for streams of tasks. The default.
    #[default]
    Quorum,
    /// On one node; faster for single tasks on an idle queue. With priorities on every version of RabbitMQ.
    Classic,
    /// Declared exactly as Celery does, so that both can declare it.
    Celery,
}

/// The outcome of declaring a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Declared {
    /// The queue is as it was asked for.
    AsAsked,
    /// The queue existed with other arguments, and is used as it is.
    Differs(String),
    /// The queue exists, and the user may not declare it. Its arguments are not known, and it is used as it is.
    Found,
}

/// The content of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct QueueStats {
    /// Messages that can be taken.
    pub ready: u64,
    /// Consumers of the queue.
    pub consumers: u64,
}

impl QueueStats {
    /// The content of a queue: ready messages, and consumers.
    pub fn new(ready: u64, consumers: u64) -> Self {
        Self { ready, consumers }
    }
}

impl QueueSpec {
    /// A queue of this name and kind.
    pub fn new(name: impl Into<Arc<str>>, kind: QueueKind) -> Self {
        Self { name: name.into(), kind, max_priority: None }
    }

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

    /// Checks the name of a queue. Delays are routed by patterns over queue names, so a name must not look like a
    /// pattern, and must leave room for the delay in a routing key of 255 bytes. What surrounds a name by mistake, such
    /// as the line break of a file, would silently make another queue.
    pub fn check_name(name: &str) -> Result<(), super::BrokerError> {
        let why = if name.is_empty() {
            "it is empty"
        } else if name.len() > 190 {
            "it is longer than 190 bytes"
        } else if name.contains(['*', '#']) {
            "it contains `*` or `#`, which are patterns"
        } else if name.contains(char::is_control) || name.trim() != name {
            "it contains control characters, or begins or ends with a space"
        } else if name.starts_with("amq.") {
            "names beginning with `amq.` belong to the broker"
        } else {
            return Ok(());
        };
        Err(super::BrokerError::QueueName { queue: name.to_owned(), why })
    }

    /// Checks the name of a queue that a call, a worker or a setting names. A message in one of taskq's own queues
    /// would be taken for something else, and a worker of one would take what it has no part in.
    pub fn check_named(name: &str) -> Result<(), super::BrokerError> {
        if name.starts_with(OWN_PREFIX) {
            let why = "names that begin with `taskq.` belong to taskq, which keeps dead and delayed messages in such \
                       queues; choose another name";
            return Err(super::BrokerError::QueueName { queue: name.to_owned(), why });
        }
        Self::check_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_for_brokers_and_for_people() {
        let long = "q".repeat(191);
        for (name, for_brokers, for_people) in [
            ("mail", None, None),
            ("taskq", None, None),
            ("my.taskq.dead", None, None),
            ("taskq-mail", None, None),
            ("Taskq.mail", None, None),
            ("mail.quarantine", None, None),
            (DEAD_QUEUE, None, Some("belong to taskq")),
            ("taskq.delay.3", None, Some("belong to taskq")),
            ("taskq.", None, Some("belong to taskq")),
            ("amq.mail", Some("belong to the broker"), Some("belong to the broker")),
            ("eu.*", Some("patterns"), Some("patterns")),
            ("", Some("empty"), Some("empty")),
            (&long, Some("longer than 190"), Some("longer than 190")),
        ] {
            for (checked, expected) in
                [(QueueSpec::check_name(name), for_brokers), (QueueSpec::check_named(name), for_people)]
            {
                let refused = checked.err().map(|error| error.to_string());
                match (refused, expected) {
                    (Some(text), Some(why)) => assert!(text.contains(why), "{text}"),
                    (None, None) => {}
                    (refused, expected) => panic!("{name:?}: {refused:?} in place of {expected:?}"),
                }
            }
        }
    }
}
