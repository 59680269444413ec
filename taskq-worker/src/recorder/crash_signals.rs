//! The handler for the signals of a crash: it marks the slot of the body that the crashing thread was running, then
//! lets the signal do what it would have done.
#![allow(unsafe_code)]

use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Once, OnceLock};

use libc::{c_int, c_void, sigaction, siginfo_t};

use super::record::CURRENT;

/// The signals that a fault or an abort sends to the thread that made it.
const CRASHES: [c_int; 5] = [libc::SIGSEGV, libc::SIGABRT, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// The action of each signal before ours was installed.
static EARLIER: [OnceLock<sigaction>; CRASHES.len()] = [const { OnceLock::new() }; CRASHES.len()];

/// Installs handlers by which a crash marks the slot of the body that the crashing thread is running. Each signal still
/// has its earlier effect: std's handler reports a stack overflow, and in the end the process dies of the signal.
pub(crate) fn mark_culprits() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (signal, earlier) in CRASHES.into_iter().zip(&EARLIER) {
            install(signal, earlier);
        }
    });
}

fn install(signal: c_int, earlier: &OnceLock<sigaction>) {
    // SAFETY: `sigaction` with a null pointer for the new action only fills in `found`.
    let found = unsafe {
        let mut found = MaybeUninit::<sigaction>::zeroed();
        if libc::sigaction(signal, ptr::null(), found.as_mut_ptr()) != 0 {
            return;
        }
        found.assume_init()
    };
    // A process that ignores the signal does not die of it.
    if found.sa_sigaction == libc::SIG_IGN {
        return;
    }
    // Before the handler is installed, which reads it.
    let _ = earlier.set(found);
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_crash;
    // SAFETY: zeroes are a valid `sigaction` with an empty mask. The handler has the form that SA_SIGINFO asks for and
    // does only what a handler may. SA_ONSTACK runs it on the stack that std gives each thread for signals, without
    // which it could not run after a stack overflow.
    unsafe {
        let mut action = MaybeUninit::<sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

/// Only loads and stores, `sigaction` and `raise` are used here, all of which a handler may.
extern "C" fn on_crash(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let culprit = CURRENT.get();
    if !culprit.is_null() {
        // SAFETY: what is not null here points into the mapping, which is there for as long as the process.
        unsafe { (*culprit).store(1, Ordering::Relaxed) };
    }
    let earlier = CRASHES.iter().position(|known| *known == signal).and_then(|at| EARLIER[at].get());
    match earlier {
        Some(action) if action.sa_sigaction != libc::SIG_DFL => {
            if action.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: a handler that was installed with SA_SIGINFO takes these three.
                let handler = unsafe {
                    transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(action.sa_sigaction)
                };
                handler(signal, info, context);
            } else {
                // SAFETY: a handler that was installed without it takes the signal alone.
                let handler = unsafe { transmute::<usize, extern "C" fn(c_int)>(action.sa_sigaction) };
                handler(signal);
            }
        }
        _ => die_of(signal, info),
    }
}

/// Restores the default action of the signal, which ends the process once the handler returns: a fault recurs by
/// itself, a signal that was sent is sent again.
fn die_of(signal: c_int, info: *const siginfo_t) {
    // SAFETY: zeroes are the default action with an empty mask, and `info` is the kernel's.
    unsafe {
        let action = MaybeUninit::<sigaction>::zeroed().assume_init();
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        if (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}
