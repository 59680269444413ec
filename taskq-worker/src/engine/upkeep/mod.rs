//! Upkeep: looking after everything that runs, ten times a second.
//!
//! One look at all runs is cheaper than timers for each: a task of a microsecond pays nothing. The look is made from
//! the I/O thread, so that whatever tasks do to the threads they run on, limits hold and leases are renewed.
//!
//! * [`tick`]: the loop
//! * [`answers`]: answers to questions about the worker
//! * [`limits`]: time limits and blocked threads
//! * [`progress`]: records of runs that go on
//! * [`leases`]: claims, renewed and made
//! * [`expired`]: messages that the broker dropped
//! * [`fetching`]: how much the broker is asked for

mod answers;
mod expired;
mod fetching;
mod leases;
mod limits;
mod progress;
mod tick;

pub(super) use answers::Answers;
pub(super) use expired::ExpiryTeller;
pub(super) use tick::Upkeep;
