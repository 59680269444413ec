//! Hiding secrets in texts for people.
//!
//! * [`url`]: the one form in which URLs are shown, in errors, logs, reports and `Debug`
//! * [`Secret`]: arguments and results that are shown nowhere

use std::fmt;

mod secret;
mod url;

pub use secret::Secret;
pub use url::given;
#[cfg(feature = "amqp")]
pub(crate) use url::list;
pub(crate) use url::{several, unknown_scheme, url};

/// The text in place of a secret.
pub(crate) const HIDDEN: &str = "***";

/// The size of a value, in place of the value in `Debug`: arguments and results may be secret.
pub(crate) struct Size(pub(crate) usize);

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0)
    }
}
