//! Who waits for changes of which task.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::broadcast;

use super::results;
use crate::codec::result;
use crate::message::{Record, TaskId};
use crate::sqlite::{Committed, Observer, lock};

/// How many changes wait for a slow watcher. When more come, it misses the oldest, never the newest: a terminal
/// record is the last of its generation and reaches everybody.
const CHANGES_PENDING_MAX: usize = 16;

/// A record that was stored, and its number.
type Numbered = (i64, Arc<Record>);

/// Everybody of one client who waits.
pub(super) struct Watches {
    /// What this process signs its records with.
    own: i64,
    table: Mutex<WatchTable>,
}

#[derive(Default)]
struct WatchTable {
    watched: HashMap<TaskId, broadcast::Sender<Numbered>>,
    /// Up to which number the records of other processes have been seen.
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
        match result::decode(task, document) {
            // Fails only if the last watcher is just going away; then nobody is left to be told.
            Ok(record) => drop(watchers.send((number, Arc::new(record)))),
            Err(error) => tracing::error!(%error, "a record that was just stored cannot be read"),
        }
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
            // An id that cannot be one is nobody's whom we know.
            if let Ok(task) = TaskId::parse(task) {
                lock(&self.table).tell(number, &task, document);
            }
        })?;
        lock(&self.table).seen = last;
        Ok(())
    }

    fn file_gone(&self) {
        // Nothing will be seen any more. Each watch ends, and whoever asks why is told.
        lock(&self.table).watched.clear();
    }
}

/// One watcher of one task.
pub(super) struct SqliteWatcher {
    /// Taken only when the watcher is dropped.
    receiver: Option<broadcast::Receiver<Numbered>>,
    task: TaskId,
    /// Records up to this number were stored before it came.
    after: i64,
    watches: Arc<Watches>,
}

impl SqliteWatcher {
    /// Waits for records with larger numbers than `after`, which is the last one in the file.
    pub(super) fn subscribe(watches: &Arc<Watches>, task: TaskId, after: i64) -> Self {
        let mut table = lock(&watches.table);
        if table.watched.is_empty() {
            // Nobody has looked for a while, and nobody wants what came meanwhile.
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

    pub(super) async fn next(mut self) -> Option<(Record, Self)> {
        loop {
            match self.receiver.as_mut()?.recv().await {
                Ok((number, record)) if number > self.after => return Some((Arc::unwrap_or_clone(record), self)),
                // It was stored before this watcher came; or the watcher was too slow for some, and newer ones follow.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for SqliteWatcher {
    fn drop(&mut self) {
        let mut table = lock(&self.watches.table);
        // Under the lock, so that the last one to go sees that it is the last.
        self.receiver = None;
        if table.watched.get(&self.task).is_some_and(|watchers| watchers.receiver_count() == 0) {
            table.watched.remove(&self.task);
        }
    }
}
