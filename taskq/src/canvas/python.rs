//! Values that Python gets as values of its own types.
//!
//! JSON has no form for times, UUIDs, decimals and bytes. By itself, a Rust value of such a type is written as text, or
//! as a list of numbers, and that is what a Python task or client gets. In one of the types below it is written as
//! Celery's JSON writes it, so that Python gets a `datetime`, a `UUID`, a `Decimal` or `bytes`. In Rust, on the other
//! side, it is read like any other; Rust needs none of them to read what Python sends.
//!
//! The inner type may come from any library, as long as serde writes it as text:
//!
//! ```
//! use taskq::{python, task};
//!
//! # #[derive(serde::Serialize, serde::Deserialize)] pub struct Decimal(String);
//! /// A task of a Python program.
//! #[task(name = "billing.invoice")]
//! pub async fn invoice(
//!     due: python::Date<chrono::NaiveDate>,
//!     total: python::Decimal<Decimal>,
//!     scan: python::Bytes<Vec<u8>>,
//! );
//!
//! # fn main() {
//! let due = chrono::NaiveDate::from_ymd_opt(2026, 12, 31).unwrap();
//! let call = invoice(python::Date(due), python::Decimal(Decimal("19.90".into())), python::Bytes(vec![0x25, 0x50]));
//! # assert_eq!(call.parts().mistake, None);
//! # }
//! ```

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::ser::{Error, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::definition::kind;

/// Writes a value as Celery's JSON does.
fn write<S: Serializer>(serializer: S, name: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("__type__", name)?;
    map.serialize_entry("__value__", value)?;
    map.end()
}

/// Returns the text that serde writes for a value.
fn text<E: Error>(name: &str, value: &impl Serialize) -> Result<String, E> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => {
            let kind = kind::of_json(&other.to_string());
            Err(E::custom(format_args!("a {name} is written from a text, not from {kind}")))
        }
        Err(error) => Err(E::custom(error)),
    }
}

/// Returns a time as every release of Python reads it: with a numeric offset, and microseconds at most.
fn iso(text: &str) -> String {
    let text = text.strip_suffix(['Z', 'z']).map_or_else(|| text.to_owned(), |local| format!("{local}+00:00"));
    let Some(point) = text.find('.') else { return text };
    let digits = text[point + 1..].bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = text[point + 1..].split_at(digits);
    format!("{}.{fraction:0<6.6}{rest}", &text[..point])
}

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name<T>(pub T);

        impl<T> From<T> for $name<T> {
            fn from(value: T) -> Self {
                Self(value)
            }
        }

        impl<'de, T: Deserialize<'de>> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                T::deserialize(deserializer).map(Self)
            }
        }
    )+};
}

types! {
    /// A moment or a local time, which Python gets as a `datetime`; beyond microseconds it is cut.
    Datetime;
    /// A day, which Python gets as a `date`.
    Date;
    /// A time of day, which Python gets as a `time`; beyond microseconds it is cut.
    Time;
    /// A UUID, which Python gets as a `UUID`.
    Uuid;
    /// A decimal number, which Python gets as a `Decimal`. The inner type is one that serde writes as text.
    Decimal;
    /// Bytes, which Python gets as `bytes`. The inner type is read from a list of numbers, as `Vec<u8>` is.
    Bytes;
}

impl<T: Serialize> Serialize for Datetime<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = iso(&text::<S::Error>("datetime", &self.0)?);
        write(serializer, "datetime", &text)
    }
}

impl<T: Serialize> Serialize for Date<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = text::<S::Error>("date", &self.0)?;
        write(serializer, "date", &text)
    }
}

impl<T: Serialize> Serialize for Time<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = iso(&text::<S::Error>("time", &self.0)?);
        write(serializer, "time", &text)
    }
}

impl<T: Serialize> Serialize for Uuid<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex = text::<S::Error>("uuid", &self.0)?;
        write(serializer, "uuid", &serde_json::json!({ "hex": hex }))
    }
}

impl<T: Serialize> Serialize for Decimal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = text::<S::Error>("decimal", &self.0)?;
        write(serializer, "decimal", &text)
    }
}

impl<T: AsRef<[u8]>> Serialize for Bytes<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.as_ref();
        match str::from_utf8(bytes) {
            Ok(text) => write(serializer, "bytes", &text),
            Err(_) => write(serializer, "base64", &BASE64_STANDARD.encode(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::codec::{MessageBody, Serializer as Format, body};
    use crate::definition::Parameter;

    /// Checks what is written of `value`, and that it is read as it was, with every serializer.
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, name: &str, written: &str) {
        let json = serde_json::to_value(value).expect("it can be written");
        assert_eq!((&json["__type__"], &json["__value__"].to_string()), (&Value::from(name), &written.to_owned()));
        for format in [Format::Json, Format::Msgpack] {
            if format == Format::Msgpack && !cfg!(feature = "msgpack") {
                continue;
            }
            let text = format!("[{json}],{{}}");
            let payload = body::encode(|body| body.extend_from_slice(text.as_bytes()), format).expect("it is JSON");
            let read = MessageBody::read(&payload, 64 << 20).expect("our own");
            let arguments = read.arguments(99).expect("our own");
            let taken: T = arguments
                .take("t", 0, &Parameter::new("x", "T"), |json| serde_json::from_str(json))
                .expect("it is read like any other");
            assert_eq!(&taken, value);
        }
    }

    #[test]
    fn each_type_is_written_as_python_reads_it_and_read_as_it_was() {
        let moment: DateTime<Utc> = "2025-01-02T03:04:05.678Z".parse().expect("a moment");
        let day = NaiveDate::from_ymd_opt(2025, 1, 2).expect("a day");
        let time = NaiveTime::from_hms_opt(3, 4, 5).expect("a time");
        check(&Datetime(moment), "datetime", "\"2025-01-02T03:04:05.678000+00:00\"");
        check(&Datetime(NaiveDateTime::new(day, time)), "datetime", "\"2025-01-02T03:04:05\"");
        check(&Date(day), "date", "\"2025-01-02\"");
        check(&Time(time), "time", "\"03:04:05\"");
        let uuid = "00000000-0000-0000-0000-000000000005".to_owned();
        check(&Uuid(uuid), "uuid", "{\"hex\":\"00000000-0000-0000-0000-000000000005\"}");
        check(&Decimal("1.50".to_owned()), "decimal", "\"1.50\"");
        check(&Bytes("grüße".as_bytes().to_vec()), "bytes", "\"grüße\"");
        check(&Bytes(vec![255, 0]), "base64", "\"/wA=\"");
    }

    #[test]
    fn times_have_microseconds_and_a_numeric_offset() {
        for (text, iso_text) in [
            ("2025-01-02T03:04:05.123456789Z", "2025-01-02T03:04:05.123456+00:00"),
            ("2025-01-02T03:04:05.5+01:00", "2025-01-02T03:04:05.500000+01:00"),
            ("2025-01-02T03:04:05", "2025-01-02T03:04:05"),
            ("03:04:05.000001", "03:04:05.000001"),
        ] {
            assert_eq!(iso(text), iso_text);
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(serde_json::to_string(&Decimal(1.5)).expect_err("a float").to_string().contains("not from a float"));
    }
}
