//! What can go wrong with a broker, by what it means to the caller.

use std::time::Duration;

use crate::fault::BoxError;

/// A broker could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The URL cannot be used.
    #[error("the broker URL {url:?} cannot be used: {why}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// The cause and the remedy.
        why: String,
    },
    /// Nobody answers.
    #[error("no broker answers at {url}: {why}")]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The cause and the remedy.
        why: String,
    },
    /// Somebody answers, and says no: user, password, virtual host.
    #[error("the broker at {url} refused the connection: {why}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// The cause and the remedy.
        why: String,
    },
    /// There is no such queue.
    #[error("there is no queue {queue:?}; a worker that consumes from it creates it, or a call that is sent to it")]
    NoQueue {
        /// Its name.
        queue: String,
    },
    /// The queue exists with other arguments, and `strict` is set.
    #[error(
        "the queue {queue:?} exists with other arguments: {difference}; delete it (`rabbitmqctl delete_queue \
         {queue}`, once it is empty), declare it alike under `[queues.{queue}]`, or turn `strict` off to use it as it is"
    )]
    Mismatch {
        /// Its name.
        queue: String,
        /// In what it differs.
        difference: String,
    },
    /// The name cannot be a queue's.
    #[error("{queue:?} cannot be a queue name: {why}")]
    QueueName {
        /// The name.
        queue: String,
        /// Why not.
        why: &'static str,
    },
    /// The connection was lost, or the broker reported a fault.
    #[error("the broker did not carry out {what}")]
    Failed {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The client was closed.
    #[error("this client is closed")]
    Closed,
}

/// A message was not accepted. Nothing that ends here may be assumed to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No queue of that name.
    #[error("the message could not be routed: there is no queue {queue:?}")]
    Unroutable {
        /// The queue.
        queue: String,
    },
    /// The broker refused it: the queue is full, or could not store it.
    #[error("the broker refused the message for queue {queue:?} (full, or not able to store it)")]
    Nacked {
        /// The queue.
        queue: String,
    },
    /// The broker takes no messages at the moment: memory or disk alarm.
    #[error("the broker takes no messages at the moment ({reason}); free memory or disk there")]
    Blocked {
        /// What the broker says.
        reason: String,
    },
    /// No answer within the time allowed. The message may or may not have been taken; sending it again under the same
    /// id is safe.
    #[error("the broker did not confirm the message within {}", humantime::format_duration(*after))]
    TimedOut {
        /// The time allowed.
        after: Duration,
    },
    /// Larger than allowed.
    #[error(
        "the message has {size} bytes, and {limit} are allowed (`max_message_bytes`); pass a reference to the data instead"
    )]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
    /// Anything else; see the cause.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
