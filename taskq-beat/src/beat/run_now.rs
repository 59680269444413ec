//! A run of an entry that is requested apart from its slots.

use taskq::TaskId;
use taskq::backend::BackendError;
use taskq::client::Client;
use taskq::definition::Registry;

use super::call::call;
use crate::entry::Entry;
use crate::store::{Event, EventKind, Store};

/// Sends the task of an entry now, apart from its slots, under an id of its own. The history of the entry tells that a
/// run was requested from `node`.
pub async fn run_now(
    client: &Client,
    store: &Store,
    registry: &Registry,
    entry: &Entry,
    node: &str,
) -> Result<TaskId, RunNowError> {
    let id = store.id(&format!("{}@{}", entry.name, TaskId::new()));
    call(entry, registry, entry.expires)?.id(id.as_str()).send(client).await?;
    // Noted afterwards, so that the history lists no run that could not be sent.
    let event = Event { at: client.clock().now(), by: node.to_owned(), kind: EventKind::Asked { id: id.clone() } };
    match store.append(&entry.name, &[event]).await {
        Ok(()) => Ok(id),
        Err(source) => Err(RunNowError::NotNoted { id, source }),
    }
}

/// A requested run that was not sent, or not noted in the history.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunNowError {
    /// The task was not sent.
    #[error(transparent)]
    NotSent(#[from] taskq::Error),
    /// The task was sent, and the history lacks it.
    #[error("it was sent as {id}, and its history could not be written")]
    NotNoted {
        /// The id of the task that was sent.
        id: TaskId,
        /// The reason.
        source: BackendError,
    },
}
