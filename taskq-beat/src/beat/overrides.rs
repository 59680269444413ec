//! Changes at run time, reported to the leader.

use std::time::Duration;

use taskq::backend::BackendError;
use tokio::sync::mpsc;

use crate::store::{ChangedEntries, Changes, Override, Store};

/// The time between two looks at the changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The overrides of entries that have changed, by name.
#[derive(Debug)]
pub(super) enum OverrideUpdate {
    /// The overrides of some entries.
    Named(Vec<(String, Override)>),
    /// All overrides there are; every other entry has none.
    All(Vec<(String, Override)>),
}

/// Reports the changes since `seen`, until the receiver is gone.
pub(super) async fn watch(store: Store, mut seen: Changes, updates: mpsc::Sender<OverrideUpdate>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match look(&store, &seen).await {
            Ok(None) => {}
            Ok(Some((changes, update))) => {
                if updates.send(update).await.is_err() {
                    return;
                }
                seen = changes;
            }
            // The keeper of the lease logs that the store is away. No change is lost: the next answer holds it.
            Err(error) => tracing::debug!(%error, "beat: changes of entries cannot be read"),
        }
    }
}

/// Returns the overrides that have changed since `seen`.
async fn look(store: &Store, seen: &Changes) -> Result<Option<(Changes, OverrideUpdate)>, BackendError> {
    let changes = store.changes().await?;
    let update = match changes.since(seen) {
        ChangedEntries::Nothing => return Ok(None),
        ChangedEntries::Everything => OverrideUpdate::All(store.overrides().await?),
        ChangedEntries::Named(names) => {
            let mut overrides = Vec::with_capacity(names.len());
            for name in names {
                let entry_override = store.override_of(&name).await?;
                overrides.push((name, entry_override));
            }
            OverrideUpdate::Named(overrides)
        }
    };
    Ok(Some((changes, update)))
}
