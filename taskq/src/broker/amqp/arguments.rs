//! Argument tables that several kinds of queues share.

use lapin::types::{AMQPValue, FieldTable};

pub(super) fn quorum() -> FieldTable {
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
