//! The worker's engine: from a delivery to its settlement.
//!
//! ```text
//! broker → dispatcher ─ guard ─→ execution → settle → broker
//!              │                     │          │
//!              └──── in flight ──────┴── pulse ─┘
//! ```
//!
//! * [`dispatcher`](self) reads deliveries and decides what becomes of each ([`taskq::internal::attempt::admit`], pure): run it, claim
//!   it first, put it off, give it up.
//! * [`execution`] is one attempt, a column of named steps: claim, start, run, verdict (pure), hand over. Claims and running
//!   have files of their own here; what does not need a worker is in [`taskq::internal::attempt`].
//! * [`settle`] takes verdicts in batches: record, then what follows, then the acknowledgement, in this order.
//! * [`pulse`] looks after what is running ten times a second: limits, progress, leases, prefetch.
//! * [`reach`] knows whether the servers can be reached, for those who ask after the worker's health.
//! * [`held`] keeps what runs for longer than the broker waits for a settlement.
//!
//! Deliveries and attempts are handled on the runtime of whoever runs the worker; connections and the settler live on
//! taskq's I/O thread, so that code in tasks cannot stop heartbeats.

mod alone;
mod blame;
mod body;
mod builder;
mod claim;
mod control;
mod copies;
mod crash;
mod dispatcher;
mod drain;
mod execution;
mod held;
mod inflight;
pub(crate) mod losses;
mod prefetch;
mod pulse;
mod reach;
mod run;
mod services;
mod settle;
mod supervision;
#[cfg(test)]
mod tests;
mod worker;

pub use builder::WorkerBuilder;
pub use control::WorkerControl;
pub(crate) use supervision::{Pulse, Supervision, WorkerEvent};
pub use worker::{Worker, WorkerError, WorkerSummary};
