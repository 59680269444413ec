//! Signatures of messages.
//!
//! A message has its signature in the header `taskq-signature`, as `1;ALGORITHM;KEY;TIME;BASE64`. The time is in
//! milliseconds since 1970. Signed is the SHA-256 of the [signed form](SignedForm): the queue that the message was
//! published to, everything that tells how to run it, and its body.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::keys::{Algorithm, SigningKey, VerifyKeys};
use crate::codec::celery::{self, SIGNATURE};
use crate::message::WireMessage;

/// The version of the signed form.
const VERSION: &str = "1";

/// How far the clock of a signer may be ahead, in milliseconds.
const AHEAD_MAX_MS: i64 = 300_000;

/// The reason why a message counts as unsigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// A message without a signature, where signatures are required.
    #[error("the message is not signed, and signatures are required here (`require_signatures`)")]
    Missing,
    /// A signature that is not of the form `1;ALGORITHM;KEY;TIME;BASE64`.
    #[error("the signature cannot be read: it is not of the form 1;ALGORITHM;KEY;TIME;BASE64")]
    Form,
    /// A signature by a key that is not among `verify_keys`.
    #[error("the message is signed with the key {key:?}, which is not among `verify_keys`")]
    UnknownKey {
        /// The algorithm and the id.
        key: String,
    },
    /// A signature that does not fit the message: it was altered, or published to another queue.
    #[error("the signature does not fit: the message was altered, or was published to another queue than {queue:?}")]
    Altered {
        /// The queue that the message was taken from.
        queue: String,
    },
    /// A signature from outside of its time.
    #[error(
        "the signature is of {signed_at}, outside of `signature_window`: the message may be an old one, sent again"
    )]
    Window {
        /// The time of the signature.
        signed_at: String,
    },
}

/// The verification of signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verification {
    pub(crate) keys: VerifyKeys,
    /// The time for which a signature holds, in milliseconds, from when the message was due.
    pub(crate) window_ms: i64,
    /// Whether a message without a signature is refused.
    pub(crate) is_required: bool,
}

/// Signs a message for the queue that it is about to be published to.
pub(crate) fn sign(message: &mut WireMessage, queue: &str, key: &SigningKey, now: DateTime<Utc>) {
    let name = key.algorithm().name();
    let head = format!("{VERSION};{name};{};{}", key.id(), now.timestamp_millis());
    let digest = SignedForm::digest(message, queue, &head);
    let signature = crypto::sign(key, &digest);
    message.headers.set(SIGNATURE, format!("{head};{}", BASE64_URL_SAFE_NO_PAD.encode(signature)));
}

impl Verification {
    /// Verifies that a message was signed for `queue`. `age`: also that this was not too long ago.
    pub(crate) fn verify(
        &self,
        message: &WireMessage,
        queue: &str,
        now: DateTime<Utc>,
        age: Age,
    ) -> Result<(), SignatureFault> {
        let Some(header) = message.headers.get(SIGNATURE) else {
            return if self.is_required { Err(SignatureFault::Missing) } else { Ok(()) };
        };
        let header = header.as_str().ok_or(SignatureFault::Form)?;
        let (head, signature) = header.rsplit_once(';').ok_or(SignatureFault::Form)?;
        let [VERSION, algorithm, id, signed_at] = head.split(';').collect::<Vec<_>>()[..] else {
            return Err(SignatureFault::Form);
        };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureFault::Form)?;
        let signed_at: i64 = signed_at.parse().map_err(|_| SignatureFault::Form)?;
        let unknown = || SignatureFault::UnknownKey { key: format!("{algorithm}:{id}").chars().take(80).collect() };
        let algorithm = Algorithm::parse(algorithm).ok_or_else(unknown)?;
        let key = self.keys.get(algorithm, id).ok_or_else(unknown)?;
        let digest = SignedForm::digest(message, queue, head);
        if !crypto::verify(algorithm, key, &digest, &signature) {
            return Err(SignatureFault::Altered { queue: queue.to_owned() });
        }
        if age == Age::Recent && !self.is_recent(message, signed_at, now) {
            let signed_at = DateTime::from_timestamp_millis(signed_at);
            let signed_at = signed_at.map_or_else(|| "no time".to_owned(), |time| time.to_rfc3339());
            return Err(SignatureFault::Window { signed_at });
        }
        Ok(())
    }

    fn is_recent(&self, message: &WireMessage, signed_at: i64, now: DateTime<Utc>) -> bool {
        let now = now.timestamp_millis();
        // A message that waits for its time is as old as it has been due.
        let eta = message.headers.text("eta").and_then(celery::parse_time).map(|eta| eta.timestamp_millis());
        let from = signed_at.max(eta.unwrap_or(signed_at));
        signed_at <= now.saturating_add(AHEAD_MAX_MS) && now.saturating_sub(from) <= self.window_ms
    }
}

/// The check of a signature's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Within the window.
    Recent,
    /// Any age: a person has chosen the message.
    Any,
}

/// The bytes that a signature covers: parts, each after its length in bytes as a decimal number and a colon.
///
/// In this order: the head of the signature, the queue, the content type, the content encoding, the correlation id, the
/// reply address, the priority, the headers by name, and the body. A header is its name and its value, in which maps
/// are sorted by key and numbers are either integers of 64 bits or the bits of a float, since brokers change the rest.
/// Headers without a value are left out, and so are the signature itself and the mark of a message that was sent again
/// after its connection was lost.
struct SignedForm(Vec<u8>);

impl SignedForm {
    fn digest(message: &WireMessage, queue: &str, head: &str) -> [u8; 32] {
        let properties = &message.properties;
        let mut form = Self(Vec::with_capacity(512));
        form.part(head.as_bytes());
        form.part(queue.as_bytes());
        form.part(properties.content_type.as_deref().unwrap_or_default().as_bytes());
        form.part(properties.content_encoding.as_deref().unwrap_or_default().as_bytes());
        form.part(properties.correlation_id.as_deref().unwrap_or_default().as_bytes());
        form.part(properties.reply_to.as_deref().unwrap_or_default().as_bytes());
        form.part(properties.priority.map(|priority| priority.to_string()).unwrap_or_default().as_bytes());
        let mut headers: Vec<_> = message
            .headers
            .iter()
            .filter(|(name, value)| !value.is_null() && ![SIGNATURE, celery::RESENT].contains(name))
            .collect();
        headers.sort_unstable_by_key(|(name, _)| *name);
        form.count(headers.len());
        for (name, value) in headers {
            form.part(name.as_bytes());
            form.value(value);
        }
        crypto::digest(&form.0, &message.body)
    }

    fn count(&mut self, count: usize) {
        let mut text = String::new();
        write!(text, "{count}:").expect("a text takes everything");
        self.0.extend_from_slice(text.as_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.push(b'n'),
            Value::Bool(flag) => self.0.push(if *flag { b't' } else { b'f' }),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => {
                    self.0.push(b'i');
                    self.part(integer.to_string().as_bytes());
                }
                (None, float) => {
                    self.0.push(b'd');
                    self.part(&float.unwrap_or_default().to_bits().to_be_bytes());
                }
            },
            Value::String(text) => {
                self.0.push(b's');
                self.part(text.as_bytes());
            }
            Value::Array(items) => {
                self.0.push(b'l');
                self.count(items.len());
                for item in items {
                    self.value(item);
                }
            }
            Value::Object(map) => {
                self.0.push(b'm');
                self.count(map.len());
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(name, _)| *name);
                for (name, value) in entries {
                    self.part(name.as_bytes());
                    self.value(value);
                }
            }
        }
    }
}

/// Returns the public half of an Ed25519 key.
#[cfg(feature = "crypto")]
pub(super) fn public_half(private: &[u8]) -> Vec<u8> {
    crypto::ed25519(private).verifying_key().to_bytes().to_vec()
}

#[cfg(feature = "crypto")]
mod crypto {
    use ed25519_dalek::{Signature, Signer, VerifyingKey};
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};

    use super::{Algorithm, SigningKey};

    pub(super) fn digest(form: &[u8], body: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(form).chain_update(body).finalize().into()
    }

    pub(super) fn ed25519(private: &[u8]) -> ed25519_dalek::SigningKey {
        let private: &[u8; 32] = private.try_into().expect("the size was checked when the key was read");
        ed25519_dalek::SigningKey::from_bytes(private)
    }

    fn hmac(key: &[u8], digest: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any size");
        mac.update(digest);
        mac
    }

    pub(super) fn sign(key: &SigningKey, digest: &[u8]) -> Vec<u8> {
        match key.algorithm() {
            Algorithm::HmacSha256 => hmac(key.bytes(), digest).finalize().into_bytes().to_vec(),
            Algorithm::Ed25519 => ed25519(key.bytes()).sign(digest).to_bytes().to_vec(),
        }
    }

    pub(super) fn verify(algorithm: Algorithm, key: &[u8], digest: &[u8], signature: &[u8]) -> bool {
        match algorithm {
            Algorithm::HmacSha256 => hmac(key, digest).verify_slice(signature).is_ok(),
            Algorithm::Ed25519 => {
                let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
                let signature = Signature::from_slice(signature).ok();
                key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(digest, &signature).is_ok())
            }
        }
    }
}

/// Without the feature there are no keys, so nothing is ever signed or verified.
#[cfg(not(feature = "crypto"))]
mod crypto {
    use super::{Algorithm, SigningKey};

    pub(super) fn digest(_form: &[u8], _body: &[u8]) -> [u8; 32] {
        [0; 32]
    }

    pub(super) fn sign(_key: &SigningKey, _digest: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    pub(super) fn verify(_algorithm: Algorithm, _key: &[u8], _digest: &[u8], _signature: &[u8]) -> bool {
        false
    }
}

#[cfg(all(test, feature = "crypto"))]
mod tests;
