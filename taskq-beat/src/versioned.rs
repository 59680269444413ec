//! Values in Kv as JSON, each with the version of its format in the field `v`, as everything that taskq stores in Kv.
//!
//! Programs of different versions share a store while they are rolled out. A value of a newer version is never
//! interpreted and never overwritten: reading it is an error that names the key and the remedy.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use taskq::backend::BackendError;
use taskq::backend::kv::first_version;

/// The newest version of the formats that this program reads, and the one that it writes.
const VERSION: u32 = 1;

/// A value with its version, as it is written.
#[derive(Serialize)]
struct Tagged<'a, T> {
    v: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// The version of a value, without the rest.
#[derive(Deserialize)]
struct VersionTag {
    #[serde(default = "first_version")]
    v: u32,
}

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnreadableValue {
    /// A newer program wrote the value.
    #[error("it has version {version}, and this program reads versions up to {VERSION}; update this program")]
    Newer {
        /// The version of the value.
        version: u32,
    },
    /// The bytes are not a value of the expected kind.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
}

impl UnreadableValue {
    /// Returns the error for the value under `key`.
    pub(crate) fn at(self, key: &str) -> BackendError {
        BackendError::Nonsense { what: format!("the value of {key:?}"), source: self.into() }
    }
}

/// Returns a value, which has to be a struct, as the bytes to store.
pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(&Tagged { v: VERSION, value }).expect("values are plain structs with text keys").into()
}

/// Parses stored bytes.
pub(crate) fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, UnreadableValue> {
    let VersionTag { v } = serde_json::from_slice(value)?;
    if v > VERSION {
        return Err(UnreadableValue::Newer { version: v });
    }
    Ok(serde_json::from_slice(value)?)
}

#[cfg(test)]
mod tests {
    use taskq::internal::fault::full_message;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Fact {
        count: u64,
    }

    #[test]
    fn a_value_carries_its_version_and_one_without_has_the_first() {
        let value = encode(&Fact { count: 7 });
        assert_eq!(value, r#"{"v":1,"count":7}"#);
        for text in [&value[..], br#"{"count":7}"#] {
            assert_eq!(decode::<Fact>(text).expect("it can be read"), Fact { count: 7 });
        }
    }

    #[test]
    fn a_newer_version_is_an_error_with_key_and_remedy() {
        let error = decode::<Fact>(br#"{"v":2,"total":7}"#).expect_err("it is newer");
        assert!(matches!(error, UnreadableValue::Newer { version: 2 }));
        assert_eq!(
            full_message(&error.at("beat/known")),
            "the value of \"beat/known\" cannot be read: it has version 2, and this program reads versions up to 1; \
             update this program"
        );
        for text in ["{}", "[]", "7", r#"{"v":"x"}"#] {
            let error = decode::<Fact>(text.as_bytes()).expect_err(text);
            assert!(matches!(error, UnreadableValue::Malformed(_)), "{text}: {error}");
        }
    }
}
