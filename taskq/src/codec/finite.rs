//! Writing values as JSON, without floats that are no numbers.
//!
//! `serde_json` writes `null` for `NaN` and the infinities, so a value that has one in it would come back as another
//! one, or not at all. A value whose JSON has a null in it is therefore looked through once more; others, which is most
//! of them, cost nothing.

use std::fmt;
use std::io;

use serde::ser::{self, Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::message::Json;

/// Appends `value` to `buffer` as JSON. Fails if there is a float in it that is no number.
pub fn write<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let mut wrote_null = false;
    value.serialize(&mut serde_json::Serializer::with_formatter(buffer, NullWatch(&mut wrote_null)))?;
    if wrote_null { check(value) } else { Ok(()) }
}

/// Returns `value` as JSON. Fails if there is a float in it that is no number.
pub fn to_json<T: Serialize>(value: &T) -> Result<Json, serde_json::Error> {
    let json = serde_json::value::to_raw_value(value)?;
    if json.get().contains("null") {
        check(value)?;
    }
    Ok(json)
}

fn check<T: Serialize>(value: &T) -> Result<(), serde_json::Error> {
    value.serialize(FiniteCheck).map_err(ser::Error::custom)
}

/// Notes that a null was written.
struct NullWatch<'a>(&'a mut bool);

impl Formatter for NullWatch<'_> {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.0 = true;
        writer.write_all(b"null")
    }
}

/// A float that is no number.
#[derive(Debug)]
struct NotFinite(String);

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFinite {}

impl ser::Error for NotFinite {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

/// A serializer that writes nothing, and fails at a float that is no number.
struct FiniteCheck;

/// Everything but floats, and what floats can be in.
macro_rules! pass {
    ($($method:ident($type:ty)),+ $(,)?) => {
        $(fn $method(self, _: $type) -> Result<(), NotFinite> { Ok(()) })+
    };
}

impl Serializer for FiniteCheck {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    pass! {
        serialize_bool(bool), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_u128(u128),
        serialize_unit_struct(&'static str),
    }

    fn serialize_f32(self, value: f32) -> Result<(), NotFinite> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), NotFinite> {
        if value.is_finite() {
            return Ok(());
        }
        Err(NotFinite(format!(
            "there is the float {value} in it, for which JSON has no form; use an `Option` or a text"
        )))
    }

    fn serialize_none(self) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), NotFinite> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn collect_str<T: ?Sized + fmt::Display>(self, _: &T) -> Result<(), NotFinite> {
        Ok(())
    }
}

/// The parts of lists and of structs, each checked by itself.
macro_rules! check_each {
    ($($part:ident: $method:ident($($key:ty)?)),+ $(,)?) => {
        $(impl ser::$part for FiniteCheck {
            type Ok = ();
            type Error = NotFinite;

            fn $method<T: ?Sized + Serialize>(&mut self, $(_: $key,)? value: &T) -> Result<(), NotFinite> {
                value.serialize(Self)
            }

            fn end(self) -> Result<(), NotFinite> {
                Ok(())
            }
        })+
    };
}

check_each! {
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl ser::SerializeMap for FiniteCheck {
    type Ok = ();
    type Error = NotFinite;

    /// A key that is no finite float was refused when it was written.
    fn serialize_key<T: ?Sized + Serialize>(&mut self, _: &T) -> Result<(), NotFinite> {
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), NotFinite> {
        value.serialize(Self)
    }

    fn end(self) -> Result<(), NotFinite> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Unit,
        Newtype(f32),
        Tuple(u8, f64),
        Struct { radius: Option<f64> },
    }

    #[derive(Serialize)]
    struct Wrapped(f64);

    #[derive(Serialize)]
    struct Pair(u8, f64);

    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        shape: BTreeMap<&'static str, f64>,
        nothing: Option<()>,
    }

    fn refused<T: Serialize>(value: &T) -> bool {
        let mut buffer = b"before".to_vec();
        let written = write(value, &mut buffer).map_err(|error| error.to_string());
        let json = to_json(value).map(|json| json.get().to_owned()).map_err(|error| error.to_string());
        let written = written.map(|()| String::from_utf8_lossy(&buffer[6..]).into_owned());
        assert_eq!(written, json);
        json.is_err()
    }

    #[test]
    fn floats_that_are_no_numbers_are_refused_wherever_they_are() {
        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(refused(&float));
            assert!(refused(&(float as f32)));
            assert!(refused(&vec![1.0, float]));
            assert!(refused(&(None::<i64>, [Some(float)])));
            assert!(refused(&BTreeMap::from([("a", float)])));
            assert!(refused(&Shape::Newtype(float as f32)));
            assert!(refused(&Shape::Tuple(1, float)));
            assert!(refused(&Shape::Struct { radius: Some(float) }));
            assert!(refused(&Wrapped(float)));
            assert!(refused(&Pair(1, float)));
            assert!(refused(&Flat { shape: BTreeMap::from([("a", float)]), nothing: None }));
        }
        let error = to_json(&[f64::NAN]).expect_err("it is refused").to_string();
        assert!(error.contains("NaN"), "{error}");
    }

    #[test]
    fn nulls_that_are_meant_are_written() {
        let raw = serde_json::value::RawValue::from_string("[null,1e999]".to_owned()).expect("it is JSON");
        assert!(!refused(&()));
        assert!(!refused(&(None::<f64>, Some(1.5), "null", Shape::Unit, b'x', 'n', i128::MAX)));
        assert!(!refused(&Shape::Struct { radius: None }));
        assert!(!refused(&Flat { shape: BTreeMap::new(), nothing: None }));
        assert!(!refused(&(raw, None::<()>)));
        assert!(!refused(&serde_json::json!({ "a": [null, 1.5], "b": f64::NAN })));
        assert!(!refused(&BTreeMap::from([(1, None::<chrono::DateTime<chrono::Utc>>)])));
    }

    proptest! {
        /// Every number comes back bit for bit.
        #[test]
        fn numbers_round_trip(double in any::<f64>(), single in any::<f32>(), big in any::<i128>(), natural in any::<u128>()) {
            let value = (double, single, big, natural);
            match to_json(&value) {
                Ok(json) => {
                    let (a, b, c, d): (f64, f32, i128, u128) = serde_json::from_str(json.get()).expect("our own");
                    prop_assert_eq!((a.to_bits(), b.to_bits(), c, d), (double.to_bits(), single.to_bits(), big, natural));
                }
                Err(_) => prop_assert!(!double.is_finite() || !single.is_finite()),
            }
        }
    }
}
