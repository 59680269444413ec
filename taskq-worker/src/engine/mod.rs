//! The worker's engine: from a delivery to its settlement.
//!
//! ```text
//! broker → dispatcher ─ admit ─→ execution → settle → broker
//!              │                     │          │
//!              └────── custody ──────┴─ upkeep ─┘
//! ```
//!
//! * [`dispatcher`] reads deliveries and decides about each ([`taskq::internal::attempt::admit`], pure): run it, look
//!   it up first, put it off, end it.
//! * [`execution`] is one attempt, a column of named steps: look up, run, conclude (pure), hand over.
//! * [`run`] is the running state of an attempt, and its body; [`custody`] is the table of the deliveries that
//!   runs hold, and of their claims.
//! * [`claims`], [`quarantine`] and [`duplicates`] find out whether a delivery is a duplicate, and whether processes
//!   died of it.
//! * [`limits`] knows which tasks are not to be run though nothing is wrong with them.
//! * [`settle`] takes ends in batches: record, then what follows, then the acknowledgement, in this order.
//! * [`upkeep`] looks after everything that runs ten times a second: limits, progress, leases, prefetch.
//! * [`observe`] is told of each moment; log and counters listen. [`reachability`] knows whether the servers can be
//!   reached.
//! * [`worker`], [`builder`], [`control`], [`drain`]: begin, steer, end; [`node`] is the worker as remote control has
//!   it.
//!
//! A room imports only rooms of lower layers: `crash`, `lock`, `phase` < `observe` < `prefetch`, `reachability`,
//! `snapshot`, `supervision` < `run` < `claims` < `quarantine` < `custody` < `settle` < `duplicates`, `limits` <
//! `shared` < `execution` < `dispatcher`, `upkeep`, `drain` < `control` < `node` < `worker` and `builder`.
//!
//! Deliveries and attempts are handled on the runtime on which the worker is run; connections and the settler live on
//! taskq's I/O thread, so that code in tasks cannot stop heartbeats.

mod builder;
mod claims;
mod control;
mod crash;
mod custody;
mod dispatcher;
mod drain;
mod duplicates;
mod execution;
mod limits;
mod lock;
mod node;
mod observe;
mod phase;
mod prefetch;
mod quarantine;
mod reachability;
mod run;
mod settle;
mod shared;
mod snapshot;
mod supervision;
#[cfg(test)]
mod tests;
mod upkeep;
mod worker;

pub use builder::WorkerBuilder;
pub use control::WorkerControl;
pub(crate) use quarantine::losses::report as report_loss;
pub(crate) use snapshot::WorkerHeartbeat;
pub use snapshot::{RunSnapshot, WorkerSnapshot};
pub(crate) use supervision::{Supervision, WorkerEvent};
pub use worker::{Worker, WorkerError, WorkerSummary};
