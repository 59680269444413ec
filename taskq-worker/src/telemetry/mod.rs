//! The log of a worker.
//!
//! The log goes to stderr; stdout belongs to what a command answers. A program that has installed a subscriber of its
//! own keeps it.

mod subscriber;

pub(crate) use subscriber::{Format, Level, has_terminal, init};
