//! Signed messages and sealed arguments: protection against those who can write to the broker, or read from it.
//!
//! A [signature](signature) says that a message was published by somebody who has a key, for the queue that it is taken
//! from, at a certain time. [Sealed](sealed) arguments can be read only with a key; they are sealed by the caller and
//! opened when the task begins.
//!
//! Both are off until there are [keys]. Without the feature `crypto` there are none.

pub(crate) mod keys;
pub(crate) mod sealed;
pub(crate) mod signature;

pub use keys::SealingKeys;
pub(crate) use keys::{SigningKey, VerifyKeys};
pub use signature::SignatureFault;
