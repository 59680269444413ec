//! A lock on a file that a process takes which may only read it.

#![allow(unsafe_code, reason = "the standard library has no locks that SQLite sees")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A shared lock of this process on all bytes of a file. Released when dropped.
#[derive(Debug)]
pub struct ReadLock {
    _file: File,
}

impl ReadLock {
    /// Waits until nobody holds an exclusive lock, and locks the file.
    ///
    /// # Panics
    ///
    /// If the file cannot be locked.
    pub fn on(path: &Path) -> Self {
        let file = File::open(path).expect("the file is there");
        // SAFETY: zeroes are a valid `flock`; it is only read, and the descriptor is open.
        let locked = unsafe {
            let mut lock = std::mem::zeroed::<libc::flock>();
            lock.l_type = libc::F_RDLCK as libc::c_short;
            lock.l_whence = libc::SEEK_SET as libc::c_short;
            libc::fcntl(file.as_raw_fd(), libc::F_SETLKW, &raw const lock)
        };
        assert_eq!(locked, 0, "{} can be locked", path.display());
        Self { _file: file }
    }
}
