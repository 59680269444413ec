//! Texts of others, made safe to show to people: on a terminal, and in a log that is read line by line.
//!
//! The names, ids and error texts of messages come from strangers. A line break in one of them would forge a line, an
//! escape sequence would control the terminal, and characters for the direction of writing or without a width would
//! show a name as another one. All of these are shown as escapes (`\n`, `\u{1b}`); letters of every language stay.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The longest text of an error or a message of a log that is shown, in bytes.
pub const TEXT_MAX: usize = 1024;

/// The longest name or id that is shown in a log, in bytes. An id is no longer, and neither is a queue.
pub const NAME_MAX: usize = 255;

/// Returns whether a character could control a terminal, end a line, or be there without being seen.
pub fn is_hidden(sign: char) -> bool {
    sign.is_control()
        || matches!(sign,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            // Zero width, and marks of direction; line and paragraph separators; embeddings and overrides.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Joiners and invisible operators; isolates.
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns `text` on one line, with escapes in place of hidden characters.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Returns `text` with escapes in place of hidden characters other than line breaks.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |sign| sign != '\n' && is_hidden(sign))
}

/// Returns a JSON document that means the same, on one line and with JSON's escapes in place of hidden characters.
pub fn in_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_hidden) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for sign in json.chars() {
        match sign {
            // A text of JSON has these as escapes only, so here they are space between its parts.
            '\n' | '\r' | '\t' => shown.push(' '),
            sign if is_hidden(sign) => {
                for unit in sign.encode_utf16(&mut [0; 2]) {
                    write!(shown, "\\u{unit:04x}").expect("a String takes any text");
                }
            }
            sign => shown.push(sign),
        }
    }
    Cow::Owned(shown)
}

/// Returns the beginning of `text` that is at most `bytes_max` long and ends between two characters, and the number of
/// bytes that were cut.
pub fn cut(text: &str, bytes_max: usize) -> (&str, usize) {
    let end = text.floor_char_boundary(bytes_max);
    (&text[..end], text.len() - end)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for sign in text.chars() {
        if is_escaped(sign) { shown.extend(sign.escape_default()) } else { shown.push(sign) }
    }
    Cow::Owned(shown)
}

/// Writes a value that is longer than `bytes_max` only as far as that, followed by the number of bytes that were cut.
pub struct Cut<'a> {
    to: &'a mut dyn Write,
    left: usize,
    cut: usize,
    escapes: bool,
}

impl<'a> Cut<'a> {
    /// Writes to `to` the first `bytes_max` bytes of a value, as they are.
    pub fn exact(to: &'a mut dyn Write, bytes_max: usize) -> Self {
        Self { to, left: bytes_max, cut: 0, escapes: false }
    }

    /// Writes to `to` the first `bytes_max` bytes of a value, on one line and with escapes in place of hidden
    /// characters.
    pub fn escaped(to: &'a mut dyn Write, bytes_max: usize) -> Self {
        Self { escapes: true, ..Self::exact(to, bytes_max) }
    }

    /// Returns the first `bytes_max` bytes of a value as they are. One whose formatting fails is returned as far as it
    /// went.
    pub fn text(value: &dyn fmt::Display, bytes_max: usize) -> String {
        let mut text = String::new();
        let mut kept = Cut::exact(&mut text, bytes_max);
        if write!(kept, "{value}").and_then(|()| kept.end()).is_err() {
            text.push('…');
        }
        text
    }

    /// Writes how much was cut, if anything was.
    pub fn end(self) -> fmt::Result {
        match self.cut {
            0 => Ok(()),
            cut => write!(self.to, "… ({cut} bytes cut)"),
        }
    }
}

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Once something was cut, nothing more is written: the value would have a hole.
        let (kept, cut) = if self.cut > 0 { ("", text.len()) } else { self::cut(text, self.left) };
        self.left -= kept.len();
        self.cut += cut;
        if self.escapes { self.to.write_str(&line(kept)) } else { self.to.write_str(kept) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_shown_as_escapes_and_letters_stay() {
        for (text, shown) in [
            ("", ""),
            ("shop.buy", "shop.buy"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\u{9b}2Jb", "a\\u{9b}2Jb"),
            ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
            ("\u{7f}\u{0}", "\\u{7f}\\u{0}"),
            ("pay\u{202e}gnp.exe", "pay\\u{202e}gnp.exe"),
            ("\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200e}\\u{200f}\\u{61c}"),
            ("ro\u{200b}ot\u{2060}\u{feff}", "ro\\u{200b}ot\\u{2060}\\u{feff}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("tag\u{e0041}", "tag\\u{e0041}"),
            // As they are: a path, quotes, letters of any language, letters with marks, pictures.
            ("C:\\new \"x\" 'y'", "C:\\new \"x\" 'y'"),
            ("Überläufer Ω 日本語 שלום e\u{301} 🚀", "Überläufer Ω 日本語 שלום e\u{301} 🚀"),
        ] {
            assert_eq!(line(text), shown, "{text:?}");
        }
        assert_eq!(lines("one\ntwo\r\x1b"), "one\ntwo\\r\\u{1b}");
    }

    #[test]
    fn values_are_cut_between_two_characters() {
        for (text, bytes_max, shown) in [
            ("short", 5, "short"),
            ("longer", 5, "longe… (1 bytes cut)"),
            ("über", 1, "… (5 bytes cut)"),
            ("über", 2, "ü… (3 bytes cut)"),
            ("a\nb\nc", 4, "a\\nb\\n… (1 bytes cut)"),
        ] {
            let mut written = String::new();
            let mut value = Cut::escaped(&mut written, bytes_max);
            value.write_str(text).and_then(|()| value.end()).expect("a String takes any text");
            assert_eq!(written, shown, "{text:?}");
        }
        // A value in several pieces has no hole where one that did not fit was cut.
        let mut written = String::new();
        let mut value = Cut::exact(&mut written, 3);
        for piece in ["ab", "üü", "c"] {
            value.write_str(piece).expect("a String takes any text");
        }
        value.end().expect("a String takes any text");
        assert_eq!(written, "ab… (5 bytes cut)");
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_without_hidden_characters(text in any::<String>(), bytes_max in 0_usize..100) {
            prop_assert!(!line(&text).chars().any(is_hidden));
            prop_assert!(lines(&text).chars().all(|sign| sign == '\n' || !is_hidden(sign)));
            let mut written = String::new();
            let mut value = Cut::escaped(&mut written, bytes_max);
            value.write_str(&text).and_then(|()| value.end()).expect("a String takes any text");
            prop_assert!(!written.chars().any(is_hidden));
            let (kept, cut) = cut(&text, bytes_max);
            prop_assert!(kept.len() <= bytes_max && kept.len() + cut == text.len());
        }

        #[test]
        fn a_json_document_means_the_same(text in any::<String>()) {
            let json = serde_json::to_string(&serde_json::json!({ &text: [&text, "\u{9b}\u{202e}\u{e0041}"] }));
            let json = json.expect("texts are JSON").replace(':', "\r\n:\t");
            prop_assume!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "a colon was in a text");
            let shown = in_json(&json);
            prop_assert!(!shown.chars().any(is_hidden));
            let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("it is JSON");
            prop_assert_eq!(read(&shown), read(&json));
        }
    }
}
