//! `taskq torture`: exposes a run of tasks to faults and judges whether the promise to them was kept.
//!
//! A run has its own queues and its own workers: processes of this very program that know the tasks of [`tasks`] and no
//! others. A seed determines which tasks are sent and which fault strikes when ([`plan`], pure). Everything is noted in
//! a [`ledger`] outside of taskq: by the sender what it tried and what was confirmed, by tasks what they did, by
//! strikes whom they affect, by a reader what the stored records say. In the end the [`checker`] (pure) reads the
//! ledger and gives the verdict.
//!
//! ```text
//! plan ──→ producer ──→ servers ──→ fleet (workers) ──→ tasks
//!   │          │            ↑          ↑                  │
//!   └→ strikes ┼────────────┴──────────┘                  │
//!        │     ↓                                          ↓
//!        └→ ledger ←── reader (records, dead set) ←───────┘ ──→ timeline ──→ checker
//! ```
//!
//! The layers, each importing only those before it: [`dice`] and [`workload`] (plain data), [`ledger`], [`timeline`]
//! and [`checker`]; [`catalog`] and [`plan`]; the parts of a run (fleet, producer, proxy, network, reader, tasks,
//! stranger and bomb); `strikes`; `scenario`, the run as a whole.

mod bomb;
pub mod catalog;
pub mod checker;
pub mod dice;
mod fleet;
pub mod ledger;
mod network;
mod options;
pub mod plan;
mod processes;
mod producer;
mod proxy;
mod reader;
mod report;
mod scenario;
pub mod stranger;
mod strikes;
pub mod tasks;
pub mod timeline;
pub mod workload;

pub use catalog::{Fault, Need};
pub use options::TortureOptions;
pub use report::Verdict;
pub use scenario::run;
