//! The pure steps of an attempt: whether it may begin, how it begins, and what its end means. For writers of a worker.
//!
//! ```text
//! message → admit → start → run → conclude → record, what follows
//! ```
//!
//! * [`admit`] decides about a message: run it, put it off, give it up. Pure.
//! * [`Start`] makes the context, decodes the arguments, and returns the body.
//! * [`catch`] and [`catch_sync`] run a body and catch its panics, those in `Drop` included; [`Outcome`] is the end of
//!   the attempt.
//! * [`conclude`] decides what the end means: the [`Verdict`], which knows its record and the message that follows.
//!   Pure.
//!
//! The worker of `taskq-worker` and the drain of `taskq::testing` go through here, so a task cannot behave differently
//! in a test. They differ in slots, claims, limits, connections, and the time at which all of it is written.

mod admit;
mod panics;
mod slots;
mod start;
mod verdict;

pub use admit::{Admission, Now, admit, early_by, put_back_after};
pub use panics::{Caught, Panicked, ShieldedBody, catch, catch_sync, discard, note_panics};
pub use slots::FreeSlots;
pub use start::{Start, StateMap, ignores_result, limits};
pub use verdict::{Conclusion, EarlierRun, Outcome, Reason, Stop, Verdict, conclude, record_of};
