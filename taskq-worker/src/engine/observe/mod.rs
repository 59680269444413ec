//! Observation: the moments in the life of runs and deliveries, and those that listen to them.
//!
//! The engine tells each [`Moment`] once, at the place where it happens, and knows nothing of what is made of it. An
//! [`Observer`] must be quick and must not wait: it is called where tasks are run. The first users are the log and the
//! counters; the health of the servers, the supervisor's link and the events of remote control listen too.

mod counters;
mod events;
mod log;
mod moment;

pub(crate) use counters::Counters;
pub(crate) use events::EventMaker;
pub(crate) use log::MomentLog;
pub(crate) use moment::{Moment, Observer, Observers, Subject};
