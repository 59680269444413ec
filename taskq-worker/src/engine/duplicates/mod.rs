//! Duplicates: a delivery that may be a copy of a run is looked up before it runs. Is the run over or going on
//! elsewhere, and have processes died of it?
//!
//! * [`look_up`]: reads the claim and the losses (I/O)
//! * [`finding`]: judges what was read; pure. The execution acts on the finding.

mod finding;
mod look_up;

pub(crate) use finding::{DeliveryHints, Finding, judge};
pub(crate) use look_up::Duplicates;
