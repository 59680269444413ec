//! Who waits for changes of which task.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tokio::sync::broadcast;

use super::{lock, results};
use crate::codec::result;
use crate::message::{Record, TaskId};
use crate::sqlite::{Committed, Observer};

/// How many changes wait for a slow watcher. When more come, it misses the oldest, never the newest: a terminal
/// record is the last of its generation and reaches everybody.
const CHANGES_PENDING_MAX: usize = 16;

/// A record that was stored, and its number.
type Numbered = (i64, Arc<Record>);

/// Everybody of one client who waits.
pub(super) struct Watches {
    /// What this process signs its records with.
    own: i64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    watched: HashMap<TaskId, broadcast::Sender<Numbered>>,
    /// Up to which number the records of other processes have been seen.
    seen: i64,
}

impl Watches {
    pub(super) fn new(own: i64) -> Self {
        Self { own, inner: Mutex::default() }
    }
}

impl Inner {
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
        let inner = lock(&self.inner);
        if inner.watched.is_empty() {
            return;
        }
        for change in &committed.changes {
            inner.tell(change.number, &change.task, &change.document);
        }
    }

    fn is_interested(&self) -> bool {
        !lock(&self.inner).watched.is_empty()
    }

    fn look(&self, connection: &Connection, changed: bool) -> rusqlite::Result<()> {
        if !changed {
            return Ok(());
        }
        let seen = lock(&self.inner).seen;
        let last = results::last_number(connection)?;
        results::stored_between(connection, seen, last, self.own, |number, task, document| {
            // An id that cannot be one is nobody's whom we know.
            if let Ok(task) = TaskId::parse(task) {
                lock(&self.inner).tell(number, &task, document);
            }
        })?;
        lock(&self.inner).seen = last;
        Ok(())
    }

    fn file_gone(&self) {
        // Nothing will be seen any more. Each watch ends, and whoever asks why is told.
        lock(&self.inner).watched.clear();
    }
}

/// One watcher of one task.
pub(super) struct Watcher {
    /// Taken only when the watcher is dropped.
    receiver: Option<broadcast::Receiver<Numbered>>,
    task: TaskId,
    /// Records up to this number were stored before it came.
    after: i64,
    watches: Arc<Watches>,
}

impl Watcher {
    /// Waits for records with larger numbers than `after`, which is the last one in the file.
    pub(super) fn subscribe(watches: &Arc<Watches>, task: TaskId, after: i64) -> Self {
        let mut inner = lock(&watches.inner);
        if inner.watched.is_empty() {
            // Nobody has looked for a while, and nobody wants what came meanwhile.
            inner.seen = inner.seen.max(after);
        }
        let receiver = match inner.watched.entry(task.clone()) {
            Entry::Occupied(watched) => watched.get().subscribe(),
            Entry::Vacant(unwatched) => {
                let (sender, receiver) = broadcast::channel(CHANGES_PENDING_MAX);
                unwatched.insert(sender);
                receiver
            }
        };
        drop(inner);
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

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut inner = lock(&self.watches.inner);
        // Under the lock, so that the last one to go sees that it is the last.
        self.receiver = None;
        if inner.watched.get(&self.task).is_some_and(|watchers| watchers.receiver_count() == 0) {
            inner.watched.remove(&self.task);
        }
    }
}
