//! JSON text as a tree in which numbers and texts stay as they are written, so that no integer is too large and no
//! float is rounded.
//!
//! The dialect is that of Python's encoder: `NaN`, `Infinity` and `-Infinity` are read, and half a surrogate pair in a
//! text. JSON has no form for either, so what is written is plain JSON with the nearest value in their place, and
//! [`Tree::loss`] tells what was lost.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde_json::Value;

use super::python_json::{self, NOT_NUMBERS};

/// The greatest depth, which is also that of values decoded with serde.
pub(super) const DEPTH_MAX: usize = 128;

/// The greatest number of values in a tree. Each takes several times the memory of the text that it is read from, which
/// a stranger may have written: a list of ones would grow to twenty times its size.
pub(super) const VALUES_MAX: usize = 4 << 20;

/// The reason why a tree with more values is not read.
pub(super) const TOO_MANY_VALUES: &str = "more than 4194304 values, too many to be converted";

/// A JSON value, not yet decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Tree<'a> {
    /// `null`, `true`, `false`, a number, or a literal of Python's for a float that is no number.
    Word(Cow<'a, str>),
    /// A text, with its quotation marks and escapes.
    Text(Cow<'a, str>),
    /// Bytes, for which JSON has no form: they are written as a list of numbers.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A map in its order. Keys are texts, with their quotation marks and escapes.
    Map(Vec<(Cow<'a, str>, Self)>),
}

/// The meaning of a word in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Word {
    Null,
    Bool(bool),
    Natural(u64),
    Negative(i64),
    Float(f64),
}

impl Word {
    /// Reads a word; `None` if it is a number that has no place in 64 bits, or a float that is no number.
    ///
    /// `serde_json` reads numbers in another way if any part of the program asks for its `arbitrary_precision`.
    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "null" => Some(Self::Null),
            "true" => Some(Self::Bool(true)),
            "false" => Some(Self::Bool(false)),
            word if NOT_NUMBERS.contains(&word) => None,
            word if is_integer(word) => {
                let natural = word.parse().ok().map(Self::Natural);
                natural.or_else(|| word.parse().ok().map(Self::Negative))
            }
            word => word.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Float),
        }
    }
}

/// The reason why a text is no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct TreeError {
    what: &'static str,
    at: usize,
}

impl TreeError {
    /// Whether the text may be JSON, and has too many values to be read as a tree.
    pub(super) fn is_too_large(&self) -> bool {
        self.what == TOO_MANY_VALUES
    }
}

/// Something in a value that JSON has no form for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The thing, for example `NaN`.
    pub what: Cow<'static, str>,
    /// The reason, with the remedy.
    pub why: &'static str,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl<'a> Tree<'a> {
    /// Reads JSON text, in Python's dialect.
    pub fn parse(text: &'a str) -> Result<Self, TreeError> {
        let mut parser = Parser { text, at: 0, values: 0 };
        let tree = parser.value(DEPTH_MAX)?;
        parser.skip_blanks();
        if parser.at < text.len() { Err(parser.error("more than one value")) } else { Ok(tree) }
    }

    /// Returns the first thing in the value that plain JSON cannot hold.
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Self::Word(word) => NOT_NUMBERS.contains(&&**word).then(|| Loss {
                what: Cow::Owned(word.clone().into_owned()),
                why: "JSON has no form for a float that is no number; send null or a text in its place",
            }),
            Self::Text(text) => lost_text(text),
            Self::Bytes(_) => None,
            Self::List(items) => items.iter().find_map(Self::loss),
            Self::Map(entries) => entries.iter().find_map(|(key, value)| lost_text(key).or_else(|| value.loss())),
        }
    }

    /// Returns the value as plain JSON, with null for floats that are no numbers and the replacement character for
    /// halves of surrogate pairs.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        self.write(&mut json, None);
        json
    }

    /// Returns the value as [`to_json`](Self::to_json) does, over several lines.
    pub fn to_pretty_json(&self) -> String {
        let mut json = String::new();
        self.write(&mut json, Some(0));
        json
    }

    /// Returns the value for people. An integer that has more than 64 bits, or a float beyond all floats, is a text.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Word(word) => match Word::of(word) {
                Some(Word::Null) => Value::Null,
                Some(Word::Bool(value)) => value.into(),
                Some(Word::Natural(number)) => number.into(),
                Some(Word::Negative(number)) => number.into(),
                Some(Word::Float(number)) => number.into(),
                None => Value::from(&**word),
            },
            Self::Text(text) => Value::String(decoded(text)),
            Self::Bytes(bytes) => bytes.iter().copied().collect(),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (decoded(key), value.to_value())).collect(),
        }
    }

    fn write(&self, json: &mut String, indent: Option<usize>) {
        match self {
            Self::Word(word) if NOT_NUMBERS.contains(&&**word) => json.push_str("null"),
            Self::Word(word) => json.push_str(word),
            Self::Text(text) => json.push_str(&python_json::without_lone_surrogates(text)),
            Self::Bytes(bytes) => {
                write_all(json, None, ['[', ']'], bytes.iter(), |json, byte, _| {
                    write!(json, "{byte}").expect("a text takes everything");
                });
            }
            Self::List(items) => {
                write_all(json, indent, ['[', ']'], items.iter(), |json, item, indent| item.write(json, indent));
            }
            Self::Map(entries) => {
                write_all(json, indent, ['{', '}'], entries.iter(), |json, (key, value), indent| {
                    json.push_str(&python_json::without_lone_surrogates(key));
                    json.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write(json, indent);
                });
            }
        }
    }
}

/// Writes what a list or a map contains, between its brackets. `indent` is the depth, where lines are broken.
fn write_all<T>(
    json: &mut String,
    indent: Option<usize>,
    brackets: [char; 2],
    items: impl ExactSizeIterator<Item = T>,
    write: impl Fn(&mut String, T, Option<usize>),
) {
    let line = |json: &mut String, depth: usize| {
        json.push('\n');
        json.extend(std::iter::repeat_n("  ", depth));
    };
    let (is_empty, inner) = (items.len() == 0, indent.map(|depth| depth + 1));
    json.push(brackets[0]);
    for (index, item) in items.enumerate() {
        if index > 0 {
            json.push(',');
        }
        if let Some(depth) = inner {
            line(json, depth);
        }
        write(json, item, inner);
    }
    if let (Some(depth), false) = (indent, is_empty) {
        line(json, depth);
    }
    json.push(brackets[1]);
}

/// Returns a JSON text without its quotation marks and escapes.
pub(super) fn decoded(json: &str) -> String {
    let plain = python_json::without_lone_surrogates(json);
    serde_json::from_str(&plain).unwrap_or_else(|_| plain.into_owned())
}

/// Returns whether a number is written as an integer. `-0` is a float, for integers have no negative zero.
pub(super) fn is_integer(number: &str) -> bool {
    number != "-0" && !number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

fn lost_text(json: &str) -> Option<Loss> {
    python_json::has_lone_surrogate(json).then_some(Loss {
        what: Cow::Borrowed("a text that is not Unicode"),
        why: "half a surrogate pair is no character; send bytes in its place",
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The number of values so far.
    values: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &'static str) -> TreeError {
        TreeError { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips blanks and takes `byte`, if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Tree<'a>, TreeError> {
        if depth == 0 {
            return Err(self.error("lists and maps in more than 128 levels"));
        }
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.error(TOO_MANY_VALUES));
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'"') => self.quoted().map(Tree::Text),
            Some(b'[') => self.list(depth - 1),
            Some(b'{') => self.map(depth - 1),
            _ => self.word().map(Tree::Word),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Tree<'a>, TreeError> {
        self.at += 1;
        let mut items = Vec::new();
        if self.takes(b']') {
            return Ok(Tree::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            match (self.takes(b','), self.takes(b']')) {
                (true, false) => {}
                (false, true) => return Ok(Tree::List(items)),
                _ => return Err(self.error("neither a comma nor the end of the list")),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Tree<'a>, TreeError> {
        self.at += 1;
        let mut entries = Vec::new();
        if self.takes(b'}') {
            return Ok(Tree::Map(entries));
        }
        loop {
            self.skip_blanks();
            let key = self.quoted()?;
            if !self.takes(b':') {
                return Err(self.error("no colon after a key"));
            }
            entries.push((key, self.value(depth)?));
            match (self.takes(b','), self.takes(b'}')) {
                (true, false) => {}
                (false, true) => return Ok(Tree::Map(entries)),
                _ => return Err(self.error("neither a comma nor the end of the map")),
            }
        }
    }

    /// Takes a text. Its escapes are looked at when it is decoded.
    fn quoted(&mut self) -> Result<Cow<'a, str>, TreeError> {
        if self.peek() != Some(b'"') {
            return Err(self.error("no text"));
        }
        let end = python_json::after_string(self.text.as_bytes(), self.at);
        let text =
            end.and_then(|end| self.text.get(self.at..end)).ok_or_else(|| self.error("a text without an end"))?;
        self.at += text.len();
        Ok(Cow::Borrowed(text))
    }

    fn word(&mut self) -> Result<Cow<'a, str>, TreeError> {
        let rest = &self.text[self.at..];
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        let is_known = matches!(word, "null" | "true" | "false") || NOT_NUMBERS.contains(&word) || is_number(word);
        if !is_known {
            return Err(self.error("no JSON value"));
        }
        self.at += length;
        Ok(Cow::Borrowed(word))
    }
}

/// Returns whether `text` is a number as JSON writes it, of any size.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (integer, fraction) = match mantissa.split_once('.') {
        Some((integer, fraction)) => (integer, Some(fraction)),
        None => (mantissa, None),
    };
    let no_leading_zero = integer == "0" || !integer.starts_with('0');
    digits(integer) && no_leading_zero && fraction.is_none_or(digits) && exponent.is_none_or(digits)
}

#[cfg(test)]
mod tests;
