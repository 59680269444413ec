//! The supervisor: a process that runs no tasks and holds no connections, and keeps alive those that do.
//!
//! It starts children (this same executable), watches each over a socket and by its heartbeats, replaces those that
//! end, and reads after every death which tasks were running ([`recorder`]). It knows nothing of taskq: what a loss
//! means for a task is decided in `engine`, by the children, who have the connections.

pub(crate) mod flight;
pub(crate) mod recorder;
