//! Election of the beat that fires: the holder of a lease in the store.
//!
//! The lease lasts [`LEASE`]. Its holder renews it every [`RENEW_EVERY`], and trusts it for [`TRUSTED_FOR`] after the
//! start of the last renewal, which is shorter. So whatever happens, a beat that lost the lease stops before another
//! one begins. A process that was stopped, or a machine that slept, finds its trust expired when it goes on, and renews
//! first; by then the lease may belong to another beat. Trust is measured by the monotonic clock, and by the wall clock
//! as well, since the monotonic clock stands still while a machine sleeps.
//!
//! Candidates look every [`LOOK_EVERY`]. They take a lease that has expired, and also one that has not been renewed for
//! [`LEASE`] by their own clock: a store whose clock was put back would keep the lease of a dead beat for an hour.
//!
//! Each lease has a higher term than all before it. The term is part of everything that its holder writes, and facts
//! are only replaced by a beat that knows their current value; so even two holders, of a lease that the store gave away
//! twice, do not claim a slot twice.

mod candidate;
mod holder;
mod lease;
mod timing;
mod trust;

pub(crate) use self::candidate::Candidate;
pub use self::holder::{Holder, holder};
pub(crate) use self::lease::Lease;
pub use self::timing::{LEASE, LOOK_EVERY, RENEW_EVERY, TRUSTED_FOR};

#[cfg(test)]
mod tests;
