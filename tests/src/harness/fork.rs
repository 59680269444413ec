//! A process forked from this one.

#![allow(unsafe_code, reason = "the standard library does not fork")]

use std::panic::AssertUnwindSafe;

use super::wait_until;

/// Runs `child` in a process forked from this one, and requires that it returns true.
///
/// # Panics
///
/// If it does not, or does not within a minute.
pub fn in_fork(child: impl FnOnce() -> bool) {
    // SAFETY: this process has threads, so its child may only do what no other thread can have been in the middle of.
    // They all wait for work here, and hold no lock.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "the system grants a process");
    if pid == 0 {
        let is_good = std::panic::catch_unwind(AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: it ends this process, without what the parent has registered for its own end.
        unsafe { libc::_exit(i32::from(!is_good)) };
    }
    let status = wait_until("the forked process has ended", || {
        let mut status = 0;
        // SAFETY: it fills in `status`, and `pid` is a child of this process.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        (ended == pid).then_some(status)
    });
    assert_eq!(status, 0, "what went wrong is on stderr");
}
