//! The declaration of renewal queues, which hold copies of long-running deliveries.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::arguments::{NewQueues, quorum_before, text};

/// The TTL of a copy in its renewal queue. A live worker consumes its own copies immediately, so an expired copy means
/// that the worker died or stalled; the broker then routes it to the original queue, where another worker checks the
/// claim. A copy that comes back to the renewal queue later than this leaves it at once.
const RENEWAL_TTL: Duration = Duration::from_secs(20);

/// The time for which a renewal queue exists without a consumer. Messages of a dead process leave it within seconds;
/// they are lost with the queue only if the original queue cannot take them in all that time.
const RENEWAL_QUEUE_EXPIRES: Duration = Duration::from_secs(86_400);

/// Returns the arguments of a renewal queue, from which unwanted copies return to the queue `origin`. Each of them is
/// new, and has one process.
pub(super) fn arguments(origin: &str) -> FieldTable {
    let milliseconds = |time: Duration| AMQPValue::LongLongInt(time.as_millis() as i64);
    let mut arguments = NewQueues::consumed().added_to(quorum_before(""));
    arguments.insert("x-dead-letter-routing-key".into(), text(origin));
    arguments.insert("x-message-ttl".into(), milliseconds(RENEWAL_TTL));
    arguments.insert("x-expires".into(), milliseconds(RENEWAL_QUEUE_EXPIRES));
    arguments
}
