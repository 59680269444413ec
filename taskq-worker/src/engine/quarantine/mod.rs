//! Quarantine: what becomes of tasks whose processes died.
//!
//! Every task that was running in a process that died is a suspect, and nothing else is. After two losses a suspect
//! is moved to a quarantine queue, whose tasks run one at a time in a process of their own; only a loss there, or
//! three losses as the marked culprit, end it.
//!
//! * [`losses`]: the deaths that are kept in Kv, by task
//! * [`judge`]: which task a death is put down to; pure
//! * [`queues`]: the names of quarantine queues, and whether a task can go there; pure
//! * [`watch`]: whether tasks wait there, and when a quarantine process has nothing left to do

mod judge;
pub(crate) mod losses;
mod queues;
mod watch;

pub(crate) use judge::{Evidence, Judgement, describe, judge};
pub(crate) use losses::Losses;
pub(crate) use queues::{place, quarantine_queue, true_queue};
pub(crate) use watch::watch;
