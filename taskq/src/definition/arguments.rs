//! The arguments of a call, decoded one by one when the task asks for them as a type.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The positional and named arguments of a message, not yet decoded: each is JSON text until the task asks for
/// it as a type.
#[derive(Debug, Default)]
pub struct Arguments<'a> {
    positional: Vec<&'a RawValue>,
    named: Vec<(Cow<'a, str>, &'a RawValue)>,
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
    /// A parameter given by position and by name.
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
        /// The start of the value in the message.
        got: String,
        /// The decoder's message.
        why: String,
    },
}

impl ArgumentError {
    /// Returns whether another build of the task may take the arguments: one with a parameter more or less. A value of
    /// the wrong type is the caller's mistake, who should learn of it at once.
    pub fn may_fit_another_build(&self) -> bool {
        match self {
            Self::TooMany { .. } | Self::Missing { .. } | Self::Unknown { .. } => true,
            Self::Twice { .. } | Self::Mismatch { .. } => false,
        }
    }
}

impl<'a> Arguments<'a> {
    /// Makes arguments of `positional` and `named` ones.
    pub fn new(positional: Vec<&'a RawValue>, named: Vec<(Cow<'a, str>, &'a RawValue)>) -> Self {
        Self { positional, named }
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
        if self.positional.len() > parameters.len() {
            return Err(ArgumentError::TooMany { task, takes: parameters.len(), given: self.positional.len() });
        }
        for (name, _) in &self.named {
            let Some(index) = parameters.iter().position(|parameter| parameter.name == name) else {
                let known = match parameters {
                    [] => "none".to_owned(),
                    some => some.iter().map(|known| format!("`{}`", known.name)).collect::<Vec<_>>().join(", "),
                };
                return Err(ArgumentError::Unknown { task, name: name.clone().into_owned(), known });
            };
            if index < self.positional.len() {
                return Err(ArgumentError::Twice { task, parameter: parameters[index].name });
            }
        }
        Ok(())
    }

    /// Decodes the value of the parameter at `index`, as a `T`. An absent value is read as null once, so that a
    /// parameter of type `Option` may be left out.
    pub fn take<T: DeserializeOwned>(
        &self,
        task: &'static str,
        index: usize,
        parameter: &super::Parameter,
    ) -> Result<T, ArgumentError> {
        let by_name = || self.named.iter().find(|(name, _)| name == parameter.name).map(|(_, value)| *value);
        let Some(raw) = self.positional.get(index).copied().or_else(by_name) else {
            return T::deserialize(serde_json::Value::Null).map_err(|_| ArgumentError::Missing {
                task,
                parameter: parameter.name,
                type_name: parameter.type_name,
            });
        };
        serde_json::from_str(raw.get()).map_err(|error| ArgumentError::Mismatch {
            task,
            parameter: parameter.name,
            type_name: parameter.type_name,
            got: excerpt(raw.get(), GOT_CHARACTERS_MAX),
            // The decoder's message repeats an unexpected text in full, however long it is.
            why: excerpt(&error.to_string(), WHY_CHARACTERS_MAX),
        })
    }
}

/// The number of characters that are shown of a value that does not fit.
const GOT_CHARACTERS_MAX: usize = 60;

/// The number of characters that are shown of the decoder's message.
const WHY_CHARACTERS_MAX: usize = 300;

/// Returns the first characters of a value, for people.
fn excerpt(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
