//! The ledger of a test: what its tasks did, noted outside of everything that is under test.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use taskq_cli::torture::ledger::{Fact, LedgerLine, LedgerTail};

use super::unique;

/// A file to which the tasks `shop.ledger…` append a line each time one of them runs: a ledger of `taskq torture`,
/// whose only facts are effects. Deleted when dropped.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    read: Mutex<(Option<LedgerTail>, Vec<Entry>)>,
}

/// One effect in a [`Ledger`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The argument `line` of the task.
    pub line: String,
    /// The task's id.
    pub id: String,
    /// The attempt, 0 first.
    pub attempt: u32,
    /// The process that ran it.
    pub pid: u32,
    /// When it was noted, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// An empty one, in the temporary folder.
    pub fn new() -> Self {
        Self { path: std::env::temp_dir().join(unique("taskq-ledger")), read: Mutex::default() }
    }

    /// The ledger's path, as the tasks take it.
    ///
    /// # Panics
    ///
    /// If the temporary folder's path is not Unicode.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the temporary folder has a Unicode path")
    }

    /// The effects so far, in the order in which they were noted. A line whose end has not been written yet is left
    /// out.
    ///
    /// # Panics
    ///
    /// If a line is not one that the tasks write.
    pub fn entries(&self) -> Vec<Entry> {
        self.look(<[_]>::to_vec)
    }

    /// The number of effects so far.
    ///
    /// # Panics
    ///
    /// As [`entries`](Self::entries).
    pub fn len(&self) -> usize {
        self.look(<[_]>::len)
    }

    /// Whether there is no effect yet.
    ///
    /// # Panics
    ///
    /// As [`entries`](Self::entries).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of effects of each `line`.
    ///
    /// # Panics
    ///
    /// As [`entries`](Self::entries).
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries() {
            *counts.entry(entry.line).or_default() += 1;
        }
        counts
    }

    /// Reads what was added since the last look, and looks at everything.
    fn look<T>(&self, at: impl FnOnce(&[Entry]) -> T) -> T {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (tail, entries) = &mut *read;
        if tail.is_none() {
            *tail = match LedgerTail::open(&self.path) {
                Ok(tail) => Some(tail),
                // No task has run yet.
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => panic!("{} cannot be read: {error}", self.path.display()),
            };
        }
        if let Some(tail) = tail {
            let lines = tail.read().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
            entries.extend(lines.into_iter().map(entry));
        }
        at(entries)
    }
}

fn entry(line: LedgerLine) -> Entry {
    match line {
        LedgerLine { at, pid, fact: Fact::Effect { id, attempt, note: Some(line) } } => {
            Entry { line, id, attempt, pid, at_ms: at }
        }
        other => panic!("the tasks of tests note effects with a line: {other:?}"),
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // It is in the temporary folder, and may never have been written.
        drop(std::fs::remove_file(&self.path));
    }
}
