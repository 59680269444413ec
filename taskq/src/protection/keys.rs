//! Keys, as settings give them.
//!
//! A key is written `ALGORITHM:ID:BASE64`, a sealing key `ID:BASE64`. The id is sent along, so that keys can be
//! replaced one after the other: the receivers learn the new key first, then the senders use it, then the old one is
//! dropped.

use std::fmt;

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The size of every key in bytes; for HMAC the least size.
pub(crate) const KEY_BYTES: usize = 32;

/// The longest id of a key, in bytes.
const ID_BYTES_MAX: usize = 32;

/// Both alphabets are in use, and padding is forgotten easily.
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The algorithm of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// HMAC with SHA-256 (RFC 2104): one secret for those who sign and those who verify.
    HmacSha256,
    /// Ed25519 (RFC 8032): those who verify cannot sign.
    Ed25519,
}

/// A key with its id. Its bytes are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
struct NamedKey {
    id: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.id)
    }
}

/// The key that messages are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SigningKey {
    algorithm: Algorithm,
    key: NamedKey,
}

/// The keys by which signatures are verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VerifyKeys(Vec<(Algorithm, NamedKey)>);

/// The keys of sealed arguments: the first one seals, all of them open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealingKeys(Vec<NamedKey>);

impl Algorithm {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::HmacSha256, Self::Ed25519].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl NamedKey {
    /// Reads `ID:BASE64`.
    fn parse(text: &str) -> Option<Self> {
        let (id, encoded) = text.split_once(':')?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let id_fits = (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_plain);
        let bytes = STANDARD.decode(encoded).or_else(|_| URL_SAFE.decode(encoded)).ok()?;
        id_fits.then(|| Self { id: id.to_owned(), bytes })
    }

    /// Reads `ALGORITHM:ID:BASE64`.
    fn parse_for(text: &str) -> Option<(Algorithm, Self)> {
        let (algorithm, key) = text.split_once(':')?;
        let (algorithm, key) = (Algorithm::parse(algorithm)?, Self::parse(key)?);
        let size_fits = match algorithm {
            Algorithm::HmacSha256 => key.bytes.len() >= KEY_BYTES,
            Algorithm::Ed25519 => key.bytes.len() == KEY_BYTES,
        };
        size_fits.then_some((algorithm, key))
    }
}

/// Reads the items of a list that is separated by commas, which must have different ids.
fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>, key: impl Fn(&T) -> &NamedKey) -> Option<Vec<T>> {
    let items: Vec<T> = text.split(',').map(|item| read(item.trim())).collect::<Option<_>>()?;
    let is_single = |item: &T| items.iter().filter(|other| key(other).id == key(item).id).count() == 1;
    items.iter().all(is_single).then_some(items)
}

impl SigningKey {
    /// Reads `ALGORITHM:ID:BASE64`; of Ed25519 the private key.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (algorithm, key) = NamedKey::parse_for(text)?;
        Some(Self { algorithm, key })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn id(&self) -> &str {
        &self.key.id
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.key.bytes
    }

    /// Returns the key by which this one's signatures are verified.
    #[cfg(feature = "crypto")]
    pub(crate) fn verify_key(&self) -> VerifyKeys {
        let bytes = match self.algorithm {
            Algorithm::HmacSha256 => self.key.bytes.clone(),
            Algorithm::Ed25519 => super::signature::public_half(&self.key.bytes),
        };
        VerifyKeys(vec![(self.algorithm, NamedKey { id: self.key.id.clone(), bytes })])
    }

    /// Returns the key for people.
    pub(crate) fn show(&self) -> String {
        format!("{}:{:?}", self.algorithm.name(), self.key)
    }
}

impl VerifyKeys {
    /// Reads `ALGORITHM:ID:BASE64,…`; of Ed25519 the public keys.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        list(text, NamedKey::parse_for, |(_, key)| key).map(Self)
    }

    /// Returns whether signatures by `key` can be verified.
    #[cfg(feature = "crypto")]
    pub(crate) fn knows(&self, key: &SigningKey) -> bool {
        key.verify_key().0.iter().all(|key| self.0.contains(key))
    }

    /// Returns whether signatures by `key` can be verified: none without the feature `crypto`.
    #[cfg(not(feature = "crypto"))]
    pub(crate) fn knows(&self, _key: &SigningKey) -> bool {
        false
    }

    /// Returns the bytes of the key with this algorithm and id.
    pub(crate) fn get(&self, algorithm: Algorithm, id: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(kind, key)| *kind == algorithm && key.id == id);
        found.map(|(_, key)| key.bytes.as_slice())
    }

    pub(crate) fn show(&self) -> String {
        let shown = self.0.iter().map(|(algorithm, key)| format!("{}:{key:?}", algorithm.name()));
        shown.collect::<Vec<_>>().join(",")
    }
}

impl SealingKeys {
    /// Reads `ID:BASE64,…`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let read = |item: &str| NamedKey::parse(item).filter(|key| key.bytes.len() == KEY_BYTES);
        list(text, read, |key| key).map(Self)
    }

    /// Returns the id and the bytes of the key that seals.
    pub(crate) fn first(&self) -> Option<(&str, &[u8])> {
        self.0.first().map(|key| (key.id.as_str(), key.bytes.as_slice()))
    }

    /// Returns the bytes of the key with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&[u8]> {
        self.0.iter().find(|key| key.id == id).map(|key| key.bytes.as_slice())
    }

    pub(crate) fn show(&self) -> String {
        self.0.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_never_shown() {
        let long = "A".repeat(43);
        for (text, is_key) in [
            (format!("hmac-sha256:2026-11:{long}"), true),
            (format!("hmac-sha256:a:{long}="), true),
            (format!("hmac-sha256:a:{}", "_-".repeat(40)), true),
            (format!("ed25519:web.1:{long}"), true),
            (format!("ed25519:a:{}", "A".repeat(80)), false),
            (format!("hmac-sha256:a:{}", "A".repeat(20)), false),
            (format!("hmac-sha256::{long}"), false),
            (format!("hmac-sha256:two words:{long}"), false),
            (format!("hmac-sha256:{}:{long}", "i".repeat(33)), false),
            (format!("md5:a:{long}"), false),
            (format!("hmac-sha256:a:{long}!"), false),
            (long.clone(), false),
            (String::new(), false),
        ] {
            let key = SigningKey::parse(&text);
            assert_eq!(key.is_some(), is_key, "{text}");
            assert_eq!(VerifyKeys::parse(&text).is_some(), is_key, "{text}");
            if let Some(key) = key {
                assert!(!format!("{key:?} {}", key.show()).contains("AAAA"), "{key:?}");
            }
        }
    }

    #[test]
    fn lists_have_different_ids() {
        let key = "A".repeat(43);
        for (text, count) in [
            (format!("a:{key}"), Some(1)),
            (format!("a:{key}, b:{key}"), Some(2)),
            (format!("a:{key},a:{key}"), None),
            (format!("a:{key},"), None),
        ] {
            assert_eq!(SealingKeys::parse(&text).map(|keys| keys.0.len()), count, "{text}");
        }
        let keys = VerifyKeys::parse(&format!("ed25519:a:{key},hmac-sha256:b:{key}")).expect("they are keys");
        assert!(keys.get(Algorithm::Ed25519, "a").is_some() && keys.get(Algorithm::HmacSha256, "a").is_none());
        assert_eq!(keys.show(), "ed25519:a:***,hmac-sha256:b:***");
    }
}
