//! Errors of backends, by their meaning to the caller.

use crate::fault::BoxError;

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
    /// The backend was closed.
    #[error("this result backend is closed")]
    Closed,
}
