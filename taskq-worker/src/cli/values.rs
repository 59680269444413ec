//! The values of arguments: durations, points in time, JSON, ids.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use taskq::TaskId;
use taskq::broker::QueueSpec;
use taskq::internal::codec::tree::Tree;
use taskq::message::Json;

/// Reads a duration as people write it.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 30s, 5m or \"1h 30m\""))
}

/// Reads a number of bytes as people write it: `200MiB`, `1.5 GB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 9] = [
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("k", 1024.0),
        ("m", 1_048_576.0),
        ("g", 1_073_741_824.0),
    ];
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.into_iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)));
    let number = unit.and_then(|(number, bytes)| Some(number.trim().parse::<f64>().ok()? * bytes));
    number
        .filter(|bytes| bytes.is_finite() && *bytes >= 1.0)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("{text:?} is no size; write for example 200MiB or 1.5GiB"))
}

/// Reads a point in time with its zone.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed
        .map(Into::into)
        .map_err(|error| format!("{error}; write for example 2030-01-31T08:00:00Z or …T08:00:00+01:00"))
}

/// Arguments by name, each as it is written.
pub(super) type NamedArguments = BTreeMap<String, Json>;

/// Reads a JSON object.
pub(super) fn object(text: &str) -> Result<NamedArguments, String> {
    let wrong = |why: String| format!("{why}; write a JSON object, for example '{{\"x\": 2}}'");
    json(text)?;
    match serde_json::from_str(text) {
        Ok(object) => Ok(object),
        Err(_) if serde_json::from_str::<&RawValue>(text).is_ok() => {
            Err(wrong("this is JSON, but no object".to_owned()))
        }
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Reads JSON, or takes the text itself if it is not JSON: `2`, `[1, 2]`, `"2"` and `true` are what they look like, and
/// `hello` need not be quoted twice. Numbers of any size stay as they are written.
pub(super) fn json_or_text(text: &str) -> Result<Json, String> {
    Ok(match json(text)? {
        Some(json) => json,
        None => serde_json::value::to_raw_value(text).expect("a text is JSON"),
    })
}

/// Reads JSON; `None` if the text is none. What nearly is JSON, and would be lost on the way, is refused.
fn json(text: &str) -> Result<Option<Json>, String> {
    let Ok(tree) = Tree::parse(text) else { return Ok(None) };
    if let Some(loss) = tree.loss() {
        return Err(loss.to_string());
    }
    let json = RawValue::from_string(text.trim().to_owned()).ok();
    if json.is_some() && serde_json::from_str::<Value>(text).is_err() {
        return Err(format!("there is a number in {text} that no float is as large as; send a text in its place"));
    }
    Ok(json)
}

/// Reads arguments as [`json_or_text`] does, for a schedule, which holds integers of 64 bits at most.
pub(super) fn value_or_text(text: &str) -> Result<Value, String> {
    value(&json_or_text(text)?)
}

/// Reads a JSON object as [`object`] does, for a schedule.
pub(super) fn object_of_values(text: &str) -> Result<Map<String, Value>, String> {
    object(text)?.into_iter().map(|(name, json)| Ok((name, value(&json)?))).collect()
}

/// Returns a JSON text as a value. Fails at an integer of more than 64 bits.
fn value(json: &RawValue) -> Result<Value, String> {
    let value: Value = serde_json::from_str(json.get()).map_err(|error| error.to_string())?;
    let exact = Tree::parse(json.get()).map_err(|error| error.to_string())?.to_value();
    if value == exact {
        return Ok(value);
    }
    Err(format!("there is an integer in {json} that has more than 64 bits; send a text in its place"))
}

/// Returns a node name in Celery's form, `name@host`.
pub(super) fn node(name: &str, host: impl FnOnce() -> String) -> String {
    if name.contains('@') { name.to_owned() } else { format!("{name}@{}", host()) }
}

/// Reads the name of a queue to send to or to take from.
pub(super) fn queue(text: &str) -> Result<String, String> {
    QueueSpec::check_named(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads a task's id.
pub(super) fn task_id(text: &str) -> Result<TaskId, String> {
    TaskId::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_text() {
        for (text, expected) in [
            ("2", serde_json::json!(2)),
            ("\"2\"", serde_json::json!("2")),
            ("hello there", serde_json::json!("hello there")),
            ("[1, {\"a\": null}]", serde_json::json!([1, {"a": null}])),
            ("{broken", serde_json::json!("{broken")),
            ("", serde_json::json!("")),
            ("1.0", serde_json::json!(1.0)),
        ] {
            assert_eq!(value_or_text(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        for text in [
            "1267650600228229401496703205376",
            "-170141183460469231731687303715884105728",
            "0.10",
            "[1e-7, 985.6906946328695]",
        ] {
            assert_eq!(json_or_text(text).expect("it is JSON").get(), text);
            let named = object(&format!("{{\"x\": {text}}}")).expect("it is an object");
            assert_eq!(named["x"].get(), text);
        }
        assert_eq!(value_or_text("[18446744073709551615]"), Ok(serde_json::json!([u64::MAX])));
    }

    #[test]
    fn what_would_be_lost_is_refused_by_name() {
        for (text, name) in
            [("NaN", "NaN"), ("[1, -Infinity]", "-Infinity"), ("1e999", "1e999"), (r#"{"a": "\ud800"}"#, "Unicode")]
        {
            assert!(json_or_text(text).expect_err(text).contains(name), "{text}");
            assert!(object(&format!("{{\"x\": {text}}}")).expect_err(text).contains(name), "{text}");
        }
        let error = value_or_text("{\"x\": 18446744073709551616}").expect_err("it has 65 bits");
        assert!(error.contains("18446744073709551616") && error.contains("64 bits"), "{error}");
        assert_eq!(json_or_text("Nancy").expect("a text").get(), "\"Nancy\"");
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("200MiB", Some(200 << 20)),
            ("200 mib", Some(200 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2g", Some(2 << 30)),
            ("3MB", Some(3_000_000)),
            ("1k", Some(1024)),
            ("0MiB", None),
            ("-1MiB", None),
            ("MiB", None),
            ("infMiB", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_name_the_remedy() {
        assert!(duration("10").expect_err("it has no unit").contains("30s"));
        assert!(size("200").expect_err("it has no unit").contains("200MiB"));
        assert!(moment("tomorrow").expect_err("it is no time").contains("2030-01-31T08:00:00Z"));
        assert!(queue("taskq.dead").expect_err("it is taskq's own").contains("choose another name"));
        assert!(object("[1]").expect_err("it is a list").contains("JSON object"));
        assert_eq!(moment("2030-01-31T08:00:00+01:00").expect("it is one").to_rfc3339(), "2030-01-31T07:00:00+00:00");
    }
}
