//! The supervisor: a process that runs no tasks and holds no connections, and keeps alive those that do.
//!
//! It starts children (this same executable), watches each over a socket and by its heartbeats, replaces those that
//! end, and reads after every death which tasks were running ([`recorder`](crate::recorder)). It knows nothing of taskq: what a loss
//! means for a task is decided in `engine`, by the children, who have the connections.
//!
//! ```text
//!  signals ─┐                ┌─ start, tell, kill ─→ process ─ link ─→ a child
//!  ends    ─┼→ supervisor ─→ group (pure)
//!  news    ─┤                └─ ready, over ─→ whoever runs the supervisor
//!  time    ─┘
//! ```
//!
//! * [`supervisor`] waits for the next thing that happens, tells [`group`], and does what that says.
//! * [`group`] knows the [`child`]ren and decides by [`policy`]; neither waits, and neither touches the system.
//! * [`process`] starts a child and reads its [`link`] and its first words; [`unix`] is what the system is asked for.
//! * [`losses`] are what dead children were running, kept in files ([`state_dir`]) until a living one has written them down.
//! * [`health`] and [`notify`] tell others whether work is being done.
//!
//! It has one thread. Nothing in it may wait for anything that a child could withhold.

mod child;
mod group;
pub(crate) mod health;
pub(crate) mod link;
mod losses;
mod notify;
pub(crate) mod policy;
mod process;
mod signals;
pub(crate) mod state_dir;
mod supervisor;
pub(crate) mod unix;

pub(crate) use group::{Outcome, Plan};
pub(crate) use process::Program;
pub(crate) use supervisor::{Setup, run};
