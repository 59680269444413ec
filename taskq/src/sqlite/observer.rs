//! Observers of a database file.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::Connection;

use super::committed::Committed;

/// An observer of a database file: notified of changes by this process, and polled for changes by others.
pub(crate) trait Observer: Send + Sync {
    /// Notifies the observer of a committed transaction of this process. It is called on the writing thread and must
    /// be quick.
    fn committed(&self, committed: &Committed);

    /// Whether this observer wants to be polled.
    fn is_interested(&self) -> bool;

    /// Reads the file. `changed`: a transaction has been committed since the last poll, by this process or another.
    fn look(&self, connection: &Connection, changed: bool) -> rusqlite::Result<()>;

    /// Checks, less often, for facts that are not changes of the file, such as the deaths of other processes.
    fn slow_poll(&self, _connection: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }

    /// Notifies the observer of a failed poll; changes by other processes may go unseen.
    fn poll_failed(&self) {}

    /// Notifies the observer that the file was deleted or replaced. May be called more than once.
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

    /// Returns the observers that are still alive. The lock is not held while they are called.
    pub(super) fn all(&self) -> Vec<Arc<dyn Observer>> {
        let mut observers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        observers.retain(|observer| observer.strong_count() > 0);
        observers.iter().filter_map(Weak::upgrade).collect()
    }
}
