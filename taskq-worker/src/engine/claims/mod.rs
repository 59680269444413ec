//! Claims: of the copies of a message that may exist, one runs.
//!
//! A delivery that may be a duplicate first puts a claim on its run into Kv: a lease that its worker renews while it
//! runs, and that in the end says what the run came to. A worker that finds the claim finished does not run the task;
//! it publishes again what follows: another copy of the next attempt, of which one is run, or at worst a second
//! message in the dead set. First deliveries make no claim and pay nothing: they left a record, and a claim looks at
//! that as well.
//!
//! * [`claim`]: one lease, taken, renewed, finished, given up
//! * [`gone`]: the mark of a process whose leases are free because it is dead
//! * [`times`]: how long leases and marks last

mod claim;
mod gone;
mod times;

pub(crate) use claim::{Claim, Claimed, Claims, look_again_after};
pub(crate) use gone::mark_gone;
pub(crate) use times::LeaseTimes;
