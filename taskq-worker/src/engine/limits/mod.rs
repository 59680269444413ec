//! Limits on what is run though nothing is wrong with it: revocations.

mod revocations;

pub(crate) use revocations::{Revocations, load as load_revocations};
