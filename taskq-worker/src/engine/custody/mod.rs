//! Custody: which run holds which delivery, how old that is, and under which claim the run goes on.
//!
//! All of it belongs to the run's [`entry`] in the table of [`InFlight`], under that table's one lock. The table can
//! be asked by run and by task id.
//!
//! * [`in_flight`]: the table, from a delivery to its acknowledgement
//! * [`entry`]: one run's delivery and claim
//! * [`age`]: when a delivery has to be renewed; pure
//! * [`claiming`]: puts a run that is under way under a claim
//! * [`settled`]: runs whose acknowledgement may have been lost
//! * [`renewal`]: keeps deliveries from growing older than the broker allows

mod age;
mod claiming;
mod entry;
mod in_flight;
mod renewal;
mod settled;

pub(crate) use claiming::claim_marked;
pub(crate) use in_flight::{Adoption, InFlight, Standing, UnrunGuard};
pub(crate) use renewal::{DeliveryRenewer, RenewalReaders, RenewerParts};
