//! Errors of backends, by their meaning to the caller.

use crate::codec::result::ResultError;
use crate::fault::BoxError;
use crate::message::TaskId;

/// The reason why a result backend or Kv store did not carry out an operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The URL cannot be used.
    #[error("the result backend URL {url:?} cannot be used: {why}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// The cause and its remedy.
        why: String,
    },
    /// No server answers.
    #[error("no result backend answers at {url}: {why}")]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The cause and its remedy.
        why: String,
    },
    /// The server refuses the connection because of the user, the password or the database.
    #[error("the result backend at {url} refused the connection: {why}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// The cause and its remedy.
        why: String,
    },
    /// The stored result of a task cannot be read, and reading it again will not help.
    #[error("the result of task {id} cannot be read: {why}")]
    UnreadableResult {
        /// The task.
        id: TaskId,
        /// The fault in the document, with the remedy where there is one.
        why: String,
    },
    /// A stored value cannot be read.
    #[error("{what} cannot be read")]
    Nonsense {
        /// The value that cannot be read.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The connection was lost, or the store reported an error.
    #[error("the result backend did not carry out {what}")]
    Failed {
        /// The operation that failed.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The store did not answer in time. It may come back.
    #[error("the result backend did not carry out {what}")]
    Away {
        /// The operation that failed.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// A value is larger than the store takes.
    #[error("{what} has {size} bytes, and the result backend takes {limit}")]
    TooLarge {
        /// The value.
        what: String,
        /// The size of the value in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The backend was closed.
    #[error("this result backend is closed")]
    Closed,
}

impl From<ResultError> for BackendError {
    fn from(ResultError { id, why }: ResultError) -> Self {
        Self::UnreadableResult { id, why }
    }
}

impl BackendError {
    /// Whether the same operation would fail again however often it is tried: the fault is in what was asked or stored,
    /// and not in the state of the server or the network.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Url { .. } | Self::Nonsense { .. } | Self::UnreadableResult { .. } | Self::TooLarge { .. } => true,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Failed { .. }
            | Self::Away { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the store is away for a while, as during an outage or a failover: the same operation may succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}
