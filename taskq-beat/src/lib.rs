//! The scheduler of taskq.
//!
//! This crate holds beat's place on the map: entries, due times, the elected leader and the stores of
//! schedules live here, between `taskq` and `taskq-worker`. Schedules written on tasks
//! (`#[task(cron = "…")]`, `#[task(every = "…")]`) are already kept in the registry
//! (`taskq::task::Schedule`); firing them is what this crate adds. See `ARCHITECTURE.md`.
