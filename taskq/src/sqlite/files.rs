//! The names of a database's files.

use std::path::{Path, PathBuf};

/// The suffixes of the files that SQLite keeps next to an open database.
pub(super) const ENDS: [&str; 3] = ["", "-wal", "-shm"];

/// The path of a database's companion with this suffix.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}
