//! The lines of both formats, whatever is in their values.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde_json::Value;
use taskq::internal::shown::is_hidden;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::{self as lines, format::JsonFields};
use tracing_subscriber::layer::SubscriberExt;

use super::json_line::JsonLine;
use super::text_line::{SpanFields, TextLine};

/// The colours that the log itself writes.
const COLOURS: [&str; 8] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[3m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m"];

/// The bytes that were written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Fault(String, Option<Box<Fault>>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as &dyn Error)
    }
}

/// Returns what the log writes while `logs` runs.
fn written(json: bool, colours: bool, logs: impl FnOnce()) -> String {
    let written = Written::default();
    let writer = written.clone();
    let layer = lines::layer().log_internal_errors(false).with_writer(move || writer.clone());
    let layer = if json {
        layer.with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLine).boxed()
    } else {
        layer.with_ansi(colours).fmt_fields(SpanFields).event_format(TextLine).boxed()
    };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), logs);
    let bytes = std::mem::take(&mut *written.0.lock().expect("no writer panics"));
    String::from_utf8(bytes).expect("the log is text")
}

/// Logs `text` in every way in which a value can be logged.
fn log(text: &str) {
    let fault = Fault(text.to_owned(), Some(Box::new(Fault(text.to_owned(), None))));
    let error: &dyn Error = &fault;
    let span = tracing::warn_span!(target: "my_app", "span", text, shown = %text);
    let _entered = span.enter();
    tracing::warn!(target: "taskq_worker", task = text, id = %text, error, debug = ?text, r#type = text, "told: {text}");
    tracing::error!(target: "my_app", text, "{text}");
}

/// Returns a line of the text log without its time.
fn without_time(line: &str) -> &str {
    line.split_once("  ").or_else(|| line.split_once(' ')).map_or("", |(_, rest)| rest).trim_end()
}

#[test]
fn a_line_of_text_is_as_before_where_nothing_has_to_be_escaped() {
    let fault = Fault("no shelf".into(), Some(Box::new(Fault("no wall".into(), None))));
    let error: &dyn Error = &fault;
    let logs = || {
        let span = tracing::info_span!(target: "my_app", "visit", number = 7);
        span.in_scope(|| tracing::info!(target: "my_app", name = "Änne \"A\"", "welcome"));
        tracing::warn!(target: "taskq", task = "shop.buy", id = %7, error, "failed");
    };
    let text = written(false, false, logs);
    let lines: Vec<&str> = text.lines().map(without_time).collect();
    let expected = [
        "INFO visit{number=7}: my_app: welcome name=\"Änne \\\"A\\\"\"",
        "WARN taskq: failed task=\"shop.buy\" id=7 error=no shelf error.sources=[no wall]",
    ];
    assert_eq!(lines, expected, "{text}");
    let coloured = written(false, true, logs);
    let count = COLOURS.iter().filter(|colour| coloured.contains(**colour)).count();
    assert_eq!(count, 6, "plain, bold, dimmed, italic, green and yellow: {coloured:?}");
    let plain = COLOURS.iter().fold(coloured, |text, colour| text.replace(colour, ""));
    assert_eq!(plain.lines().map(without_time).collect::<Vec<_>>(), expected);
}

#[test]
fn a_line_of_json_has_the_fields_and_the_spans() {
    let json = written(true, false, || {
        let span = tracing::info_span!(target: "my_app", "visit", number = 7, text = "a\u{202e}");
        span.in_scope(|| tracing::info!(target: "my_app", ok = true, count = 7, share = 0.5, r#type = "x", "welcome"));
    });
    let mut line: Value = serde_json::from_str(&json).expect("it is one document");
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    line["timestamp"] = Value::Null;
    let span = serde_json::json!({ "name": "visit", "number": 7, "text": "a\u{202e}" });
    let expected = serde_json::json!({
        "timestamp": null, "level": "INFO", "message": "welcome", "target": "my_app",
        "ok": true, "count": 7, "share": 0.5, "type": "x", "span": &span, "spans": [&span],
    });
    assert_eq!(line, expected);
}

#[test]
fn long_values_are_cut() {
    let long = "ü".repeat(20_000);
    let text =
        written(false, false, || tracing::warn!(target: "taskq", task = long, id = %long, why = %long, "{long}"));
    assert!(text.len() < 2 * 255 + 2 * 1024 + 300, "{} bytes", text.len());
    assert_eq!(text.matches("… (39746 bytes cut)").count(), 2, "{text}");
    assert_eq!(text.matches("… (38976 bytes cut)").count(), 2, "{text}");
    let json = written(true, false, || tracing::warn!(target: "taskq", task = long, why = %long, "{long}"));
    let line: Value = serde_json::from_str(&json).expect("it is one document");
    let length = |field: &str| line[field].as_str().expect("it is a text").len();
    assert!(length("task") < 285 && length("why") < 1060 && length("message") < 1060, "{line}");
    // The program's own lines may be long.
    let text = written(false, false, || tracing::warn!(target: "my_app", task = %"x".repeat(10_000), "x"));
    assert!(text.len() > 10_000 && !text.contains("cut"), "{text}");
}

#[test]
fn a_backtrace_has_lines_of_its_own() {
    let frames = "   0: app::main\n             at src/main.rs:7:5\u{1b}\n";
    let logs =
        || tracing::error!(target: "taskq::panic", place = "a.rs:7", backtrace = frames, "panicked at a.rs:7: a\nb");
    let text = written(false, false, logs);
    let (line, rest) = text.split_once('\n').expect("there are several lines");
    assert!(line.ends_with("taskq::panic: panicked at a.rs:7: a\\nb"), "{line}");
    assert_eq!(rest, "stack backtrace:\n   0: app::main\n             at src/main.rs:7:5\\u{1b}\n");
    let json = written(true, false, logs);
    let line: Value = serde_json::from_str(&json).expect("it is one document");
    assert_eq!((&line["backtrace"], &line["place"]), (&frames.into(), &"a.rs:7".into()));
}

/// Any text, often with characters that matter here.
fn any_text() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        any::<char>(),
        prop::sample::select(vec!['\x1b', '\r', '\n', '\u{9b}', '\u{202e}', '\u{200b}', '\u{2028}', '"', '\\', '{']),
    ];
    prop::collection::vec(sign, 0..300).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_logged_each_line_is_a_proper_one(value in any_text()) {
        let text = written(false, false, || log(&value));
        prop_assert_eq!(text.lines().count(), 2, "{}", text);
        prop_assert!(text.ends_with('\n') && !text.chars().any(|sign| sign != '\n' && is_hidden(sign)), "{}", text);
        let coloured = written(false, true, || log(&value));
        let plain = COLOURS.iter().fold(coloured, |text, colour| text.replace(colour, ""));
        let times = |text: &str| text.lines().map(|line| without_time(line).to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(times(&plain), times(&text));
        let json = written(true, false, || log(&value));
        prop_assert!(!json.chars().any(|sign| sign != '\n' && is_hidden(sign)), "{}", json);
        let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
        prop_assert_eq!(lines.len(), 2);
        prop_assert_eq!(&lines[1]["message"], &value);
        prop_assert!(lines.iter().all(|line| line["level"] == "WARN" || line["level"] == "ERROR"));
    }
}
