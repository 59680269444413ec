//! `taskq torture`: does to a run of tasks what may happen to it, and tells what became of the promise.
//!
//! A run has queues of its own and workers of its own: processes of this very program that know the tasks of
//! [`tasks`] and no others. What is sent and which fault strikes when depends on a seed ([`plan`], pure). Everybody
//! notes what he does in a [`ledger`] outside of taskq: the sender what it tried and what was confirmed, tasks what they
//! did, faults whom they struck, a reader what the records say. In the end the [`checker`] (pure) reads it and gives the
//! verdict.
//!
//! ```text
//! plan ──→ producer ──→ servers ──→ fleet (workers) ──→ tasks
//!   │          │            ↑          ↑                  │
//!   └→ faults ─┼────────────┴──────────┘                  │
//!        │     ↓                                          ↓
//!        └→ ledger ←── reader (records, dead set) ←───────┘ ──→ story ──→ checker
//! ```
//!
//! Workers that are not tortured know nothing of this room but a flag that nobody sees.

mod checker;
mod faults;
mod fleet;
mod ledger;
mod options;
mod plan;
mod processes;
mod producer;
mod proxy;
mod reader;
mod report;
mod run;
mod story;
mod tasks;

pub(crate) use faults::{Fault, Need};
pub(crate) use options::Options;
pub(crate) use report::Verdict;
pub(crate) use run::run;
pub(crate) use tasks::{Witness, registry};
