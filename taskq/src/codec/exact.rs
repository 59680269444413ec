//! Decoding values as types, without rounding integers on the way.
//!
//! `serde_json` decodes an integer of more than 64 bits exactly as an `i128` or a `u128`, and as a float where the type
//! itself leaves open what it takes, as `serde_json::Value` does. Here it is an error there, by name.
//!
//! Errors do not repeat the value: see [`Mismatch`].

mod mismatch;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Error;

use self::mismatch::Mismatch;
use super::tree::{Tree, Word, decoded, is_integer};
use crate::definition::kind::BIG_INTEGER;

/// The number of digits that an integer of more than 64 bits has at least.
const BIG_DIGITS_MIN: usize = 19;

/// The name under which `serde_json` asks for a value as it is written.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Decodes JSON as a `T`. Fails at an integer that `T` would take as another number.
pub fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    if may_hold_big_integer(json.as_bytes()) {
        match Tree::parse(json) {
            Ok(tree) if holds_big_integer(&tree) => return T::deserialize(&tree).map_err(Error::custom),
            // A large integer in it might be rounded.
            Err(error) if error.is_too_large() => return Err(Error::custom(error)),
            Ok(_) | Err(_) => {}
        }
    }
    serde_json::from_str(json).map_err(|error| without_value::<T>(json, error))
}

/// Returns the error of `serde_json` in words that do not repeat the value.
fn without_value<T: DeserializeOwned>(json: &str, error: Error) -> Error {
    let mismatch = match Tree::parse(json).map(|tree| T::deserialize(&tree)) {
        // `serde_json` calls some values of another kind errors of the syntax.
        Ok(Err(mismatch)) => mismatch,
        Ok(Ok(_)) | Err(_) if !error.is_data() => return error,
        // What `serde_json` refused is not taken elsewhere; if it is, nothing can be said of the reason.
        Ok(Ok(_)) | Err(_) => Mismatch::custom(&error),
    };
    Error::custom(format_args!("{mismatch} at line {} column {}", error.line(), error.column()))
}

/// Returns an error of `serde_json` for types of this crate, which cannot be decoded from a tree, in words that do not
/// repeat the value.
pub(super) fn place_of(error: &Error) -> String {
    let text = error.to_string();
    let is_harmless = ["missing field `", "invalid length "].iter().any(|start| text.starts_with(start));
    if is_harmless || !error.is_data() {
        return text;
    }
    format!("a value of another kind at line {} column {}", error.line(), error.column())
}

/// Returns whether there are that many digits in a row. Of each such row, one is at a multiple of their number.
fn may_hold_big_integer(json: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit);
    (0..json.len()).step_by(BIG_DIGITS_MIN).filter(|at| json[*at].is_ascii_digit()).any(|at| {
        let after = json[at..].iter().take(BIG_DIGITS_MIN).take_while(|byte| byte.is_ascii_digit()).count();
        // The first of the row is looked at first: mostly it is not there.
        at.checked_sub(BIG_DIGITS_MIN - after).is_some_and(|first| digits(&json[first..at]))
    })
}

fn holds_big_integer(tree: &Tree<'_>) -> bool {
    match tree {
        Tree::Word(word) => is_big_integer(word),
        Tree::Text(_) | Tree::Bytes(_) => false,
        Tree::List(items) => items.iter().any(holds_big_integer),
        Tree::Map(entries) => entries.iter().any(|(_, value)| holds_big_integer(value)),
    }
}

fn is_big_integer(word: &str) -> bool {
    word.len() >= BIG_DIGITS_MIN && is_integer(word) && word.parse::<u64>().is_err() && word.parse::<i64>().is_err()
}

impl Tree<'_> {
    /// Returns the kind of the value, for errors.
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Word(word) => match Word::of(word) {
                Some(Word::Bool(value)) => Unexpected::Bool(value),
                Some(Word::Null) => Unexpected::Unit,
                Some(Word::Natural(number)) => Unexpected::Unsigned(number),
                Some(Word::Negative(number)) => Unexpected::Signed(number),
                Some(Word::Float(number)) => Unexpected::Float(number),
                None => Unexpected::Other(BIG_INTEGER),
            },
            Self::Text(_) => Unexpected::Str(""),
            Self::Bytes(_) | Self::List(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        }
    }
}

impl IntoDeserializer<'_, Mismatch> for &Tree<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &Tree<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) if is_big_integer(word) => Err(Mismatch::invalid_value(
                Unexpected::Other(BIG_INTEGER),
                &"a smaller one; take an i128, a u128 or a text",
            )),
            Tree::Word(word) => word_of(word, visitor),
            Tree::Text(text) => visitor.visit_string(decoded(text)),
            Tree::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            Tree::List(items) => {
                let mut items = SeqDeserializer::<_, Mismatch>::new(items.iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Tree::Map(entries) => {
                let mut entries =
                    MapDeserializer::<_, Mismatch>::new(entries.iter().map(|(key, value)| (Key(decoded(key)), value)));
                let value = visitor.visit_map(&mut entries)?;
                entries.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) => match word.parse() {
                Ok(number) => visitor.visit_i128(number),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) => match word.parse() {
                Ok(number) => visitor.visit_u128(number),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// A float takes integers of any size, as the nearest float.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) if is_big_integer(word) => match word.parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) => match serde_json::from_str::<f32>(word) {
                Ok(number) => visitor.visit_f32(number),
                Err(_) => self.deserialize_any(visitor),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Word(word) if word == "null" => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        if name == RAW_VALUE {
            // A reader lends nothing, so the value need not live as long as the text.
            return serde_json::Deserializer::from_reader(self.to_json().as_bytes())
                .deserialize_newtype_struct(name, visitor)
                .map_err(Mismatch::custom);
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Tree::Text(text) => visitor.visit_enum(StringDeserializer::new(decoded(text))),
            Tree::Map(entries) if entries.len() == 1 => {
                let entries = entries.iter().map(|(key, value)| (Key(decoded(key)), value));
                MapAccessDeserializer::new(MapDeserializer::<_, Mismatch>::new(entries))
                    .deserialize_enum(name, variants, visitor)
            }
            _ => Err(Mismatch::invalid_type(self.unexpected(), &"an enum: a text, or a map with one key")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct identifier
    }
}

/// Visits `null`, `true`, `false` or a number that is no big integer.
fn word_of<'de, V: Visitor<'de>>(word: &str, visitor: V) -> Result<V::Value, Mismatch> {
    match Word::of(word) {
        Some(Word::Null) => visitor.visit_unit(),
        Some(Word::Bool(value)) => visitor.visit_bool(value),
        Some(Word::Natural(number)) => visitor.visit_u64(number),
        Some(Word::Negative(number)) => visitor.visit_i64(number),
        Some(Word::Float(number)) => visitor.visit_f64(number),
        None => Err(Mismatch::invalid_value(Unexpected::Float(f64::INFINITY), &"a number in the range of floats")),
    }
}

/// The key of a map: a text, in which types other than texts are written as in JSON.
struct Key(String);

impl IntoDeserializer<'_, Mismatch> for Key {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Keys that are read from the text: numbers and truth values.
macro_rules! written_keys {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            match Tree::parse(&self.0) {
                Ok(tree @ Tree::Word(_)) => (&tree).$method(visitor),
                Ok(_) | Err(_) => visitor.visit_string(self.0),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Key {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_enum(StringDeserializer::new(self.0))
    }

    written_keys! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
