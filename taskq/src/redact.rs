//! Hiding secrets in texts for people.
//!
//! * [`url`]: the one form in which URLs are shown, in errors, logs, reports and `Debug`

mod url;

pub(crate) use url::{given, unknown_scheme, url};

/// The text in place of a secret.
pub(crate) const HIDDEN: &str = "***";
