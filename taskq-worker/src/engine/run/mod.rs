//! Running: one attempt between its admission and its conclusion.
//!
//! * [`running`]: the state of a [`Run`]: begun, ended, concluded. A run knows nothing of its delivery or its claim,
//!   which are in [`custody`](super::custody).
//! * [`body`]: makes a body and runs it until it ends or is stopped.
//! * [`decoding`]: the memory for bodies that are being decoded.
//! * [`slots`]: one for each attempt that may run at a time.
//! * [`threads`]: the threads on which plain functions run.
//! * [`stop`]: the request to stop, made once.
//! * [`poll_watch`]: how long one poll of a future goes on.

mod body;
mod decoding;
mod poll_watch;
mod running;
mod slots;
mod stop;
mod threads;

pub(crate) use body::Bodies;
pub(crate) use decoding::Decoding;
pub(crate) use poll_watch::Ticks;
pub(crate) use running::{NewRun, Run};
pub(crate) use slots::Slots;
pub(crate) use threads::PlainThreads;
