//! What every adapter must pass, for our own and for adapters written elsewhere.
//!
//! Each function checks one promise of a port and panics where it is broken. They wait for facts and bound the wait
//! generously; none asserts a time.

pub mod broker;
pub mod kv;
pub mod results;
