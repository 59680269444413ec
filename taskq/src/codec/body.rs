//! The body of a task message: `[args, kwargs, embed]`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::exact;
use super::tree::{Loss, Tree, decoded};
use super::typed_values;
use crate::definition::{ArgumentPlace, Arguments, ForeignArgument};
use crate::message::Payload;
use crate::redact::Size;

const JSON: &str = "application/json";
const MSGPACK: &str = "application/x-msgpack";

/// Celery's name for zlib streams.
const GZIP: &str = "application/x-gzip";

/// The most that a compressed body grows by: each bit of a zlib stream stands for at most 258 bytes.
const INFLATED_BY_MAX: usize = 1032;

/// The third element of a body without a continuation.
const NOTHING_FOLLOWS: &[u8] = br#"{"callbacks":null,"errbacks":null,"chain":null,"chord":null}"#;

/// The number of entries that what follows a task may have; Celery knows four.
const EMBEDDED_MAX: usize = 100;

/// The format in which arguments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Serializer {
    /// `application/json`. The default, and the only format that Celery accepts without configuration.
    #[default]
    Json,
    /// `application/x-msgpack`: smaller and faster for large texts.
    Msgpack,
}

/// A body that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A content type that is not understood.
    #[error("the content type {0:?} is not understood; {JSON} and {MSGPACK} are")]
    ContentType(String),
    /// A character encoding that is not understood.
    #[error("the content encoding {0:?} is not understood; utf-8 and binary are")]
    ContentEncoding(String),
    /// A compression that is not understood.
    #[error("the compression {0:?} is not understood; {GZIP} is")]
    Compression(String),
    /// The compressed bytes are broken, or too many.
    #[error("the body cannot be decompressed")]
    Inflate(#[source] std::io::Error),
    /// A continuation of the task. Running the task alone would silently lose it.
    #[error("the message carries `{0}`, and this version runs single tasks only; what follows would be lost")]
    Follows(String),
    /// A format whose feature this program was built without.
    #[error("this program was built without the feature `{0}` of taskq")]
    Feature(&'static str),
    /// A body that is too large, as it came or once it is decompressed.
    #[error("the body has more than {limit} bytes, which this worker takes at most (`max_received_bytes`)")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A number that the serializer has no form for.
    #[error(
        "{place} holds a number of more than 64 bits, and MessagePack has none; set TASKQ_SERIALIZER=json, or send a text"
    )]
    Number {
        /// The argument.
        place: String,
    },
    /// Broken bytes, or not of the form `[args, kwargs, embed]`.
    #[error("the body is not a list of arguments, named arguments and what follows: {0}")]
    Form(String),
}

/// Encodes a body without a continuation; `write` writes the arguments, as a JSON list, a comma and a JSON map.
pub fn encode(write: impl FnOnce(&mut Vec<u8>), serializer: Serializer) -> Result<Payload, BodyError> {
    let mut body = Vec::with_capacity(NOTHING_FOLLOWS.len() + 64);
    body.push(b'[');
    write(&mut body);
    body.push(b',');
    body.extend_from_slice(NOTHING_FOLLOWS);
    body.push(b']');
    let (content_type, content_encoding, body) = match serializer {
        Serializer::Json => (JSON, "utf-8", body),
        Serializer::Msgpack => (MSGPACK, "binary", json_to_msgpack(&body)?),
    };
    Ok(Payload {
        content_type: content_type.into(),
        content_encoding: content_encoding.into(),
        compression: None,
        body: body.into(),
    })
}

#[cfg(not(feature = "msgpack"))]
fn json_to_msgpack(_json: &[u8]) -> Result<Vec<u8>, BodyError> {
    Err(BodyError::Feature("msgpack"))
}

#[cfg(not(feature = "msgpack"))]
fn msgpack_tree(_bytes: &[u8]) -> Result<Tree<'static>, BodyError> {
    Err(BodyError::Feature("msgpack"))
}

#[cfg(feature = "msgpack")]
fn msgpack_tree(bytes: &[u8]) -> Result<Tree<'static>, BodyError> {
    super::msgpack::decode(bytes).map_err(|error| form(&error))
}

#[cfg(feature = "msgpack")]
fn json_to_msgpack(json: &[u8]) -> Result<Vec<u8>, BodyError> {
    // Values of Python's types become what MessagePack has for them.
    let tree = typed_values::plain(json_tree(json)?);
    if let Some((place, _)) = in_arguments(&tree, super::msgpack::unfit).next() {
        return Err(BodyError::Number { place: place.to_string() });
    }
    super::msgpack::encode(&tree).map_err(|error| form(&error))
}

fn json_tree(json: &[u8]) -> Result<Tree<'_>, BodyError> {
    let text = std::str::from_utf8(json).map_err(|error| form(&error))?;
    Tree::parse(text).map_err(|error| form(&error))
}

fn form(error: &dyn fmt::Display) -> BodyError {
    BodyError::Form(error.to_string())
}

/// Looks into each argument of a body, and returns the places of those in which `find` finds something.
fn in_arguments<'t, 'a, T: 't>(
    body: &'t Tree<'a>,
    find: impl Fn(&'t Tree<'a>) -> Option<T> + Copy + 't,
) -> impl Iterator<Item = (ArgumentPlace, T)> + 't {
    let part = |index: usize| match body {
        Tree::List(parts) => parts.get(index),
        _ => None,
    };
    let positional = match part(0) {
        Some(Tree::List(items)) => items.as_slice(),
        _ => &[],
    };
    let named = match part(1) {
        Some(Tree::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    let positional = positional.iter().enumerate();
    let positional = positional.filter_map(move |(index, value)| Some((ArgumentPlace::Position(index), find(value)?)));
    let named = named.iter();
    positional.chain(named.filter_map(move |(name, value)| Some((ArgumentPlace::Name(decoded(name)), find(value)?))))
}

/// A message's body as plain JSON text, decompressed and translated.
#[derive(Clone)]
pub struct MessageBody {
    text: Bytes,
    /// The arguments for which JSON has no form.
    foreign: Vec<ForeignArgument>,
}

impl MessageBody {
    /// The most bytes that reading `payload` as far as to its text can take, where at most `limit` are read.
    pub fn bytes_max(payload: &Payload, limit: usize) -> usize {
        let by = if matches!(payload.compression.as_deref(), None | Some("")) { 1 } else { INFLATED_BY_MAX };
        payload.body.len().saturating_mul(by).min(limit)
    }

    /// Reads a body of at most `limit` bytes: decompresses it, and converts it to plain JSON. A body that is plain JSON
    /// already is not copied.
    pub fn read(payload: &Payload, limit: usize) -> Result<Self, BodyError> {
        if payload.body.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        match payload.content_encoding.to_ascii_lowercase().as_str() {
            "utf-8" | "utf8" | "us-ascii" | "ascii" | "binary" | "" => {}
            other => return Err(BodyError::ContentEncoding(other.to_owned())),
        }
        let bytes = match payload.compression.as_deref() {
            None | Some("") => payload.body.clone(),
            Some(GZIP) => inflate(&payload.body, limit)?,
            Some(other) => return Err(BodyError::Compression(other.to_owned())),
        };
        match payload.content_type.to_ascii_lowercase().as_str() {
            JSON if !typed_values::must_be_read(&bytes) => Ok(Self { text: bytes, foreign: Vec::new() }),
            JSON => json_tree(&bytes).map(Self::of),
            MSGPACK => msgpack_tree(&bytes).map(Self::of),
            other => Err(BodyError::ContentType(other.to_owned())),
        }
    }

    /// Translates a body that is not plain JSON.
    fn of(tree: Tree<'_>) -> Self {
        let foreign = in_arguments(&tree, Tree::loss);
        let foreign = foreign.map(|(place, Loss { what, why })| ForeignArgument::new(place, what, why)).collect();
        Self { text: typed_values::plain(tree).to_json().into(), foreign }
    }

    /// Returns the whole body, as plain JSON.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns the arguments in the body, for a task with so many parameters. More of them are counted, and not kept.
    pub fn arguments(&self, parameters: usize) -> Result<Arguments<'_>, BodyError> {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.text);
        let parts = PartsOf { parameters }.deserialize(&mut deserializer);
        let parts = parts
            .and_then(|parts| deserializer.end().map(|()| parts))
            .map_err(|error| form(&exact::place_of(&error)))?;
        what_follows(parts.embed)?;
        let Positional { values, given } = parts.positional;
        Ok(Arguments::new(values, parts.named.0).with_given(given).with_foreign(&self.foreign))
    }
}

impl fmt::Debug for MessageBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBody").field("text", &Size(self.text.len())).field("foreign", &self.foreign).finish()
    }
}

#[cfg(not(feature = "gzip"))]
fn inflate(_bytes: &[u8], _limit: usize) -> Result<Bytes, BodyError> {
    Err(BodyError::Feature("gzip"))
}

/// Fails with the name of the first continuation of the task, if there is one.
fn what_follows(embed: &RawValue) -> Result<(), BodyError> {
    if embed.get().as_bytes() == NOTHING_FOLLOWS || embed.get() == "null" {
        return Ok(());
    }
    // A continuation that cannot be found would be lost without a word.
    let refuse = || BodyError::Form("what follows is neither null nor a map of at most 100 entries".to_owned());
    let mut deserializer = serde_json::Deserializer::from_str(embed.get());
    let entries = NamedOf { names: EMBEDDED_MAX }.deserialize(&mut deserializer).map_err(|_| refuse())?;
    let Named(entries) = entries;
    if entries.len() > EMBEDDED_MAX {
        return Err(refuse());
    }
    let says_something = |value: &RawValue| {
        let list = value.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        value.get() != "null" && list.is_none_or(|items| !items.trim_ascii().is_empty())
    };
    let follows = |name: &str| ["callbacks", "errbacks", "chain", "chord"].contains(&name);
    match entries.into_iter().find(|(name, value)| follows(name) && says_something(value)) {
        Some((name, _)) => Err(BodyError::Follows(name.into_owned())),
        None => Ok(()),
    }
}

/// Decompresses a body. Celery's gzip is a zlib stream; real gzip is accepted as well.
#[cfg(feature = "gzip")]
fn inflate(bytes: &[u8], limit: usize) -> Result<Bytes, BodyError> {
    use std::io::Read;

    let mut inflated = Vec::new();
    let beyond = limit as u64 + 1;
    let read = if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(bytes).take(beyond).read_to_end(&mut inflated)
    } else {
        flate2::read::ZlibDecoder::new(bytes).take(beyond).read_to_end(&mut inflated)
    };
    let size = read.map_err(BodyError::Inflate)?;
    if size > limit { Err(BodyError::TooLarge { limit }) } else { Ok(inflated.into()) }
}

/// `[args, kwargs, embed]`, with every value still as text.
struct Parts<'a> {
    positional: Positional<'a>,
    named: Named<'a>,
    embed: &'a RawValue,
}

/// The first items of a JSON list, and the number of all; `null` is an empty one.
#[derive(Default)]
struct Positional<'a> {
    values: Vec<&'a RawValue>,
    given: usize,
}

/// A JSON map in its order; `null` is an empty one.
#[derive(Default)]
struct Named<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Reads [`Parts`] for a task with so many parameters.
struct PartsOf {
    parameters: usize,
}

/// Reads [`Positional`], of which so many values are kept.
struct PositionalOf {
    parameters: usize,
}

/// Reads [`Named`], of which one entry more than `names` is kept. That is enough to tell that one is too many.
struct NamedOf {
    names: usize,
}

impl<'de> DeserializeSeed<'de> for PartsOf {
    type Value = Parts<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parts<'de>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for PartsOf {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of three: arguments, named arguments, what follows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let missing = |count| serde::de::Error::invalid_length(count, &self);
        let positional = PositionalOf { parameters: self.parameters };
        let positional = elements.next_element_seed(positional)?.ok_or_else(|| missing(0))?;
        let named = NamedOf { names: self.parameters };
        let named = elements.next_element_seed(named)?.ok_or_else(|| missing(1))?;
        let embed = elements.next_element()?.ok_or_else(|| missing(2))?;
        if elements.next_element::<&RawValue>()?.is_some() {
            return Err(missing(4));
        }
        Ok(Parts { positional, named, embed })
    }
}

impl<'de> DeserializeSeed<'de> for PositionalOf {
    type Value = Positional<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Positional<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PositionalOf {
    type Value = Positional<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Positional::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while values.len() < self.parameters {
            let Some(value) = list.next_element()? else { return Ok(Positional { given: values.len(), values }) };
            values.push(value);
        }
        let mut given = values.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            given += 1;
        }
        Ok(Positional { values, given })
    }
}

impl<'de> DeserializeSeed<'de> for NamedOf {
    type Value = Named<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NamedOf {
    type Value = Named<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of named arguments")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Named::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while entries.len() <= self.names {
            let Some((key, value)) = map.next_entry::<ArgumentName<'de>, &'de RawValue>()? else {
                return Ok(Named(entries));
            };
            entries.push((key.0, value));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Named(entries))
    }
}

/// A key, borrowed where it has no escapes.
struct ArgumentName<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for ArgumentName<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = ArgumentName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter's name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(ArgumentName(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ArgumentName(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests;
