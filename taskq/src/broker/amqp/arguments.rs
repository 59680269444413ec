//! The arguments of queues: those that have to agree with what exists, and those that only new queues get.
//!
//! A broker compares the arguments of a declaration with those of the queue that exists, and names the first that
//! differs. An argument that is wanted of new queues and dispensable for old ones ([`NewQueues`]) is then taken as the
//! old ones have it, so that a program goes on with the queues of its predecessor, `strict` or not.

use lapin::types::{AMQPValue, FieldTable};

use crate::broker::{QueueKind, QueueSpec};

/// The exchange for messages that the broker gives up. It is a fanout, since they carry any routing key.
pub(super) const DEAD_EXCHANGE: &str = "taskq.dead";

const DELIVERY_LIMIT: &str = "x-delivery-limit";
const CONSUMER_DISCONNECTED_TIMEOUT: &str = "x-consumer-disconnected-timeout";

/// The delivery limit of the dead queue. Inspecting a dead message and putting it back counts as a delivery, and must
/// never be the last one.
const DEAD_DELIVERIES_MAX: i64 = 1_000_000_000;

/// The number of times that a message of a quorum queue may come back before the broker gives it up. Newer brokers
/// default to 20, and a crashing worker adds to the count of every message that it merely held.
const DELIVERIES_MAX: i64 = 1000;

/// The time for which a queue keeps the deliveries of a consumer whose node it has lost, in milliseconds. RabbitMQ 4.3
/// has 60 s by default, and earlier ones none at all. In these seconds a node that is merely out of reach may come back
/// and its consumers go on; a task that was on a node that died waits for them.
const CONSUMER_DISCONNECTED_MS: i64 = 5000;

/// The time for which the report of an expired message waits for a worker: the message itself is in the dead set.
const EXPIRED_REPORT_MS: i64 = 86_400_000;

/// The arguments of a queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct QueueArguments {
    /// The arguments that an existing queue has to have as well.
    pub(super) fixed: FieldTable,
    pub(super) new: NewQueues,
}

/// The arguments that new queues get and existing ones need not have: numbers, all of them. Brokers that do not know
/// one keep it, and obey it once they are newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewQueues(Vec<(&'static str, i64)>);

impl NewQueues {
    /// Of queues in which messages wait and that nobody consumes from.
    pub(super) fn held() -> Self {
        Self(vec![(DELIVERY_LIMIT, DELIVERIES_MAX)])
    }

    /// Of quorum queues that are consumed from and have no delivery limit among their fixed arguments.
    pub(super) fn consumed() -> Self {
        Self(vec![(DELIVERY_LIMIT, DELIVERIES_MAX), (CONSUMER_DISCONNECTED_TIMEOUT, CONSUMER_DISCONNECTED_MS)])
    }

    /// Adds these arguments to others.
    pub(super) fn added_to(&self, mut arguments: FieldTable) -> FieldTable {
        for (name, value) in &self.0 {
            arguments.insert((*name).into(), AMQPValue::LongLongInt(*value));
        }
        arguments
    }

    /// Whether the broker's complaint is about one of these arguments.
    pub(super) fn has(&self, complaint: &str) -> bool {
        InequivalentArgument::of(complaint)
            .is_some_and(|mismatch| self.0.iter().any(|(name, _)| *name == mismatch.argument))
    }

    /// The arguments with the one that the broker complained of as the queue has it. `None` if the complaint is about
    /// another argument, or about one that is already as the queue has it.
    pub(super) fn as_found(&self, complaint: &str) -> Option<Self> {
        let mismatch = InequivalentArgument::of(complaint)?;
        let mut found = self.clone();
        let at = found.0.iter().position(|(name, _)| *name == mismatch.argument)?;
        match mismatch.current_number() {
            Some(current) if current == found.0[at].1 => return None,
            Some(current) => found.0[at].1 = current,
            // A long name leaves no room for the value in the broker's text.
            None => drop(found.0.remove(at)),
        }
        Some(found)
    }
}

impl From<FieldTable> for QueueArguments {
    fn from(fixed: FieldTable) -> Self {
        Self { fixed, new: NewQueues(Vec::new()) }
    }
}

/// The arguments that `spec` asks for.
pub(super) fn of(spec: &QueueSpec) -> QueueArguments {
    let mut arguments = match spec.kind {
        QueueKind::Quorum => {
            let mut fixed = quorum_before(DEAD_EXCHANGE);
            fixed.insert(DELIVERY_LIMIT.into(), AMQPValue::LongLongInt(DELIVERIES_MAX));
            return QueueArguments {
                fixed,
                new: NewQueues(vec![(CONSUMER_DISCONNECTED_TIMEOUT, CONSUMER_DISCONNECTED_MS)]),
            };
        }
        QueueKind::Classic => {
            let mut arguments = FieldTable::default();
            arguments.insert("x-dead-letter-exchange".into(), text(DEAD_EXCHANGE));
            arguments
        }
        QueueKind::Celery => FieldTable::default(),
    };
    if let Some(priority) = spec.max_priority {
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(priority.into()));
    }
    arguments.into()
}

/// The arguments of the dead queue.
pub(super) fn dead() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert(DELIVERY_LIMIT.into(), AMQPValue::LongLongInt(DEAD_DELIVERIES_MAX));
    arguments
}

/// The arguments of the queue of expired messages.
pub(super) fn expired() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(EXPIRED_REPORT_MS));
    arguments
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// Returns the arguments of a quorum queue that dead-letters to `exchange`, at least once: a message stays in the
/// queue for as long as the exchange cannot take it.
pub(super) fn quorum_before(exchange: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments
}

/// Returns a text as a value of an argument table.
pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The difference between a queue that exists and its declaration, in words, from the broker's complaint.
pub(super) fn difference(complaint: &str) -> Option<String> {
    let InequivalentArgument { argument, values } = InequivalentArgument::of(complaint)?;
    let (asked, is) = values?;
    Some(format!("`{argument}` is {}, asked for {}", plain(is), plain(asked)))
}

/// A complaint of the broker about an argument.
struct InequivalentArgument<'a> {
    argument: &'a str,
    /// The value that was asked for and the one that there is, if the broker's text, of at most 255 bytes, reaches so
    /// far.
    values: Option<(&'a str, &'a str)>,
}

impl<'a> InequivalentArgument<'a> {
    fn of(complaint: &'a str) -> Option<Self> {
        let (_, rest) = complaint.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once('\'')?;
        let values = rest.split_once("received ").and_then(|(_, values)| values.split_once(" but current is "));
        Some(Self { argument, values })
    }

    /// The value that the queue has, if it has one and it is a number.
    fn current_number(&self) -> Option<i64> {
        self.values?.1.split('\'').nth(1)?.parse().ok()
    }
}

/// Reduces both `the value '10' of type 'signedint'` and `'10'` to `"10"`; `none` stays.
fn plain(value: &str) -> String {
    match value.split('\'').nth(1) {
        Some(value) => format!("{value:?}"),
        None => value.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_differences() {
        for (complaint, expected) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'",
                Some("`x-queue-type` is \"classic\", asked for \"quorum\""),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'",
                Some("`x-max-priority` is \"10\", asked for none"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'a b' in vhost '/': received the value 'taskq.dead' of type 'longstr' but current is none",
                Some("`x-dead-letter-exchange` is none, asked for \"taskq.dead\""),
            ),
            ("PRECONDITION_FAILED - invalid arg 'x-overflow'", None),
            ("", None),
        ] {
            assert_eq!(difference(complaint).as_deref(), expected, "{complaint}");
        }
    }

    #[test]
    fn what_only_new_queues_get_is_taken_as_old_ones_have_it() {
        let new = || NewQueues::consumed().0;
        let said = |argument: &str, rest: &str| {
            format!("PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'q' in vhost '/'{rest}")
        };
        let current = |current: &str| format!(": received the value '5000' of type 'long' but current is {current}");
        let timeout = CONSUMER_DISCONNECTED_TIMEOUT;
        for (complaint, expected) in [
            (said(timeout, &current("none")), Some(vec![new()[0]])),
            (said(timeout, &current("the value '3000' of type 'signedint'")), Some(vec![new()[0], (timeout, 3000)])),
            // The name of the queue has left no room for the values.
            (said(timeout, ": received the val"), Some(vec![new()[0]])),
            (
                said(DELIVERY_LIMIT, &current("the value '20' of type 'long'")),
                Some(vec![(DELIVERY_LIMIT, 20), new()[1]]),
            ),
            // Already as it was found, which no retry changes.
            (said(timeout, &current("the value '5000' of type 'longstr'")), None),
            (said("x-queue-type", &current("'classic'")), None),
            ("ACCESS_REFUSED - access to queue 'q' in vhost '/' refused".to_owned(), None),
        ] {
            assert_eq!(NewQueues::consumed().as_found(&complaint).map(|found| found.0), expected, "{complaint}");
            assert_eq!(NewQueues::consumed().has(&complaint), expected.is_some() || complaint.contains("longstr"));
        }
    }

    #[test]
    fn celery_queues_are_declared_as_celery_does() {
        assert_eq!(of(&QueueSpec::celery("celery")), FieldTable::default().into());
        let spec = QueueSpec { max_priority: Some(10), ..QueueSpec::celery("celery") };
        let mut expected = FieldTable::default();
        expected.insert("x-max-priority".into(), AMQPValue::LongInt(10));
        assert_eq!(of(&spec), expected.into());
    }
}
