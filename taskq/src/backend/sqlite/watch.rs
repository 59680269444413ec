//! The table of watchers, and the subscriptions in it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::broadcast;

use super::results;
use crate::backend::BackendError;
use crate::codec::result::{self, ResultError};
use crate::message::{Record, TaskId};
use crate::sqlite::{Committed, Observer, lock};

/// The number of changes that are buffered for a slow watcher. Beyond it, the watcher misses the oldest, never the
/// newest: a terminal record is the last of its generation, so every watcher gets it.
const CHANGES_PENDING_MAX: usize = 16;

/// A stored record, or why it cannot be read, and its number.
type Numbered = (i64, Arc<Result<Record, ResultError>>);

/// All watchers of one client.
pub(super) struct Watches {
    /// The number with which this process marks its records.
    own: i64,
    table: Mutex<WatchTable>,
}

#[derive(Default)]
struct WatchTable {
    watched: HashMap<TaskId, broadcast::Sender<Numbered>>,
    /// The number up to which the records of other processes have been seen.
    seen: i64,
}

impl Watches {
    pub(super) fn new(own: i64) -> Self {
        Self { own, table: Mutex::default() }
    }
}

impl WatchTable {
    fn tell(&self, number: i64, task: &TaskId, document: &[u8]) {
        let Some(watchers) = self.watched.get(task) else { return };
        // Sending fails only if the last watcher is just being dropped.
        drop(watchers.send((number, Arc::new(result::decode(task, document)))));
    }
}

impl Observer for Watches {
    fn committed(&self, committed: &Committed) {
        let table = lock(&self.table);
        if table.watched.is_empty() {
            return;
        }
        for change in &committed.changes {
            table.tell(change.number, &change.task, &change.document);
        }
    }

    fn is_interested(&self) -> bool {
        !lock(&self.table).watched.is_empty()
    }

    fn look(&self, connection: &Connection, changed: bool) -> rusqlite::Result<()> {
        if !changed {
            return Ok(());
        }
        let seen = lock(&self.table).seen;
        let last = results::last_number(connection)?;
        results::stored_between(connection, seen, last, self.own, |number, task, document| {
            // No watcher of ours waits for a task with an invalid id.
            if let Ok(task) = TaskId::parse(task) {
                lock(&self.table).tell(number, &task, document);
            }
        })?;
        lock(&self.table).seen = last;
        Ok(())
    }

    fn file_gone(&self) {
        // No more changes will be seen. Each stream ends, and reading the record returns the error.
        lock(&self.table).watched.clear();
    }
}

/// A subscription to the changes of one task.
pub(super) struct SqliteWatcher {
    /// `None` only while the watcher is being dropped.
    receiver: Option<broadcast::Receiver<Numbered>>,
    task: TaskId,
    /// The number of the last record that was stored before the subscription.
    after: i64,
    watches: Arc<Watches>,
}

impl SqliteWatcher {
    /// Subscribes to records with numbers larger than `after`, the last one in the file.
    pub(super) fn subscribe(watches: &Arc<Watches>, task: TaskId, after: i64) -> Self {
        let mut table = lock(&watches.table);
        if table.watched.is_empty() {
            // Without watchers there was no polling, and the records stored meanwhile are of no interest.
            table.seen = table.seen.max(after);
        }
        let receiver = match table.watched.entry(task.clone()) {
            Entry::Occupied(watched) => watched.get().subscribe(),
            Entry::Vacant(unwatched) => {
                let (sender, receiver) = broadcast::channel(CHANGES_PENDING_MAX);
                unwatched.insert(sender);
                receiver
            }
        };
        drop(table);
        Self { receiver: Some(receiver), task, after, watches: Arc::clone(watches) }
    }

    pub(super) async fn next(mut self) -> Option<(Result<Record, BackendError>, Self)> {
        loop {
            match self.receiver.as_mut()?.recv().await {
                Ok((number, record)) if number > self.after => {
                    return Some((Arc::unwrap_or_clone(record).map_err(BackendError::from), self));
                }
                // The record was stored before the subscription; or the watcher was too slow for some, and newer ones
                // follow.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for SqliteWatcher {
    fn drop(&mut self) {
        let mut table = lock(&self.watches.table);
        // The receiver is dropped under the lock, so that the last watcher finds that it is the last.
        self.receiver = None;
        if table.watched.get(&self.task).is_some_and(|watchers| watchers.receiver_count() == 0) {
            table.watched.remove(&self.task);
        }
    }
}
