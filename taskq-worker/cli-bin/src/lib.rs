//! The program `taskq`: the command line of [`taskq_worker`] for those who have no program with tasks at hand. It sends
//! tasks, shows and tidies up, and `taskq -A path/to/my-app worker` hands over to a program that has tasks.
//!
//! Beside the commands of every worker program it has two of its own: `taskq bench` measures throughput and latency,
//! and `taskq torture` exposes a run of tasks to faults. Both run tasks of their own, so they need no program of yours,
//! and no program of yours carries them.
//!
//! The library is for taskq's own tests, which use the ledger and the checker of [`torture`]. It makes no promise of
//! compatibility.

mod bench;
mod commands;
pub mod torture;

pub use commands::{main, understands};
