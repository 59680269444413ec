//! What can go wrong with a backend, by what it means to the caller.

use crate::fault::BoxError;

/// A result backend or Kv store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The URL cannot be used.
    #[error("the result backend URL {url:?} cannot be used: {why}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// Nobody answers.
    #[error("no result backend answers at {url}: {why}")]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// Somebody answers, and says no: user, password, database.
    #[error("the result backend at {url} refused the connection: {why}")]
    Refused {
        /// The URL, without its password.
        url: String,
        /// What is wrong and how to mend it.
        why: String,
    },
    /// What is stored cannot be read.
    #[error("{what} cannot be read")]
    Nonsense {
        /// What it is.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The connection was lost, or the store reported a fault.
    #[error("the result backend did not carry out {what}")]
    Failed {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The backend was closed.
    #[error("this result backend is closed")]
    Closed,
}
