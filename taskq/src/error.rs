//! The client's errors.

use std::time::Duration;

use crate::backend::BackendError;
use crate::broker::{BrokerError, PublishError};
use crate::definition::RegistryError;
use crate::message::{Failure, TaskId};
use crate::protection::SignatureFault;
use crate::settings::ConfigError;

/// An error of the client, by its meaning to the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tasks of this program cannot be run as they are.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The system does not give this process what it needs: files, threads.
    #[error("the system does not give this process what it needs: {0}")]
    System(#[source] std::io::Error),
    /// The broker could not be reached, or did not carry out a request.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A message was not accepted; the call will not run, unless it is sent again.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The result backend could not be reached, or did not carry out a request.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A call was made outside of the runtime of its test, where it must not connect to a server by itself.
    #[cfg(feature = "testing")]
    #[error(
        "a call that names no client was awaited outside the runtime of its test, or after its testing queue was gone; \
         in this process, which has used taskq::testing, no client is connected by itself: await it on the runtime on \
         which testing::start() was called, or inside TestQueue::scope, or send it with a client"
    )]
    OutsideTest,
    /// The client was connected by the process that this one was forked from.
    #[error(
        "this client was connected before this process was forked, and its connections stayed with the parent; connect \
         another one here, or fork first"
    )]
    Forked,
    /// No result backend is configured, and results, progress and unique keys need one.
    #[error(
        "no result backend is configured; set TASKQ_RESULT_URL, for example to redis://host:6379/0, or `result_url` in taskq.toml"
    )]
    NoResultBackend,
    /// The call was made wrongly.
    #[error("the call of {task} cannot be sent: {mistake}")]
    Call {
        /// The task.
        task: String,
        /// The mistake and the remedy.
        mistake: String,
    },
    /// The result of a task that stores none was awaited.
    #[error(
        "task {id} stores no result (`ignore_result`), so there is nothing to wait for; call it with \
         `.ignore_result(false)` to get its result"
    )]
    ResultIgnored {
        /// The task.
        id: TaskId,
    },
    /// The task did not end in time. It may end later; ask again.
    #[error("task {id} has no result after {}", humantime::format_duration(*after))]
    NoResultYet {
        /// The task.
        id: TaskId,
        /// The time that was waited.
        after: Duration,
    },
    /// The task failed for good.
    #[error("task {id} failed: {failure}")]
    Failed {
        /// The task.
        id: TaskId,
        /// Why.
        failure: Failure,
    },
    /// The task was cancelled, or expired.
    #[error("task {id} was revoked: {failure}")]
    Revoked {
        /// The task.
        id: TaskId,
        /// Why.
        failure: Failure,
    },
    /// The result is not of the type that was asked for.
    #[error("the result of task {id} is no {expected}: {source}")]
    ResultType {
        /// The task.
        id: TaskId,
        /// The type that was asked for.
        expected: &'static str,
        /// The decoder's error.
        source: serde_json::Error,
    },
    /// A dead message carries a letter in a newer format than this program knows; putting it back might lose
    /// information.
    #[error(
        "the dead message of task {} was written by a newer taskq (`taskq-dead-version` is {version}) and stays where it is; \
         put it back with a program that is built with that version",
        id.as_ref().map_or("(none)", TaskId::as_str)
    )]
    NewerDeadLetter {
        /// The task, where the message has an id.
        id: Option<TaskId>,
        /// The version of the letter's format.
        version: u64,
    },
    /// A dead message is not signed as it should be: it may have been put there by anybody.
    #[error("the dead message of task {} cannot be put back: {fault}", id.as_ref().map_or("(none)", TaskId::as_str))]
    Untrusted {
        /// The task, where the message has an id.
        id: Option<TaskId>,
        /// The reason why it counts as unsigned.
        #[source]
        fault: SignatureFault,
    },
    /// Some dead messages were put back, and others can never be.
    #[error("{put_back} dead messages were put back, and {kept} stay in the dead set; the first of these: {first}")]
    PutBackInPart {
        /// The number of messages that were put back.
        put_back: usize,
        /// The number of messages that stay where they are.
        kept: usize,
        /// The reason for the first of these.
        #[source]
        first: Box<Error>,
    },
    /// The dead set has no task with this id.
    #[error("the dead set has no task {id}")]
    NotDead {
        /// The task.
        id: TaskId,
    },
}

impl Error {
    /// Whether the same operation would fail again however often it is tried: the fault is in what was asked, and not
    /// in the state of a server or the network.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_permanent(),
            Self::Publish(error) => error.is_permanent(),
            Self::Backend(error) => error.is_permanent(),
            // The system may have a thread or a descriptor again.
            Self::System(_) | Self::NoResultYet { .. } => false,
            _ => true,
        }
    }
}
