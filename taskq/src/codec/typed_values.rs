//! Values for which JSON has no form of its own: dates, UUIDs, decimals, bytes.
//!
//! Celery's JSON encoder (kombu's) writes them as `{"__type__": T, "__value__": V}`. Here they become the forms that
//! serde expects of the natural Rust types: text for times, UUIDs and decimals, a list of numbers for bytes.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

const TYPE: &str = "__type__";
const VALUE: &str = "__value__";

/// Returns whether `json` may contain a typed value. False positives are possible, false negatives are not.
pub(super) fn may_be_in(json: &[u8]) -> bool {
    // Most bodies have no underscore at all, and this test is a few nanoseconds.
    json.contains(&b'_') && json.windows(TYPE.len()).any(|window| window == TYPE.as_bytes())
}

/// Returns `value` with every typed value in it replaced by its plain form. Unknown types stay as they are.
pub(super) fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Object(map) if map.len() == 2 => match (map.get(TYPE).and_then(Value::as_str), map.get(VALUE)) {
            (Some(name), Some(inner)) => plain_form(name, inner).unwrap_or(Value::Object(map)),
            _ => Value::Object(map.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        },
        Value::Object(map) => Value::Object(map.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        other => other,
    }
}

fn plain_form(name: &str, inner: &Value) -> Option<Value> {
    match name {
        "datetime" | "date" | "time" | "decimal" => inner.as_str().map(Value::from),
        "uuid" => {
            let hex = inner.get("hex")?.as_str()?;
            Some(uuid::Uuid::parse_str(hex).ok()?.hyphenated().to_string().into())
        }
        "bytes" => Some(inner.as_str()?.bytes().collect()),
        "base64" => Some(BASE64_STANDARD.decode(inner.as_str()?).ok()?.into_iter().collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn typed(name: &str, value: &Value) -> Value {
        json!({ TYPE: name, VALUE: value })
    }

    #[test]
    fn each_type_has_its_plain_form() {
        for (name, value, expected) in [
            ("datetime", json!("2025-01-02T03:04:05.678901+00:00"), json!("2025-01-02T03:04:05.678901+00:00")),
            ("date", json!("2025-01-02"), json!("2025-01-02")),
            ("time", json!("01:02:03"), json!("01:02:03")),
            ("decimal", json!("1.50"), json!("1.50")),
            ("uuid", json!({"hex": "00000000000000000000000000000005"}), json!("00000000-0000-0000-0000-000000000005")),
            ("bytes", json!("hi"), json!([104, 105])),
            ("base64", json!("//4="), json!([255, 254])),
        ] {
            assert_eq!(plain(typed(name, &value)), expected, "{name}");
            let nested = json!({"a": [typed(name, &value)]});
            assert!(may_be_in(nested.to_string().as_bytes()));
            assert_eq!(plain(nested), json!({"a": [expected]}), "{name}, nested");
        }
    }

    #[test]
    fn everything_else_stays() {
        for value in [json!(1), json!({"a_b": 1}), typed("unheard-of", &json!(1)), typed("uuid", &json!("no map"))] {
            assert_eq!(plain(value.clone()), value);
        }
        assert!(!may_be_in(b"[1, \"__typ__\"]"));
    }
}
