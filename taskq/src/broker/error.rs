//! Errors of brokers, by their meaning to the caller.

use std::time::Duration;

use crate::fault::BoxError;

/// The reason why a broker did not carry out an operation.
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
    /// No broker answers.
    #[error("no broker answers at {url}: {why}")]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The cause and the remedy.
        why: String,
    },
    /// The broker refuses the connection because of the user, the password or the virtual host.
    #[error("the broker at {url} refused the connection: {why}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// The cause and the remedy.
        why: String,
    },
    /// The queue does not exist.
    #[error("there is no queue {queue:?}; a worker that consumes from it creates it, or a call that is sent to it")]
    NoQueue {
        /// The name of the queue.
        queue: String,
    },
    /// The queue exists on a node of the broker that is away.
    #[error(
        "the queue {queue:?} is on a node that is away, and is back when the node is; a quorum queue has several nodes"
    )]
    QueueAway {
        /// The name of the queue.
        queue: String,
        /// The broker's words.
        #[source]
        source: BoxError,
    },
    /// A queue or an exchange does not exist, and the user may not declare it.
    #[error(
        "{missing}, and the user may not declare it: start a worker whose user may, or grant the right `configure`"
    )]
    Undeclared {
        /// The broker's words about the missing part, with its name.
        missing: String,
        /// The broker's refusal.
        #[source]
        source: BoxError,
    },
    /// The user may not consume from the queue.
    #[error("the user may not take messages from the queue {queue:?}; grant the right `read`")]
    Unreadable {
        /// The name of the queue.
        queue: String,
        /// The broker's refusal.
        #[source]
        source: BoxError,
    },
    /// The queue exists, the user may not declare it, and `strict` is set.
    #[error(
        "the arguments of the queue {queue:?} cannot be compared, as `strict` demands: the user may not declare it; \
         grant the right `configure`, or turn `strict` off to use the queue as it is"
    )]
    Incomparable {
        /// The name of the queue.
        queue: String,
    },
    /// The queue exists with other arguments, and `strict` is set.
    #[error(
        "the queue {queue:?} exists with other arguments: {difference}; delete it (`rabbitmqctl delete_queue \
         {queue}`, once it is empty), declare it alike under `[queues.{queue}]`, or turn `strict` off to use it as it is"
    )]
    Mismatch {
        /// The name of the queue.
        queue: String,
        /// The first difference.
        difference: String,
    },
    /// The name cannot be that of a queue.
    #[error("{queue:?} cannot be a queue name: {why}")]
    QueueName {
        /// The rejected name.
        queue: String,
        /// The reason for the rejection.
        why: &'static str,
    },
    /// The connection was lost, or the broker reported an error.
    #[error("the broker did not carry out {what}")]
    Failed {
        /// The operation that failed.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The client was closed.
    #[error("this client is closed")]
    Closed,
}

/// The reason why a message was not accepted. A message that fails with it must not be assumed to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no queue of that name.
    #[error("the message could not be routed: there is no queue {queue:?}")]
    Unroutable {
        /// The queue.
        queue: String,
    },
    /// The broker rejected the message: the queue is full, or none of its nodes could store it.
    #[error(
        "the broker refused the message for queue {queue:?}: it is full, or the node or nodes that it is on are away; \
         try again later"
    )]
    Nacked {
        /// The queue.
        queue: String,
    },
    /// The broker accepts no messages at the moment because of a memory or disk alarm.
    #[error("the broker takes no messages at the moment ({reason}); free memory or disk there")]
    Blocked {
        /// The broker's reason.
        reason: String,
    },
    /// The broker did not answer in time. The message may or may not have been stored; sending it again under the same
    /// id is safe.
    #[error("the broker did not confirm the message within {}", humantime::format_duration(*after))]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The message is larger than allowed.
    #[error("the message has {size} bytes, and {limit} are allowed ({setting}); pass a reference to the data instead")]
    TooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
        /// The setting that is the limit: ours, or the broker's own.
        setting: &'static str,
    },
    /// The headers are larger than the broker takes in one frame.
    #[error(
        "the headers of the message for queue {queue:?} have {size} bytes, and {limit} fit into a frame of this connection; \
         put the data into the arguments"
    )]
    HeadersTooLarge {
        /// The queue.
        queue: String,
        /// The size of the headers in bytes, as they are sent.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The message cannot be written in the broker's protocol.
    #[error("the message for queue {queue:?} cannot be sent")]
    Unsendable {
        /// The queue.
        queue: String,
        /// The part that cannot be written, and the limit.
        #[source]
        source: BoxError,
    },
    /// Any other error.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl BrokerError {
    /// Whether the same operation would fail again however often it is tried: the fault is in what was asked, and not
    /// in the state of the broker or the network.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Url { .. } | Self::QueueName { .. } => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::NoQueue { .. }
            | Self::QueueAway { .. }
            | Self::Undeclared { .. }
            | Self::Unreadable { .. }
            | Self::Incomparable { .. }
            | Self::Mismatch { .. }
            | Self::Failed { .. }
            | Self::Closed => false,
        }
    }
}

impl PublishError {
    /// The name of the client's limit on the size of messages.
    pub(crate) const OUR_LIMIT: &str = "`max_message_bytes`";
    /// The name of RabbitMQ's limit.
    #[cfg(feature = "amqp")]
    pub(crate) const RABBITMQ_LIMIT: &str = "`max_message_size` in the broker's rabbitmq.conf";

    /// Whether the same message would be refused again however often it is published: the fault is in the message, and
    /// not in the state of the broker, the queue or the network.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::HeadersTooLarge { .. } | Self::Unsendable { .. } => true,
            Self::Broker(error) => error.is_permanent(),
            Self::Unroutable { .. } | Self::Nacked { .. } | Self::Blocked { .. } | Self::TimedOut { .. } => false,
        }
    }
}
