//! Locking.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. A poisoned one is as good as any, since no code of this crate panics while it holds a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
