//! The flight recorder: a small memory-mapped file with a slot for each task that a process runs at once.
//!
//! A task enters its slot when its body begins and leaves it when the body has ended; both are a few stores into
//! memory, without a system call. The kernel owns the pages, so they outlive any death of the process, and a supervisor
//! [reads](read) them afterwards. Settling cannot crash the process, so the slot is free before it begins.
//!
//! While a thread runs a body, it carries a [`Mark`]: a thread-local pointer to the body's slot. A handler for the
//! signals of a crash follows it and notes that this very body crashed, then lets the signal do what it would have
//! done.
//!
//! * [`flight`]: plain data about running tasks and about the death of the process that ran them
//! * [`layout`]: the file's bytes; pure
//! * [`record`]: slots, entered and left; [`crash_signals`]: the handler
//! * [`read`]: the file of a dead process
//!
//! The engine records and the supervisor reads; the recorder imports nothing of either. All `unsafe` code of the
//! workspace is here and in `supervise/unix.rs`.

#[cfg(unix)]
mod crash_signals;
pub(crate) mod flight;
mod layout;
mod read;
mod record;

#[cfg(unix)]
pub(crate) use crash_signals::mark_culprits;
pub(crate) use flight::FlightEntry;
pub(crate) use read::read;
#[cfg(test)]
pub(crate) use record::tests;
pub(crate) use record::{Recorder, Slot};

/// Does nothing: workers are supervised on Unix only.
#[cfg(not(unix))]
pub(crate) fn mark_culprits() {}
