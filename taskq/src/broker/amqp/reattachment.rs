//! A guard against RabbitMQ's habit, before 4.0, of attaching consumers of a deleted queue to the next one of its name.
//!
//! When a queue is deleted under a consumer, the broker's channel tries to consume again before it tells the client. If
//! somebody has declared the queue again by then, that succeeds; but the channel forgets the queue right afterwards,
//! and drops what the new one hands out to it. The client is told nothing, and those messages come back only when the
//! channel is closed (`handle_consuming_queue_down_or_eol` in `rabbit_channel.erl` of 3.10 to 3.13).
//!
//! A consumer of a classic queue can ask to be cancelled instead (`x-cancel-on-ha-failover`). One of a quorum queue
//! cannot; but such a queue refuses consumers on a channel that has a prefetch limit for all of its consumers. So the
//! guard sets that limit as soon as a consumer exists, to a value that limits nothing: the second attempt fails, and
//! the client is told of the deletion. Classic queues would ask for leave before each delivery, so the limit is set
//! only where a quorum queue is consumed from.

use std::time::Duration;

use futures_util::future;
use lapin::Channel;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::greeting::Abilities;

/// The argument by which a consumer says for how long it may hold a delivery.
pub(super) const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";

/// The guard of a channel's consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard {
    is_needed: bool,
    /// The channel is to have a limit.
    limits: bool,
}

impl Guard {
    /// The guard that a broker needs. `has_quorum`: a queue of the channel may be a quorum queue.
    pub(super) fn against(abilities: Abilities, has_quorum: bool) -> Self {
        let is_needed = abilities.reattaches;
        Self { is_needed, limits: is_needed && has_quorum }
    }

    /// Creates an AMQP consumer that buffers up to `window` messages; 0 is no limit. `is_classic`: the queue was
    /// declared as a classic one. `timeout`: the time for which it may hold a delivery, if it says so itself.
    pub(super) async fn consume(
        self,
        channel: &Channel,
        queue: &str,
        window: u16,
        is_classic: bool,
        timeout: Option<Duration>,
    ) -> lapin::Result<lapin::Consumer> {
        let limiting = channel.basic_qos(window, BasicQosOptions::default());
        let options = BasicConsumeOptions::default();
        let mut arguments = FieldTable::default();
        if self.is_needed && is_classic {
            arguments.insert("x-cancel-on-ha-failover".into(), AMQPValue::Boolean(true));
        }
        if let Some(timeout) = timeout {
            let milliseconds = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
            arguments.insert(CONSUMER_TIMEOUT.into(), AMQPValue::LongLongInt(milliseconds));
        }
        let consuming = channel.basic_consume(queue.into(), "".into(), options, arguments);
        // Setting the consumer's limit lifts the channel's. So all three are sent together, and the broker carries them
        // out one right after the other.
        let (limited, consumer, guarded) = future::join3(limiting, consuming, self.set(channel)).await;
        limited?;
        let consumer = consumer?;
        guarded?;
        Ok(consumer)
    }

    /// Makes a request that changes nothing, whose answer shows that the channel works. `window` is that of the last
    /// consumer.
    pub(super) async fn probe(self, channel: &Channel, window: u16) -> lapin::Result<()> {
        if self.is_needed {
            self.set(channel).await
        } else {
            channel.basic_qos(window, BasicQosOptions::default()).await
        }
    }

    async fn set(self, channel: &Channel) -> lapin::Result<()> {
        if self.limits { channel.basic_qos(u16::MAX, BasicQosOptions { global: true }).await } else { Ok(()) }
    }
}
