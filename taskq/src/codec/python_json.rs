//! The output of Python's JSON encoder that is not plain JSON.
//!
//! Python writes floats that are no numbers as `NaN`, `Infinity` and `-Infinity`, text that is not Unicode as half a
//! surrogate pair. A text with any of these is read as a [`Tree`](super::tree::Tree); none of them is ever written.

use std::borrow::Cow;

/// The literals for floats that are no numbers. `-Infinity` comes first, since it contains `Infinity`.
pub(super) const NOT_NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Returns whether `text`, if it is JSON at all, is plain JSON.
///
/// False negatives are possible, false positives are not.
pub(super) fn is_plain(text: &[u8]) -> bool {
    // Literals that are not JSON have one of these letters, broken escapes a backslash; most texts have none.
    let suspicious = text.iter().any(|byte| matches!(byte, b'N' | b'I' | b'\\'));
    !(suspicious && (may_hold_surrogates(text) || has_literal(text)))
}

fn may_hold_surrogates(text: &[u8]) -> bool {
    text.windows(3).any(|window| matches!(window, b"\\ud" | b"\\uD"))
}

/// Returns whether there is one of the literals outside of texts.
fn has_literal(text: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => match after_string(text, at) {
                Some(after) => at = after,
                None => return false,
            },
            b'N' | b'I' if NOT_NUMBERS.iter().any(|literal| text[at..].starts_with(literal.as_bytes())) => return true,
            _ => at += 1,
        }
    }
    false
}

/// Returns the place after the text that begins at `start`; `None` if it has no end.
pub(super) fn after_string(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            // An escaped character, above all a quotation mark, does not end the text.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Returns whether JSON text contains an escaped half of a surrogate pair.
pub(super) fn has_lone_surrogate(json: &str) -> bool {
    matches!(without_lone_surrogates(json), Cow::Owned(_))
}

/// Returns JSON text with each escaped half of a surrogate pair replaced by the replacement character's escape. Borrows
/// `json` if there is none.
pub(super) fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let rest = &json[at..];
        at += match (escaped_unit(rest), rest.get(6..).and_then(escaped_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                replaced.push_str(&json[copied..at]);
                replaced.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            (Some(_), _) => 6,
            // The backslash and the character after it, which may be a backslash.
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    replaced.push_str(&json[copied..]);
    Cow::Owned(replaced)
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

    use super::*;

    #[test]
    fn plain_json_is_told_from_pythons() {
        for (text, plain) in [
            ("NaN", false),
            ("[1,-Infinity]", false),
            (r#"{"NaN": NaN}"#, false),
            (r#"["\\", NaN]"#, false),
            (r#""\udc80.txt""#, false),
            (r#"["NaN", "Infinity\" NaN", "Name", -1]"#, true),
            (r#"{"a_b": "caf\u00e9"}"#, true),
            // No JSON, for another reason.
            ("Nan", true),
            ("\"NaN", true),
            ("\"\\", true),
            ("", true),
        ] {
            assert_eq!(is_plain(text.as_bytes()), plain, "{text}");
        }
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
            assert_eq!(has_lone_surrogate(json), json != replaced, "{json}");
        }
    }

    proptest! {
        #[test]
        fn our_own_json_is_plain(text in r"[^\\]*", number in any::<i64>(), float in any::<f64>()) {
            let json = serde_json::json!({ text.clone(): [text, number, float] }).to_string();
            prop_assert!(is_plain(json.as_bytes()), "{}", json);
            prop_assert!(!has_lone_surrogate(&json));
        }

        #[test]
        fn any_text_is_taken(text in "[\\\\\"NaIinfty\\-ud8cé]{0,40}") {
            let _ = is_plain(text.as_bytes());
            let _ = without_lone_surrogates(&text);
        }
    }
}
