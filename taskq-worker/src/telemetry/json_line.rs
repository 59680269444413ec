//! The lines of the log for programs: one JSON document a line, with the fields beside `timestamp`, `level` and
//! `target`, and with `span` and `spans` if the program has any.

use std::fmt;

use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::Value;
use taskq::internal::shown::{self, Cut};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::bounds::{bytes_max, shown_name};

/// The formatter of lines.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let spans: Vec<Value> = context
            .event_scope()
            .into_iter()
            .flat_map(Scope::from_root)
            .map(|span| {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>().map(|fields| fields.fields.as_str());
                span_document(span.name(), fields.unwrap_or_default())
            })
            .collect();
        let json = document(event, &now(), &spans).map_err(|_| fmt::Error)?;
        writeln!(to, "{}", shown::in_json(&json))
    }
}

/// Returns a line that is not from the subscriber.
pub(super) fn line(level: &str, target: &str, message: &str) -> String {
    let document =
        serde_json::json!({ "timestamp": now(), "level": level, "message": message, "target": target }).to_string();
    format!("{}\n", shown::in_json(&document))
}

fn now() -> String {
    let mut time = String::new();
    SystemTime.format_time(&mut Writer::new(&mut time)).expect("a String takes any text");
    time
}

fn document(event: &Event<'_>, time: &str, spans: &[Value]) -> serde_json::Result<String> {
    let about = event.metadata();
    let mut line = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", time)?;
    map.serialize_entry("level", about.level().as_str())?;
    let mut fields = JsonFields { map, about, outcome: Ok(()) };
    event.record(&mut fields);
    let JsonFields { mut map, outcome, .. } = fields;
    outcome?;
    map.serialize_entry("target", about.target())?;
    if let Some(span) = spans.last() {
        map.serialize_entry("span", span)?;
        map.serialize_entry("spans", spans)?;
    }
    map.end()?;
    String::from_utf8(line).map_err(serde_json::Error::custom)
}

/// Returns a span with its fields, which `tracing_subscriber` keeps as JSON.
fn span_document(name: &str, fields: &str) -> Value {
    let mut span = match serde_json::from_str(fields) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    for value in span.values_mut() {
        if let Value::String(text) = value {
            *text = Cut::text(text, bytes_max("", ""));
        }
    }
    span.insert("name".to_owned(), name.into());
    Value::Object(span)
}

/// A writer of fields, in the order in which they come.
struct JsonFields<M: SerializeMap> {
    map: M,
    about: &'static Metadata<'static>,
    outcome: Result<(), M::Error>,
}

impl<M: SerializeMap> JsonFields<M> {
    fn write(&mut self, field: &Field, value: &(impl Serialize + ?Sized)) {
        if self.outcome.is_ok() {
            self.outcome = self.map.serialize_entry(shown_name(field.name()), value);
        }
    }
}

impl<M: SerializeMap> Visit for JsonFields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, &Cut::text(&value, bytes_max(self.about.target(), field.name())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let bytes_max = bytes_max(self.about.target(), field.name());
        self.write(field, &Cut::text(&format_args!("{value:?}"), bytes_max));
    }
}
