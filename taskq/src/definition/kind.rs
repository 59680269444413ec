//! The kind of a value, as errors name it: never the value itself, since errors go to logs, results and the dead set.

use std::borrow::Cow;

use serde::de::Unexpected;
use serde_json::value::RawValue;

/// The kind of an integer that only `i128` and `u128` have room for.
pub(crate) const BIG_INTEGER: &str = "an integer of more than 64 bits";

/// Names the kind of a value that is written as JSON.
pub(crate) fn of_json(json: &str) -> Cow<'static, str> {
    match json.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) => text_of(&text),
            Err(_) => "a text".into(),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(items) => format!("a list of {}", items.len()).into(),
            Err(_) => "a list".into(),
        },
        Some(b'{') => "a map".into(),
        Some(b't' | b'f') => "a boolean".into(),
        Some(b'n') => "null".into(),
        _ if json.contains(['.', 'e', 'E']) => "a float".into(),
        _ => "an integer".into(),
    }
}

/// Names the kind of a value that a type did not expect.
pub(crate) fn of_unexpected(value: Unexpected<'_>) -> Cow<'static, str> {
    match value {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a float",
        Unexpected::Char(_) => "a text of 1 character",
        Unexpected::Str(text) => return text_of(text),
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Other(BIG_INTEGER) => BIG_INTEGER,
        // Other descriptions may quote the value.
        Unexpected::Other(_) | Unexpected::NewtypeStruct => "another value",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant => "a variant",
    }
    .into()
}

fn text_of(text: &str) -> Cow<'static, str> {
    match text.chars().count() {
        1 => "a text of 1 character".into(),
        count => format!("a text of {count} characters").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_kind() {
        for (json, kind) in [
            ("\"4111\"", "a text of 4 characters"),
            ("\"\\u00e9\"", "a text of 1 character"),
            ("\"\"", "a text of 0 characters"),
            ("[4111, [1, 2]]", "a list of 2"),
            ("{\"4111\": 1}", "a map"),
            ("true", "a boolean"),
            ("null", "null"),
            ("-4111", "an integer"),
            ("4.111", "a float"),
            ("4e111", "a float"),
        ] {
            assert_eq!(of_json(json), kind, "{json}");
        }
    }
}
