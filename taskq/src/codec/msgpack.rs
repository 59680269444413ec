//! `MessagePack` ↔ [`Tree`], without a detour through a form that loses something.
//!
//! `MessagePack` has bytes, and integers of 64 bits at most. Its timestamps become texts, as all times do here; keys
//! that are no texts become the texts that Python's JSON encoder makes of them.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, SecondsFormat};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use super::tree::{DEPTH_MAX, TOO_MANY_VALUES, Tree, VALUES_MAX, Word, decoded};

/// The type of a timestamp among the extension types.
const TIMESTAMP: i8 = -1;

/// Returns whether `document` may be a map in `MessagePack`. JSON, a pickle and YAML do not begin like that.
pub(super) fn is_map(document: &[u8]) -> bool {
    matches!(document.first(), Some(0x81..=0x8f | 0xde | 0xdf))
}

/// Reads one value.
pub(super) fn decode(bytes: &[u8]) -> Result<Tree<'static>, rmp_serde::decode::Error> {
    // A value has a byte at least.
    if bytes.len() > VALUES_MAX && values(bytes)? > VALUES_MAX {
        return Err(rmp_serde::decode::Error::custom(TOO_MANY_VALUES));
    }
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let Unpacked(tree) = Unpacked::deserialize(&mut deserializer)?;
    if rest.is_empty() { Ok(tree) } else { Err(rmp_serde::decode::Error::custom("there is more than one value")) }
}

/// Writes a value. Fails if it [does not fit](unfit).
pub(super) fn encode(tree: &Tree<'_>) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec(&Packed(tree))
}

/// Returns the first number in the value that `MessagePack` cannot hold.
pub(super) fn unfit<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    match tree {
        Tree::Word(word) => Word::of(word).is_none().then_some(&**word),
        Tree::Text(_) | Tree::Bytes(_) => None,
        Tree::List(items) => items.iter().find_map(unfit),
        Tree::Map(entries) => entries.iter().find_map(|(_, value)| unfit(value)),
    }
}

/// Counts the values in a document, without keeping any.
fn values(bytes: &[u8]) -> Result<usize, rmp_serde::decode::Error> {
    struct Counted(usize);

    struct Count;

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Count).map(Self)
        }
    }

    impl<'de> Visitor<'de> for Count {
        type Value = usize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a value")
        }

        fn visit_unit<E>(self) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_bool<E>(self, _: bool) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_i64<E>(self, _: i64) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_u64<E>(self, _: u64) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_f64<E>(self, _: f64) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_str<E>(self, _: &str) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_bytes<E>(self, _: &[u8]) -> Result<usize, E> {
            Ok(1)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<usize, A::Error> {
            let mut count = 1;
            while let Some(Counted(item)) = list.next_element()? {
                count += item;
            }
            Ok(count)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
            let mut count = 1;
            while let Some((Counted(key), Counted(value))) = map.next_entry()? {
                count += key + value;
            }
            Ok(count)
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<usize, D::Error> {
            <(i8, serde::de::IgnoredAny)>::deserialize(extension).map(|_| 1)
        }
    }

    let mut deserializer = rmp_serde::Deserializer::new(bytes);
    deserializer.set_max_depth(DEPTH_MAX);
    Counted::deserialize(&mut deserializer).map(|Counted(count)| count)
}

/// A value to be written.
struct Packed<'t, 'a>(&'t Tree<'a>);

impl Serialize for Packed<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Tree::Word(word) => match Word::of(word) {
                Some(Word::Null) => serializer.serialize_unit(),
                Some(Word::Bool(value)) => serializer.serialize_bool(value),
                Some(Word::Natural(number)) => serializer.serialize_u64(number),
                Some(Word::Negative(number)) => serializer.serialize_i64(number),
                Some(Word::Float(number)) => serializer.serialize_f64(number),
                None => Err(S::Error::custom(format_args!("MessagePack has no form for the number {word}"))),
            },
            Tree::Text(text) => serializer.serialize_str(&decoded(text)),
            Tree::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Tree::List(items) => serializer.collect_seq(items.iter().map(Packed)),
            Tree::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, item)| (decoded(key), Packed(item))))
            }
        }
    }
}

/// A value that was read.
struct Unpacked(Tree<'static>);

impl<'de> Deserialize<'de> for Unpacked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Unpack).map(Self)
    }
}

struct Unpack;

impl<'de> Visitor<'de> for Unpack {
    type Value = Tree<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(word("null"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(word(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(word(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(word(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => word(number.to_string()),
            None if value.is_nan() => word("NaN"),
            None if value > 0.0 => word("Infinity"),
            None => word("-Infinity"),
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Tree::Text(Cow::Owned(quoted(text))))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Tree::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Unpacked(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((Unpacked(key), Unpacked(value))) = map.next_entry()? {
            let key = match key {
                Tree::Text(text) => text,
                Tree::Word(word) => Cow::Owned(quoted(&word)),
                Tree::Bytes(_) | Tree::List(_) | Tree::Map(_) => {
                    return Err(A::Error::custom(
                        "a key of a map is neither a text nor a number; send a text in its place",
                    ));
                }
            };
            entries.push((key, value));
        }
        Ok(Tree::Map(entries))
    }

    /// Reads a value of an extension type, which comes as its type and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<Self::Value, D::Error> {
        match <(i8, ExtensionBytes)>::deserialize(extension)? {
            (TIMESTAMP, ExtensionBytes(bytes)) => {
                let time = timestamp(&bytes).ok_or_else(|| D::Error::custom("a timestamp is out of range"))?;
                Ok(Tree::Text(Cow::Owned(quoted(&time))))
            }
            (kind, ExtensionBytes(bytes)) => Err(D::Error::custom(format_args!(
                "a value is of MessagePack's extension type {kind} ({}), which is known to its sender alone; send a text or bytes in its place",
                BASE64_STANDARD.encode(bytes)
            ))),
        }
    }
}

/// The bytes of an extension type.
struct ExtensionBytes(Vec<u8>);

impl<'de> Deserialize<'de> for ExtensionBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = ExtensionBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(ExtensionBytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

fn word(word: impl Into<Cow<'static, str>>) -> Tree<'static> {
    Tree::Word(word.into())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Returns a timestamp, in any of its three lengths, as text.
fn timestamp(bytes: &[u8]) -> Option<String> {
    let (seconds, nanos) = match bytes.len() {
        4 => (u32::from_be_bytes(bytes.try_into().ok()?).into(), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
        }
        12 => {
            let (nanos, seconds) = bytes.split_at(4);
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(nanos.try_into().ok()?))
        }
        _ => return None,
    };
    DateTime::from_timestamp(seconds, nanos).map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        decode(bytes).map(|tree| tree.to_json()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_json_lacks_is_read_all_the_same() {
        for (bytes, json) in [
            // b"\xff\x00", a float of 32 bits, and keys of Python's that are no texts.
            (&b"\xc4\x02\xff\x00"[..], "[255,0]"),
            (b"\xca\x3d\xcc\xcc\xcd", "0.10000000149011612"),
            (b"\x83\x01\xa1a\xc0\xa1b\xc3\xa1c", r#"{"1":"a","null":"b","true":"c"}"#),
            (b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", "null"),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
            (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
            // Timestamps of 32, 64 and 96 bits.
            (b"\xd6\xff\x00\x00\x00\x01", r#""1970-01-01T00:00:01+00:00""#),
            (b"\xd7\xff\x77\x35\x94\x00\x00\x00\x00\x01", r#""1970-01-01T00:00:01.500+00:00""#),
            (
                b"\xc7\x0c\xff\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff",
                r#""1969-12-31T23:59:59.000000001+00:00""#,
            ),
        ] {
            assert_eq!(read(bytes).as_deref(), Ok(json), "{bytes:02x?}");
        }
        assert_eq!(
            decode(b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00").expect("a float").loss().expect("none").what,
            "-Infinity"
        );
    }

    #[test]
    fn what_has_no_meaning_here_is_refused_by_name() {
        for (bytes, reason) in [
            (&b"\xd4\x05\x00"[..], "extension type 5"),
            (b"\xc7\x05\xff\x00\x00\x00\x00\x00", "out of range"),
            (b"\x81\x90\x01", "key of a map"),
            (b"\x01\x01", "more than one value"),
            (&[0x91; 200], "depth"),
            (b"\x92\x01", ""),
            (b"", ""),
        ] {
            let error = read(bytes).expect_err("it has no meaning");
            assert!(error.contains(reason), "{bytes:02x?}: {error}");
        }
    }

    #[test]
    fn numbers_of_more_than_64_bits_do_not_fit() {
        let tree = |json: &'static str| Tree::parse(json).expect("it is JSON");
        for (json, number) in [
            ("[1, {\"a\": 18446744073709551616}]", Some("18446744073709551616")),
            ("-9223372036854775809", Some("-9223372036854775809")),
            ("1e999", Some("1e999")),
            ("[18446744073709551615, -9223372036854775808, 1e300, -0, null, true]", None),
        ] {
            assert_eq!(unfit(&tree(json)), number, "{json}");
            assert_eq!(encode(&tree(json)).is_err(), number.is_some(), "{json}");
        }
        assert_eq!(encode(&Tree::Bytes(vec![1, 255])).expect("bytes fit"), b"\xc4\x02\x01\xff");
    }

    proptest! {
        #[test]
        fn values_round_trip(text in ".*", integer in any::<i64>(), natural in any::<u64>(), float in any::<f64>().prop_filter("finite", |float| float.is_finite())) {
            let value = serde_json::json!([text, { text.clone(): [integer, natural] }, float, null_or(integer)]);
            let json = value.to_string();
            let packed = encode(&Tree::parse(&json).expect("it is JSON")).expect("it fits");
            prop_assert_eq!(read(&packed), Ok(json));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes);
        }
    }

    fn null_or(number: i64) -> Value {
        if number % 2 == 0 { Value::Null } else { Value::Bool(number > 0) }
    }
}
