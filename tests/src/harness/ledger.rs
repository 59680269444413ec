//! What tasks did, noted outside of everything that is under test: a file that they append lines to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::unique;

/// A file to which the tasks `shop.ledger…` append a line each time one of them runs. Deleted when dropped.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
}

/// One line of a [`Ledger`].
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
        Self { path: std::env::temp_dir().join(unique("taskq-ledger")) }
    }

    /// Its path, as the tasks take it.
    ///
    /// # Panics
    ///
    /// If the temporary folder's path is not Unicode.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the temporary folder has a Unicode path")
    }

    /// What is in it so far. A line whose end has not been written yet is left out.
    ///
    /// # Panics
    ///
    /// If a line is not of the form that the tasks write.
    pub fn entries(&self) -> Vec<Entry> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => panic!("{} cannot be read: {error}", self.path.display()),
        };
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(parse).collect()
    }

    /// How often each `line` was written.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in self.entries() {
            *counts.entry(entry.line).or_default() += 1;
        }
        counts
    }
}

fn parse(line: &str) -> Entry {
    // The argument may hold blanks; the four fields behind it do not.
    let mut fields = line.trim_end().rsplitn(5, ' ');
    let mut next = || fields.next().unwrap_or_else(|| panic!("a ledger line has five fields: {line:?}"));
    let (at_ms, pid, attempt, id, line) = (next(), next(), next(), next(), next());
    Entry {
        line: line.to_owned(),
        id: id.to_owned(),
        attempt: attempt.parse().expect("the attempt is a number"),
        pid: pid.parse().expect("the process is a number"),
        at_ms: at_ms.parse().expect("the time is a number"),
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // It is in the temporary folder, and may never have been written.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_half_lines_are_not() {
        let ledger = Ledger::new();
        assert_eq!(ledger.entries(), []);
        std::fs::write(ledger.path(), "a b 7-x 0 12 5\na b 7-x 1 13 5\nc 8")
            .expect("the temporary folder can be written");
        let entry = |attempt, pid| Entry { line: "a b".into(), id: "7-x".into(), attempt, pid, at_ms: 5 };
        assert_eq!(ledger.entries(), [entry(0, 12), entry(1, 13)]);
        assert_eq!(ledger.counts(), BTreeMap::from([("a b".to_owned(), 2)]));
    }
}
