//! The output of Python's JSON encoder that JSON does not allow.
//!
//! Python writes floats that are no numbers as `NaN`, `Infinity` and `-Infinity`, and text that is not Unicode as
//! half a surrogate pair. Both are read as the nearest JSON value; neither is ever written.

use std::borrow::Cow;

/// The literals for floats that are no numbers. `-Infinity` comes first, since it contains `Infinity`.
const NOT_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Returns `text` with every `NaN`, `Infinity` and `-Infinity` outside of strings replaced by `null`.
///
/// Borrows `text` if there is none of them. Text that is not JSON for another reason stays so.
pub fn sanitize(text: &[u8]) -> Cow<'_, [u8]> {
    let mut sanitized = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = after_string(text, at),
            b'N' | b'I' | b'-' => match NOT_NUMBERS.iter().find(|literal| text[at..].starts_with(literal)) {
                Some(literal) => {
                    sanitized.extend_from_slice(&text[copied..at]);
                    sanitized.extend_from_slice(b"null");
                    at += literal.len();
                    copied = at;
                }
                None => at += 1,
            },
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    sanitized.extend_from_slice(&text[copied..]);
    Cow::Owned(sanitized)
}

/// Returns the place after the string that begins at `start`, or the end of the text.
fn after_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            // An escaped character, above all a quotation mark, does not end the string.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Returns JSON text with each escaped half of a surrogate pair replaced by the replacement character's escape.
pub(super) fn without_lone_surrogates(json: &str) -> String {
    let mut replaced = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        replaced.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                replaced.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            // The backslash and the character after it, which may be a backslash.
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        replaced.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    replaced.push_str(rest);
    replaced
}

/// Returns the UTF-16 unit that `text` begins with, written `\uXXXX`.
fn escaped_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` would take a sign.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn literals_outside_of_strings_become_null() {
        for (text, sanitized) in [
            ("NaN", "null"),
            ("[NaN,-Infinity,Infinity]", "[null,null,null]"),
            (r#"{"NaN": NaN, "a": -1}"#, r#"{"NaN": null, "a": -1}"#),
            (r#"["NaN", "Infinity\" NaN", NaN]"#, r#"["NaN", "Infinity\" NaN", null]"#),
            (r#"["\\", NaN]"#, r#"["\\", null]"#),
            // Nothing to replace, or nothing that could be replaced.
            (r#"["Name", "I"]"#, r#"["Name", "I"]"#),
            ("Nan", "Nan"),
            ("\"NaN", "\"NaN"),
            ("\"\\", "\"\\"),
            ("", ""),
        ] {
            assert_eq!(sanitize(text.as_bytes()), sanitized.as_bytes(), "{text}");
        }
        assert!(matches!(sanitize(b"[1, \"NaN\"]"), Cow::Borrowed(_)));
    }

    #[test]
    fn half_pairs_are_replaced_and_nothing_else() {
        for (json, replaced) in [
            (r#""caf\u00e9 \ud83d\ude00""#, r#""caf\u00e9 \ud83d\ude00""#),
            (r#""\udc80.txt""#, r#""\ufffd.txt""#),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\u12"#, r#""\u12"#),
            (r#""\u+123""#, r#""\u+123""#),
            (r#""\é""#, r#""\é""#),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(without_lone_surrogates(json), replaced, "{json}");
        }
    }

    proptest! {
        #[test]
        fn json_stays_as_it_is(text in ".*", number in any::<i64>(), float in any::<f64>()) {
            let json = serde_json::json!({ text.clone(): [text, number, float, null_of(float)] }).to_string();
            prop_assert!(matches!(sanitize(json.as_bytes()), Cow::Borrowed(_)));
            prop_assert_eq!(without_lone_surrogates(&json), json);
        }

        #[test]
        fn any_text_is_taken(text in "[\\\\\"NaIinfty\\-ud8cé]{0,40}") {
            let _ = sanitize(text.as_bytes());
            let _ = without_lone_surrogates(&text);
        }
    }

    fn null_of(float: f64) -> Value {
        if float.is_sign_negative() { Value::Null } else { Value::Bool(true) }
    }
}
