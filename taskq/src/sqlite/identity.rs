//! Detection of database files that were deleted or replaced while they were open.
//!
//! A deleted file can still be written to for as long as it is open, and the writes are lost when it is closed. That
//! is true of the write-ahead log too, where commits go first, and of the shared memory, whose locks two processes
//! must find in the same place. SQLite does not check for this, so the writer does, with each transaction.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::fault::Fault;
use super::files::{ENDS, with_end};

/// The identities of a database's files. Other files of the same names have others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity([Number; ENDS.len()]);

/// Device and inode. On systems without them, an open file cannot be replaced.
type Number = (u64, u64);

impl Identity {
    /// The identities of the files of an open database.
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

    /// Returns an error if one of the files has been deleted or replaced since.
    pub(super) fn check(self, path: &Path) -> Result<(), Fault> {
        for (number, end) in self.0.into_iter().zip(ENDS) {
            let found = if end.is_empty() { number_of(path) } else { number_of(&with_end(path, end)) };
            let is_gone = match found {
                Ok(found) => found != number,
                // Other errors do not mean that the file is gone; SQLite reports them on its own.
                Err(error) => error.kind() == ErrorKind::NotFound,
            };
            if is_gone {
                return Err(Fault::gone(&with_end(path, end)));
            }
        }
        Ok(())
    }
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
