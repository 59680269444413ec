//! The scheduler of taskq: what is to be sent, when, and what becomes of what was missed.
//!
//! What is here decides, and does nothing: it takes values and gives values, and knows neither a broker nor a store nor a clock.

pub mod entry;
pub mod schedule;
