//! A worker of several processes: one that supervises ([`parent`]), and others that run tasks ([`child`]).

#[cfg(all(unix, feature = "supervise"))]
mod child;
#[cfg(all(unix, feature = "supervise"))]
mod parent;
#[cfg(not(all(unix, feature = "supervise")))]
mod unsupported;

#[cfg(all(unix, feature = "supervise"))]
pub(super) use child::with_child;
#[cfg(all(unix, feature = "supervise"))]
pub(super) use parent::run;
#[cfg(not(all(unix, feature = "supervise")))]
pub(super) use unsupported::{run, with_child};

/// Whether this build has a supervisor. Without one, a worker is a single process.
pub const CAN_SUPERVISE: bool = cfg!(all(unix, feature = "supervise"));
