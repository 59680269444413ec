//! Observers of a database file.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::Connection;

use super::committed::Committed;

/// An observer of a database file, told of changes by this process and shown those by others.
pub(crate) trait Observer: Send + Sync {
    /// A transaction of this process was committed. Called by the writing thread, so it must be quick.
    fn committed(&self, committed: &Committed);

    /// Whether this observer wants to be shown the file.
    fn is_interested(&self) -> bool;

    /// A look at the file. `changed`: something was committed since the last look, by anybody.
    fn look(&self, connection: &Connection, changed: bool) -> rusqlite::Result<()>;

    /// A slower look, at facts that are no change of the file: whether other processes are still there.
    fn slow_poll(&self, _connection: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    /// A look failed, so changes by other processes may go unseen.
    fn poll_failed(&self) {}

    /// The file was deleted or replaced. May be called more than once.
    fn file_gone(&self);
}

/// All observers of a file.
#[derive(Default)]
pub(super) struct Observers(Mutex<Vec<Weak<dyn Observer>>>);

impl Observers {
    pub(super) fn add(&self, observer: Weak<dyn Observer>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(super) fn tell(&self, committed: &Committed) {
        if committed.queues.is_empty() && committed.changes.is_empty() {
            return;
        }
        for observer in self.all() {
            observer.committed(committed);
        }
    }

    /// Returns the observers that are still there. The lock is not held while they are called.
    pub(super) fn all(&self) -> Vec<Arc<dyn Observer>> {
        let mut observers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|observer| observer.strong_count() > 0);
        observers.iter().filter_map(Weak::upgrade).collect()
    }
}
