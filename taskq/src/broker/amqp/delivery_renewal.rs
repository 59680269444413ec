//! Queues in which copies are held of what takes long: how they are declared.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::arguments::{quorum_before, text};

/// How long a copy waits in the queue where it is held. Whoever published it takes it at once; if not, he is dead, or so slow
/// that somebody else may look whether he is. What comes back to the queue later than this leaves it at once.
const HELD_FOR: Duration = Duration::from_secs(20);

/// How long such a queue stays without a consumer. Messages of a dead process leave within seconds, and go with the queue
/// only if their home cannot take them for all that time.
const HELD_QUEUE_UNUSED_FOR: Duration = Duration::from_secs(86_400);

/// The arguments of a queue for copies, which sends them home when they are not wanted here.
pub(super) fn arguments(home: &str) -> FieldTable {
    let milliseconds = |time: Duration| AMQPValue::LongLongInt(time.as_millis() as i64);
    let mut arguments = quorum_before("");
    arguments.insert("x-dead-letter-routing-key".into(), text(home));
    arguments.insert("x-message-ttl".into(), milliseconds(HELD_FOR));
    arguments.insert("x-expires".into(), milliseconds(HELD_QUEUE_UNUSED_FOR));
    arguments
}
