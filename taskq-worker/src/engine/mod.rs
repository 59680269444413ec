//! The worker's engine: from a delivery to its settlement.
//!
//! ```text
//! broker → dispatcher ─ guard ─→ execution → settle → broker
//!              │                     │          │
//!              └──── in flight ──────┴── pulse ─┘
//! ```
//!
//! * [`dispatcher`](self) reads deliveries and decides what becomes of each ([`guard`], pure): run it, claim it first, put it
//!   off, give it up.
//! * [`execution`] is one attempt, a column of named steps, each in a file of its own: claim, start, run, verdict
//!   (pure), hand over.
//! * [`settle`] takes verdicts in batches: record, then what follows, then the acknowledgement, in this order.
//! * [`pulse`] looks after what is running ten times a second: limits, progress, leases, prefetch.
//!
//! Deliveries and attempts are handled on the runtime of whoever runs the worker; connections and the settler live on
//! taskq's I/O thread, so that code in tasks cannot stop heartbeats.

mod body;
mod claim;
mod crash;
mod dispatcher;
mod execution;
mod guard;
mod inflight;
mod panics;
mod prefetch;
mod pulse;
mod services;
mod settle;
mod verdict;
mod worker;

pub use worker::{Worker, WorkerBuilder, WorkerControl, WorkerError, WorkerSummary};
