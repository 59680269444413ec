//! The lines of the log as text for people: `TIME LEVEL span{field=value}: target: message field=value`.
//!
//! The form is that of `tracing_subscriber`'s own lines. What differs is the treatment of values: each is on the line
//! that it belongs to, cut, and without characters that are not seen.

use std::error::Error;
use std::fmt::{self, Write};

use taskq::internal::shown::{self, Cut};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::bounds::{BACKTRACE, PANICS, PLACE, bytes_max, shown_name};

const BOLD: &str = "\x1b[1m";
const DIMMED: &str = "\x1b[2m";
const ITALIC: &str = "\x1b[3m";
const PLAIN: &str = "\x1b[0m";

/// The formatter of lines.
pub(super) struct TextLine;

/// The formatter of the fields of spans, which are those of the program.
pub(super) struct SpanFields;

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let about = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        styled(&mut to, DIMMED, &time)?;
        to.write_char(' ')?;
        styled(&mut to, colour(*about.level()), &format!("{:>5}", about.level().as_str()))?;
        to.write_char(' ')?;
        let mut is_in_span = false;
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            is_in_span = true;
            styled(&mut to, BOLD, span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                styled(&mut to, BOLD, "{")?;
                to.write_str(fields)?;
                styled(&mut to, BOLD, "}")?;
            }
            styled(&mut to, DIMMED, ":")?;
        }
        if is_in_span {
            to.write_char(' ')?;
        }
        styled(&mut to, DIMMED, about.target())?;
        styled(&mut to, DIMMED, ":")?;
        to.write_char(' ')?;
        let mut fields = TextFields::new(to.by_ref(), about.target());
        event.record(&mut fields);
        let TextFields { outcome, backtrace, .. } = fields;
        outcome?;
        writeln!(to)?;
        match backtrace {
            Some(frames) => writeln!(to, "stack backtrace:\n{}", shown::lines(frames.trim_end_matches('\n'))),
            None => Ok(()),
        }
    }
}

impl<'a> FormatFields<'a> for SpanFields {
    fn format_fields<R: RecordFields>(&self, to: Writer<'a>, fields: R) -> fmt::Result {
        let mut visitor = TextFields::new(to, "");
        fields.record(&mut visitor);
        visitor.outcome
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::TRACE => "\x1b[35m",
        Level::DEBUG => "\x1b[34m",
        Level::INFO => "\x1b[32m",
        Level::WARN => "\x1b[33m",
        Level::ERROR => "\x1b[31m",
    }
}

fn styled(to: &mut Writer<'_>, style: &str, text: &str) -> fmt::Result {
    if to.has_ansi_escapes() { write!(to, "{style}{text}{PLAIN}") } else { to.write_str(text) }
}

/// A writer of fields, in the order in which they come.
struct TextFields<'a> {
    to: Writer<'a>,
    target: &'a str,
    is_first: bool,
    outcome: fmt::Result,
    /// The frames of a panic, which have lines of their own.
    backtrace: Option<String>,
}

impl<'a> TextFields<'a> {
    fn new(to: Writer<'a>, target: &'a str) -> Self {
        Self { to, target, is_first: true, outcome: Ok(()), backtrace: None }
    }

    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        let bytes_max = bytes_max(self.target, field.name());
        if field.name() == BACKTRACE && self.target == PANICS {
            self.backtrace = Some(Cut::text(&value, bytes_max));
            return Ok(());
        }
        self.begin(field)?;
        let mut shown = Cut::escaped(&mut self.to, bytes_max);
        shown.write_fmt(value)?;
        shown.end()
    }

    /// Writes what is before the value: a space, the name.
    fn begin(&mut self, field: &Field) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.to.write_char(' ')?;
        }
        if field.name() == "message" {
            return Ok(());
        }
        styled(&mut self.to, ITALIC, shown_name(field.name()))?;
        styled(&mut self.to, DIMMED, "=")
    }

    fn write_text(&mut self, field: &Field, value: &str) -> fmt::Result {
        if field.name() == PLACE && self.target == PANICS {
            // The message has it.
            return Ok(());
        }
        if field.name() == "message" || field.name() == BACKTRACE {
            return self.write(field, format_args!("{value}"));
        }
        self.begin(field)?;
        // Cut before it is put in quotes, so that the end of the value is seen.
        let (kept, cut) = shown::cut(value, bytes_max(self.target, field.name()));
        write!(self.to, "{}", shown::line(&format!("{kept:?}")))?;
        if cut > 0 { write!(self.to, "… ({cut} bytes cut)") } else { Ok(()) }
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.outcome = self.outcome.and_then(|()| self.write_text(field, value));
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut sources = Vec::new();
        let mut next = error.source();
        while let Some(source) = next {
            sources.push(source.to_string());
            next = source.source();
        }
        let written = |fields: &mut Self| {
            fields.write(field, format_args!("{error}"))?;
            if sources.is_empty() {
                return Ok(());
            }
            fields.to.write_char(' ')?;
            styled(&mut fields.to, ITALIC, &format!("{}.sources", shown_name(field.name())))?;
            styled(&mut fields.to, DIMMED, "=")?;
            let mut shown = Cut::escaped(&mut fields.to, bytes_max(fields.target, field.name()));
            write!(shown, "[{}]", sources.join(", "))?;
            shown.end()
        };
        self.outcome = self.outcome.and_then(|()| written(self));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.outcome = self.outcome.and_then(|()| self.write(field, format_args!("{value:?}")));
    }
}
