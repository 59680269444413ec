//! Values for which JSON has no form of its own: dates, UUIDs, decimals, bytes.
//!
//! Celery's JSON encoder (kombu's) writes them as `{"__type__": T, "__value__": V}`. Here they become the forms that
//! serde expects of the natural Rust types: text for times, UUIDs and decimals, a list of numbers for bytes. Types that
//! a program has registered with kombu itself stay maps.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::python_json;
use super::tree::{Tree, decoded};

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// Returns whether `json` may contain anything that is not plain JSON, or means something else than it says.
pub(super) fn must_be_read(json: &[u8]) -> bool {
    !python_json::is_plain(json) || may_be_in(json)
}

/// Returns whether `json` may contain a typed value. False positives are possible, false negatives are not.
fn may_be_in(json: &[u8]) -> bool {
    // Most bodies have no underscore at all, and this test is a few nanoseconds.
    json.contains(&b'_') && json.windows(TYPE.len()).any(|window| window == TYPE.as_bytes())
}

/// Returns `tree` with every typed value in it replaced by its plain form, from the inside out as kombu reads them.
/// Unknown types stay as they are.
pub(super) fn plain(tree: Tree<'_>) -> Tree<'_> {
    match tree {
        Tree::List(items) => Tree::List(items.into_iter().map(plain).collect()),
        Tree::Map(entries) => {
            let entries: Vec<_> = entries.into_iter().map(|(key, value)| (key, plain(value))).collect();
            let typed = typed(&entries).and_then(|(name, value)| plain_form(&name, value));
            typed.unwrap_or(Tree::Map(entries))
        }
        other => other,
    }
}

/// Returns the type and the value of a map that has exactly these two.
fn typed<'t, 'a>(entries: &'t [(Cow<'a, str>, Tree<'a>)]) -> Option<(String, &'t Tree<'a>)> {
    let [(first, one), (second, other)] = entries else { return None };
    let (name, value) = match (&*decoded(first), &*decoded(second)) {
        (TYPE, VALUE) => (one, other),
        (VALUE, TYPE) => (other, one),
        _ => return None,
    };
    match name {
        Tree::Text(name) => Some((decoded(name), value)),
        _ => None,
    }
}

fn plain_form<'a>(name: &str, value: &Tree<'a>) -> Option<Tree<'a>> {
    match (name, value) {
        ("datetime" | "date" | "time" | "decimal", Tree::Text(text)) => Some(Tree::Text(text.clone())),
        ("uuid", Tree::Map(parts)) => {
            // Earlier releases of kombu write the version beside it.
            let Tree::Text(hex) = &parts.iter().find(|(key, _)| decoded(key) == "hex")?.1 else { return None };
            let uuid = uuid::Uuid::parse_str(&decoded(hex)).ok()?;
            Some(Tree::Text(Cow::Owned(format!("\"{}\"", uuid.hyphenated()))))
        }
        ("bytes", Tree::Text(text)) => Some(Tree::Bytes(decoded(text).into_bytes())),
        ("base64", Tree::Text(text)) => BASE64_STANDARD.decode(decoded(text)).ok().map(Tree::Bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn typed(name: &str, value: &Value) -> Value {
        json!({ TYPE: name, VALUE: value })
    }

    fn translated(json: &str) -> String {
        plain(Tree::parse(json).expect("it is JSON")).to_json()
    }

    #[test]
    fn each_type_has_its_plain_form() {
        for (name, value, expected) in [
            ("datetime", json!("2025-01-02T03:04:05.678901+00:00"), json!("2025-01-02T03:04:05.678901+00:00")),
            ("datetime", json!("2025-01-02T03:04:05"), json!("2025-01-02T03:04:05")),
            ("date", json!("2025-01-02"), json!("2025-01-02")),
            ("time", json!("01:02:03"), json!("01:02:03")),
            ("decimal", json!("1.50"), json!("1.50")),
            ("uuid", json!({"hex": "00000000000000000000000000000005"}), json!("00000000-0000-0000-0000-000000000005")),
            (
                "uuid",
                json!({"hex": "00000000000000000000000000000005", "version": 4}),
                json!("00000000-0000-0000-0000-000000000005"),
            ),
            ("bytes", json!("hi"), json!([104, 105])),
            ("bytes", json!("ü\n"), json!([195, 188, 10])),
            ("bytes", json!(""), json!([])),
            ("base64", json!("//4="), json!([255, 254])),
        ] {
            let expected = expected.to_string();
            assert_eq!(translated(&typed(name, &value).to_string()), expected, "{name}");
            let swapped = format!(r#"{{"__value__": {value}, "__type__": "{name}"}}"#);
            assert_eq!(translated(&swapped), expected, "{name}, in the other order");
            let nested = json!({"a": [typed("app.own", &json!([typed(name, &value)]))]}).to_string();
            assert!(may_be_in(nested.as_bytes()));
            let kept = format!(r#"{{"a":[{{"__type__":"app.own","__value__":[{expected}]}}]}}"#);
            assert_eq!(translated(&nested), kept, "{name}, nested");
        }
    }

    #[test]
    fn everything_else_stays() {
        for value in [
            json!(1),
            json!({"a_b": 1}),
            typed("unheard-of", &json!(1)),
            typed("uuid", &json!("no map")),
            typed("uuid", &json!({"hex": "12"})),
            typed("uuid", &json!({"int": "00000000000000000000000000000005"})),
            typed("datetime", &json!(1)),
            typed("base64", &json!("?")),
            json!({TYPE: "date", VALUE: "2025-01-02", "more": 1}),
            json!({TYPE: 1, VALUE: 2}),
        ] {
            assert_eq!(translated(&value.to_string()), value.to_string());
        }
        let beside = r#"[{"__type__":"date","__value__":"2025-01-02"},1267650600228229401496703205376,0.10]"#;
        assert_eq!(translated(beside), r#"["2025-01-02",1267650600228229401496703205376,0.10]"#);
        assert!(!may_be_in(b"[1, \"__typ__\"]"));
    }
}
