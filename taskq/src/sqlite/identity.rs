//! Whether the files are still those that were opened.
//!
//! A file that was deleted can be written to for as long as it is open, and what is written is gone when it is closed. That
//! holds for the log beside the database as well, where commits go first, and for the shared memory, whose locks two
//! processes must find in the same place. SQLite does not look; so the writer does, with each transaction.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::fault::Fault;

/// What follows the database's name in the names of the files that SQLite keeps while it is open.
const ENDS: [&str; 3] = ["", "-wal", "-shm"];

/// Which files they are that have the names; others of the same names are different.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity([Number; ENDS.len()]);

/// The device and the inode. Where there are none, a file that is open cannot be replaced.
type Number = (u64, u64);

impl Identity {
    /// Of the files of an open database.
    pub(super) fn of(path: &Path) -> Result<Self, Fault> {
        let mut numbers = [Number::default(); ENDS.len()];
        for (number, end) in numbers.iter_mut().zip(ENDS) {
            let path = with_end(path, end);
            *number = number_of(&path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => Fault::gone(&path),
                _ => Fault::other(format!("{} cannot be looked at: {error}", path.display())),
            })?;
        }
        Ok(Self(numbers))
    }

    /// An error if one of them was deleted or replaced since.
    pub(super) fn check(self, path: &Path) -> Result<(), Fault> {
        for (number, end) in self.0.into_iter().zip(ENDS) {
            let found = if end.is_empty() { number_of(path) } else { number_of(&with_end(path, end)) };
            let is_gone = match found {
                Ok(found) => found != number,
                // If it cannot be looked at for another reason, it need not be gone, and SQLite says what it cannot do.
                Err(error) => error.kind() == ErrorKind::NotFound,
            };
            if is_gone {
                return Err(Fault::gone(&with_end(path, end)));
            }
        }
        Ok(())
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(end);
    path.into()
}

#[cfg(unix)]
fn number_of(path: &Path) -> io::Result<Number> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn number_of(path: &Path) -> io::Result<Number> {
    fs::metadata(path).map(|_| Number::default())
}
