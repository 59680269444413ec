//! The supervisor: a process that runs no tasks, holds no connections, and keeps alive the processes that do.
//!
//! The supervisor starts children (this same executable), watches each over a socket and by its heartbeats, replaces
//! those that end, and reads after every death which tasks were running ([`recorder`](crate::recorder)). It knows
//! nothing of taskq: what a loss means for a task is decided in `engine`, by the children, which have the connections.
//!
//! ```text
//!  signals  ─┐                ┌─ start, tell, kill ─→ process ─ link ─→ a child
//!  ends     ─┼→ supervisor ─→ group (pure)
//!  messages ─┤                └─ ready, over ─→ the caller of the supervisor
//!  time     ─┘
//! ```
//!
//! * [`supervisor`] waits for the next event, tells [`group`], and carries out its actions.
//! * [`group`] knows the [`child`]ren and decides by [`policy`]; neither waits, and neither touches the system.
//! * [`process`] starts a child and reads its [`link`] and the first lines of its stderr ([`last_words`]); [`unix`]
//!   calls the system.
//! * [`losses`] keeps what dead children were running in files ([`state_dir`]) until a living child has stored it.
//! * [`health`] and [`notify`] publish whether work is being done.
//!
//! The supervisor has one thread. Nothing in it may wait for anything that a child could withhold.

mod child;
mod group;
pub(crate) mod health;
mod last_words;
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
pub(crate) use supervisor::{SupervisorSetup, run};
