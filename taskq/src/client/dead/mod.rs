//! The dead set: tasks that failed for good and messages that could not be read, in the queue `taskq.dead`.
//!
//! A worker gives a message up by publishing it to that queue with a [`DeadLetter`] in its headers (`give_up`).
//! [`DeadSet`] reads the queue, puts messages back where they came from, and discards them.

mod give_up;
mod letter;
mod lighten;
mod set;

pub use give_up::{Refusal, RefusedMessage, dead_message};
pub use letter::DeadLetter;
pub use lighten::{bared, lightened};
pub use set::{DeadEntry, DeadFilter, DeadSet};
