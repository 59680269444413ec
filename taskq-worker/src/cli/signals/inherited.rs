//! The signals as the starter of this process has left them.
//!
//! A process inherits which signals are blocked and which are ignored, and some starters block them all. A worker that
//! TERM does not reach cannot be drained, and one whose children are reaped by the system does not learn how they, or
//! the programs that its tasks start, have ended.

#![allow(unsafe_code, reason = "the standard library neither unblocks signals nor resets them")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::c_int;

/// The signals that workers, beats and supervisors wait for.
const AWAITED: [c_int; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGCHLD];

/// Unblocks the signals that are waited for, for this thread and those that it starts, and gives the end of a child its
/// default effect if it is ignored. To be called before there is another thread.
pub(in super::super) fn restore() -> io::Result<()> {
    // SAFETY: `sigemptyset` makes the set valid before anything reads it, and a null pointer asks for no earlier mask.
    let failed = unsafe {
        let mut awaited = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(awaited.as_mut_ptr());
        for signal in AWAITED {
            libc::sigaddset(awaited.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, awaited.as_ptr(), ptr::null_mut())
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    // SAFETY: with a null pointer for the new action it only fills in `found`; zeroes are a valid action, the default.
    let failed = unsafe {
        let mut found = MaybeUninit::<libc::sigaction>::zeroed();
        let mut failed = libc::sigaction(libc::SIGCHLD, ptr::null(), found.as_mut_ptr());
        if failed == 0 && found.assume_init().sa_sigaction == libc::SIG_IGN {
            let default = MaybeUninit::<libc::sigaction>::zeroed();
            failed = libc::sigaction(libc::SIGCHLD, default.as_ptr(), ptr::null_mut());
        }
        failed
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
