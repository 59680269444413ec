//! The settings as people read them.

use super::keys::KEYS;
use super::{Origin, Settings};

/// A setting as [`Settings::report`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettingReport {
    /// The key in `taskq.toml`.
    pub key: &'static str,
    /// The value as text, without passwords.
    pub value: String,
    /// The place that the value came from.
    pub origin: Origin,
}

impl Settings {
    /// Reports every single value as text, with the place that it came from; passwords are left out.
    pub fn report(&self) -> Vec<SettingReport> {
        let report = |key: &super::keys::SettingKey| SettingReport {
            key: key.name,
            value: (key.show)(self),
            origin: self.origins.get(key.name).cloned().unwrap_or(Origin::Default),
        };
        KEYS.iter().map(report).collect()
    }
}
