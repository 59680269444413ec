//! Faults of a database file, each with its remedy.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Error, ErrorCode, ffi};

use super::holders;
use crate::shortage;

/// A failed operation on the file. Every change in the same transaction gets the same fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Fault {
    /// The kind of fault.
    pub(crate) kind: FaultKind,
    /// The cause and its remedy.
    pub(crate) text: String,
}

/// Kinds of faults that callers treat differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The file exists and cannot be used: it belongs to another program or a newer version, or cannot be written.
    Unusable,
    /// The disk is full.
    Full,
    /// The file was deleted or replaced.
    Gone,
    /// Any other fault.
    Other,
}

impl Fault {
    /// The fault that an SQLite error stands for, on the file at `path`.
    pub(crate) fn of(path: &Path, error: &Error) -> Self {
        let file = path;
        let path = path.display();
        let full = || (FaultKind::Full, full_text(file));
        let (kind, text) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (FaultKind::Other, format!("another process keeps {path} locked; {}", holders::remedy(file)))
            }
            // The shared memory is a file next to the database, which grows by one page at a time.
            _ if extended_code(error) == Some(ffi::SQLITE_IOERR_SHMSIZE) => full(),
            Some(ErrorCode::DiskFull) => full(),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
                FaultKind::Unusable,
                format!("{path} cannot be written; give this user write access to the file and to its directory"),
            ),
            // SQLite does not tell why it cannot open a file or the log beside it.
            Some(ErrorCode::CannotOpen) if shortage::require_descriptors().is_err() => (
                FaultKind::Other,
                format!("{path} cannot be opened, since this process has too many open files; {}", shortage::REMEDY),
            ),
            Some(ErrorCode::CannotOpen) => (
                FaultKind::Unusable,
                format!("{path} cannot be opened; look whether this user may read and write it and its directory"),
            ),
            Some(ErrorCode::NotADatabase) => (
                FaultKind::Unusable,
                format!("{path} is not an SQLite file, or its beginning is damaged; name another file"),
            ),
            Some(ErrorCode::DatabaseCorrupt) => (
                FaultKind::Other,
                format!(
                    "{path} is damaged ({error}); stop every process that uses it, keep a copy, and save what can be \
                     saved with `sqlite3 {path} .recover | sqlite3 new.db`"
                ),
            ),
            Some(ErrorCode::SystemIoFailure) => (
                FaultKind::Other,
                format!(
                    "the disk did not read or write {path} ({error}); look into the system's log, and whether a quota or \
                     `ulimit -f` keeps the file from growing"
                ),
            ),
            _ => (FaultKind::Other, format!("{path}: {error}")),
        };
        Self { kind, text }
    }

    /// A full disk.
    pub(crate) fn full(path: &Path) -> Self {
        Self { kind: FaultKind::Full, text: full_text(path) }
    }

    /// A file that cannot be used as it is.
    pub(crate) fn unusable(text: String) -> Self {
        Self { kind: FaultKind::Unusable, text }
    }

    /// An opened file that is no longer the one under its name.
    pub(crate) fn gone(path: &Path) -> Self {
        let path = path.display();
        let text = format!("{path} was deleted or replaced while it was in use; put it back, or restart this process");
        Self { kind: FaultKind::Gone, text }
    }

    /// An operation that took too long. It may or may not have been carried out.
    pub(crate) fn silent(path: &Path, after: Duration) -> Self {
        let after = humantime::format_duration(after);
        Self::other(format!(
            "{} did not answer within {after}; its disk is slow, or another process keeps it locked: {}",
            path.display(),
            holders::remedy(path)
        ))
    }

    /// Any other fault.
    pub(crate) fn other(text: String) -> Self {
        Self { kind: FaultKind::Other, text }
    }

    /// A thread that has ended.
    pub(crate) fn ended(path: &Path) -> Self {
        let text = format!("the thread that serves {} has ended; restart this process", path.display());
        Self { kind: FaultKind::Other, text }
    }
}

fn full_text(path: &Path) -> String {
    format!("the disk of {} is full; make room on it", path.display())
}

fn extended_code(error: &Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}
