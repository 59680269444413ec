//! A worker in several processes: one that supervises ([`parent`]), and those that run tasks ([`child`]).

#[cfg(unix)]
mod child;
#[cfg(not(unix))]
mod nowhere;
#[cfg(unix)]
mod parent;

#[cfg(unix)]
pub(super) use child::Child;
#[cfg(not(unix))]
pub(super) use nowhere::{Child, run};
#[cfg(unix)]
pub(super) use parent::run;

/// Whether this system has what a supervisor needs. Where it has not, a worker is one process.
pub(super) const IS_POSSIBLE: bool = cfg!(unix);
