//! Settling: record, then what follows, then the acknowledgement. In this order: a crash between two steps repeats a
//! step and skips none.
//!
//! * [`end`]: what an end consists of, and the constructors of ends; pure
//! * [`settler`]: settles ends in batches
//! * [`follow_up`]: publishes what follows from an end, or gives its task up
//! * [`retrying`]: steps that must not be skipped

mod end;
mod follow_up;
mod retrying;
mod settler;

pub(crate) use end::{End, Ends, Follow, Settles};
pub(crate) use retrying::{unless_unusable, until_done};
pub(crate) use settler::{Settler, SettlerHandle, WAITING_MAX};
