//! The arguments of a call, decoded one by one when the task asks for them as a type.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;

use super::kind;
use crate::redact::Size;

/// The positional and named arguments of a message, not yet decoded: each is JSON text until the task asks for
/// it as a type.
#[derive(Default)]
pub struct Arguments<'a> {
    positional: Vec<&'a RawValue>,
    /// The number of positional arguments in the message, of which those are the first.
    given: usize,
    named: Vec<(Cow<'a, str>, &'a RawValue)>,
    foreign: &'a [ForeignArgument],
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let positional: Vec<Size> = self.positional.iter().map(|value| Size(value.get().len())).collect();
        let named: Vec<_> = self.named.iter().map(|(name, value)| (name, Size(value.get().len()))).collect();
        f.debug_struct("Arguments").field("positional", &positional).field("named", &named).finish_non_exhaustive()
    }
}

/// The place of an argument in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentPlace {
    /// By position, counted from 0.
    Position(usize),
    /// By name.
    Name(String),
}

impl fmt::Display for ArgumentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(index) => write!(f, "argument {}", index + 1),
            Self::Name(name) => write!(f, "the argument `{name}`"),
        }
    }
}

/// An argument with something in it that JSON has no form for, so that no type can be decoded from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignArgument {
    place: ArgumentPlace,
    got: Cow<'static, str>,
    why: &'static str,
}

impl ForeignArgument {
    /// Names the argument at `place`, the thing in it, and why it cannot be decoded.
    pub fn new(place: ArgumentPlace, got: Cow<'static, str>, why: &'static str) -> Self {
        Self { place, got, why }
    }
}

/// An error in arguments that do not fit their task. Celery's callers see a `TypeError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// More positional arguments than parameters.
    #[error("{task}() takes {takes} arguments but {given} were given")]
    TooMany {
        /// The task.
        task: &'static str,
        /// The number of its parameters.
        takes: usize,
        /// The number of arguments in the message.
        given: usize,
    },
    /// A parameter without a value.
    #[error("{task}() is missing the argument `{parameter}: {type_name}`")]
    Missing {
        /// The task.
        task: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The parameter's type.
        type_name: &'static str,
    },
    /// A name that no parameter has.
    #[error("{task}() has no parameter `{name}`; it has {known}")]
    Unknown {
        /// The task.
        task: &'static str,
        /// The name in the message.
        name: String,
        /// The names of the parameters.
        known: String,
    },
    /// A parameter that is given twice: by position and by name, or by its name alone.
    #[error("{task}() got two values for `{parameter}`")]
    Twice {
        /// The task.
        task: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// A value of another type.
    #[error("{task}() takes `{parameter}: {type_name}`, and got {got}: {why}")]
    Mismatch {
        /// The task.
        task: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The parameter's type.
        type_name: &'static str,
        /// The kind of the value in the message. The value itself is not repeated: it might be a secret.
        got: String,
        /// The decoder's message, without the value.
        why: String,
    },
}

/// The number of parameters that another build of a task may have.
const PARAMETERS_MAX: usize = 255;

impl ArgumentError {
    /// Returns whether another build of the task may take the arguments: one with a parameter more or less. A value of
    /// the wrong type is the caller's mistake, who should learn of it at once.
    pub fn may_fit_another_build(&self) -> bool {
        match self {
            // No build has so many parameters, and each look at such a message is long.
            Self::TooMany { given, .. } => *given <= PARAMETERS_MAX,
            Self::Missing { .. } | Self::Unknown { .. } => true,
            Self::Twice { .. } | Self::Mismatch { .. } => false,
        }
    }
}

impl<'a> Arguments<'a> {
    /// Makes arguments of `positional` and `named` ones.
    pub fn new(positional: Vec<&'a RawValue>, named: Vec<(Cow<'a, str>, &'a RawValue)>) -> Self {
        Self { given: positional.len(), positional, named, foreign: &[] }
    }

    /// Says that the message has `given` positional arguments, more than were kept.
    #[must_use]
    pub fn with_given(self, given: usize) -> Self {
        Self { given, ..self }
    }

    /// Names the arguments that no type can be decoded from; JSON holds the nearest value in their place.
    #[must_use]
    pub fn with_foreign(self, foreign: &'a [ForeignArgument]) -> Self {
        Self { foreign, ..self }
    }

    /// Returns the positional arguments.
    pub fn positional(&self) -> &[&'a RawValue] {
        &self.positional
    }

    /// Returns the named arguments.
    pub fn named(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.named.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Checks the number and names of the arguments, before their values are taken.
    ///
    /// Fails if there are more arguments than `parameters`, or names that none of them has, or two values for one.
    pub fn check(&self, task: &'static str, parameters: &'static [super::Parameter]) -> Result<(), ArgumentError> {
        if self.given > parameters.len() {
            return Err(ArgumentError::TooMany { task, takes: parameters.len(), given: self.given });
        }
        for (place, (name, _)) in self.named.iter().enumerate() {
            let Some(index) = parameters.iter().position(|parameter| parameter.name == name) else {
                let known = match parameters {
                    [] => "none".to_owned(),
                    some => some.iter().map(|known| format!("`{}`", known.name)).collect::<Vec<_>>().join(", "),
                };
                return Err(ArgumentError::Unknown { task, name: name.clone().into_owned(), known });
            };
            if index < self.positional.len() || self.named[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(ArgumentError::Twice { task, parameter: parameters[index].name });
            }
        }
        Ok(())
    }

    /// Decodes the value of the parameter at `index`, as a `T`. Of all types, only an `Option` may be absent: it is
    /// `None` then. `decode` decodes its JSON; its error must not repeat the value.
    pub fn take<T: for<'de> Deserialize<'de>>(
        &self,
        task: &'static str,
        index: usize,
        parameter: &super::Parameter,
        decode: impl FnOnce(&str) -> Result<T, serde_json::Error>,
    ) -> Result<T, ArgumentError> {
        let by_name = || self.named.iter().find(|(name, _)| name == parameter.name).map(|(_, value)| *value);
        let Some(raw) = self.positional.get(index).copied().or_else(by_name) else {
            return T::deserialize(Absent).map_err(|_| ArgumentError::Missing {
                task,
                parameter: parameter.name,
                type_name: parameter.type_name,
            });
        };
        // The decoder names the kind as well, unless the fault is deeper in the value.
        let mismatch = |got: &str, why: &str| ArgumentError::Mismatch {
            task,
            parameter: parameter.name,
            type_name: parameter.type_name,
            got: got.to_owned(),
            // A type may know very many variants.
            why: excerpt(why.strip_prefix(&format!("invalid type: {got}, ")).unwrap_or(why), WHY_CHARACTERS_MAX),
        };
        let is_here = |place: &ArgumentPlace| match place {
            ArgumentPlace::Position(position) => *position == index,
            ArgumentPlace::Name(name) => name == parameter.name,
        };
        if let Some(foreign) = self.foreign.iter().find(|foreign| is_here(&foreign.place)) {
            return Err(mismatch(&foreign.got, foreign.why));
        }
        decode(raw.get()).map_err(|error| mismatch(&kind::of_json(raw.get()), &error.to_string()))
    }
}

/// The value of a parameter that was left out: none for an `Option`, and an error for every other type, also for those
/// that can hold a null.
struct Absent;

impl<'de> Deserializer<'de> for Absent {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("there is no value"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The number of characters that are shown of the decoder's message.
const WHY_CHARACTERS_MAX: usize = 300;

/// Returns the first characters of a text, for people.
fn excerpt(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;
    use crate::definition::Parameter;

    const X: Parameter = Parameter::new("x", "T");

    fn take<T: DeserializeOwned>(arguments: &Arguments<'_>) -> Result<T, ArgumentError> {
        arguments.take("t", 0, &X, |json| serde_json::from_str(json))
    }

    #[test]
    fn only_an_option_may_be_left_out() {
        let none = Arguments::default();
        assert_eq!(take::<Option<Value>>(&none), Ok(None));
        assert_eq!(take::<Option<()>>(&none), Ok(None));
        let missing = ArgumentError::Missing { task: "t", parameter: "x", type_name: "T" };
        assert_eq!(take::<Value>(&none), Err(missing.clone()));
        assert_eq!(take::<()>(&none), Err(missing.clone()));
        assert_eq!(take::<Vec<Option<i64>>>(&none), Err(missing.clone()));
        assert_eq!(take::<(Option<i64>,)>(&none), Err(missing.clone()));
        assert_eq!(take::<i64>(&none), Err(missing));
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_by_its_kind() {
        let secret = RawValue::from_string("\"4111\"".to_owned()).expect("it is JSON");
        let arguments = Arguments::new(vec![&secret], Vec::new());
        let why = "invalid type: a text of 4 characters, expected u32 at line 1 column 6";
        let decode = |_: &str| Err::<u32, _>(serde_json::Error::custom(why));
        let error = arguments.take("t", 0, &X, decode).expect_err("a text is no number");
        let expected = "t() takes `x: T`, and got a text of 4 characters: expected u32 at line 1 column 6";
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?}").contains("4111"), "{error:?}");
    }

    #[test]
    fn a_null_is_a_value() {
        for arguments in [
            Arguments::new(vec![RawValue::NULL], Vec::new()),
            Arguments::new(Vec::new(), vec![("x".into(), RawValue::NULL)]),
        ] {
            assert_eq!(take::<Value>(&arguments), Ok(Value::Null));
            assert_eq!(take::<Option<i64>>(&arguments), Ok(None));
            assert_eq!(take::<()>(&arguments), Ok(()));
            assert!(matches!(take::<i64>(&arguments), Err(ArgumentError::Mismatch { .. })));
        }
    }
}
