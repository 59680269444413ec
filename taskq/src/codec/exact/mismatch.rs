//! The error of a value that does not fit its type, in words that do not repeat the value.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

use crate::definition::kind;

/// A value that does not fit its type. Names what the type expects and the kind of what came; the value itself might be
/// a secret, and errors go to logs, results and the dead set.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl de::Error for Mismatch {
    /// Leaves out the type's own words, which may quote the value.
    fn custom<T: Display>(_: T) -> Self {
        Self("the type refuses it (why is not repeated here: it may quote the value)".to_owned())
    }

    fn invalid_type(value: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid type: {}, expected {expected}", kind::of_unexpected(value)))
    }

    fn invalid_value(value: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("invalid value: {}, expected {expected}", kind::of_unexpected(value)))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self(format!("invalid length {length}, expected {expected}"))
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self(format!("unknown variant, expected {}", OneOf(known)))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self(format!("unknown field, expected {}", OneOf(known)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(format!("duplicate field `{field}`"))
    }
}

/// The names that a type knows.
struct OneOf(&'static [&'static str]);

impl Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("none"),
            [first, others @ ..] => {
                write!(f, "`{first}`")?;
                others.iter().try_for_each(|other| write!(f, ", `{other}`"))
            }
        }
    }
}
