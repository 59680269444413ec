//! The header table of a message.

use std::borrow::Cow;

/// A header's value. Integers, floats, text, null, lists and tables map one to one onto AMQP's types.
pub type HeaderValue = serde_json::Value;

/// An ordered table of headers with few entries; each key occurs once.
///
/// Lookups scan: a message has about ten headers, and a scan of ten short keys beats any hash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Headers(Vec<(Cow<'static, str>, HeaderValue)>);

impl Headers {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty table with room for `entries`.
    pub fn with_capacity(entries: usize) -> Self {
        Self(Vec::with_capacity(entries))
    }

    /// Returns the value under `key`; `None` if the key is absent. An explicit null is `Some(Null)`.
    pub fn get(&self, key: &str) -> Option<&HeaderValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Returns the text under `key`; `None` if the key is absent or its value is no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Returns whether the table has the key `key`, with any value.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets `key` to `value` and returns the previous value, if there was one.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) -> Option<HeaderValue> {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((key, value));
                None
            }
        }
    }

    /// Appends without looking for an earlier entry with that key. For builders that use each key once.
    pub(crate) fn push(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<HeaderValue>) {
        self.0.push((key.into(), value.into()));
    }

    /// Removes the entry under `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<HeaderValue> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the entries for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Returns the entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Headers {
    type Item = (Cow<'static, str>, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<Cow<'static, str>>, V: Into<HeaderValue>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut headers = Self::new();
        for (key, value) in entries {
            headers.set(key, value);
        }
        headers
    }
}
