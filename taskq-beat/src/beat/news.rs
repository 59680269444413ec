//! What is said at run time, for the leader.

use std::time::Duration;

use taskq::backend::BackendError;
use tokio::sync::mpsc;

use crate::store::changes::News;
use crate::store::{AtRunTime, Changes, Store};

/// How often a leader asks.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What has changed.
#[derive(Debug)]
pub(super) enum Update {
    Of(Vec<(String, AtRunTime)>),
    All(Vec<(String, AtRunTime)>),
}

/// Says what has changed since `seen`, for as long as somebody listens.
pub(super) async fn listen(store: Store, mut seen: Changes, told: mpsc::Sender<Update>) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        match ask(&store, &seen).await {
            Ok(None) => {}
            Ok(Some((changes, update))) => {
                if told.send(update).await.is_err() {
                    return;
                }
                seen = changes;
            }
            // That the store is away is said by who keeps the lease. Nothing is lost: the next answer holds it all.
            Err(error) => tracing::debug!(%error, "beat: changes cannot be asked for"),
        }
    }
}

async fn ask(store: &Store, seen: &Changes) -> Result<Option<(Changes, Update)>, BackendError> {
    let changes = store.changes().await?;
    let update = match changes.since(seen) {
        News::Nothing => return Ok(None),
        News::Everything => Update::All(store.at_run_time().await?),
        News::Of(names) => {
            let mut said = Vec::with_capacity(names.len());
            for name in names {
                let at_run_time = store.at_run_time_of(&name).await?;
                said.push((name, at_run_time));
            }
            Update::Of(said)
        }
    };
    Ok(Some((changes, update)))
}
