//! The log subscriber: selects the lines that are written, and formats them.

use std::ffi::OsStr;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::{self, format::JsonFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::flood_guard::{self, FloodGuard};
use super::json_line::JsonLine;
use super::panics;
use super::stderr::{self, Format, Log};
use super::text_line::{SpanFields, TextLine};

/// The libraries under taskq. taskq itself logs what matters of them; their own lines would drown it, and at `trace`
/// they hold frames with passwords and arguments. So they are written only if `RUST_LOG` names the library.
const CHATTY: [&str; 5] = ["lapin", "amq_protocol", "redis", "async_rs", "hickory"];

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(LevelFilter);

impl Level {
    /// The level of commands other than `worker`: what a person has to know.
    pub(crate) const WARN: Self = Self(LevelFilter::WARN);
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "off" => Ok(LevelFilter::OFF),
            "error" => Ok(LevelFilter::ERROR),
            "warn" | "warning" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            "trace" => Ok(LevelFilter::TRACE),
            _ => Err("write off, error, warn, info, debug or trace".to_owned()),
        }
        .map(Self)
    }
}

/// Starts to write the log to stderr, in colours if `colours`, panics included. `RUST_LOG` wins over `level`; a
/// `RUST_LOG` that cannot be read is an error that says so. Does nothing if the program has a subscriber of its own.
pub(crate) fn init(level: Level, format: Format, colours: bool) -> Result<(), String> {
    stderr::set_format(format);
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let filter = filter(std::env::var_os(EnvFilter::DEFAULT_ENV).as_deref(), level)?;
    // The subscriber's own complaints about a log that cannot be written go to the same place, and would end the
    // process.
    let lines = fmt::layer().log_internal_errors(false).with_writer(move || Log::new(format));
    let lines = match format {
        Format::Text => lines.with_ansi(colours).fmt_fields(SpanFields).event_format(TextLine).boxed(),
        Format::Json => lines.with_ansi(false).fmt_fields(JsonFields::new()).event_format(JsonLine).boxed(),
    };
    let installed = tracing_subscriber::registry().with(lines).with(FloodGuard).with(filter).try_init();
    installed.map_err(|error| format!("the log cannot be written: {error}"))?;
    // A person who wants to know everything of taskq gets every line.
    flood_guard::limit(!tracing::enabled!(target: "taskq_worker", tracing::Level::DEBUG));
    panics::log();
    Ok(())
}

/// Returns the filter that `RUST_LOG` asks for, if it is set, or that of `level`.
fn filter(wanted: Option<&OsStr>, level: Level) -> Result<EnvFilter, String> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok(EnvFilter::new(directives(level)));
    };
    let shown = wanted.to_string_lossy();
    let unreadable = |why: String| format!("RUST_LOG={shown:?} cannot be read ({why}); write for example taskq=debug");
    let text = wanted.to_str().ok_or_else(|| unreadable("it is not Unicode".to_owned()))?;
    EnvFilter::builder().parse(quiet(text)).map_err(|error| unreadable(error.to_string()))
}

fn directives(Level(level): Level) -> String {
    quiet(&level.to_string())
}

/// Returns the directives with those libraries switched off that they do not name.
fn quiet(directives: &str) -> String {
    let unnamed = CHATTY.into_iter().filter(|library| !directives.contains(library));
    let off: Vec<String> = unnamed.map(|library| format!("{library}=off")).collect();
    format!("{directives},{}", off.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_taken_in_any_case_and_libraries_are_quiet() {
        assert_eq!("INFO".parse(), Ok(Level(LevelFilter::INFO)));
        assert_eq!("warning".parse(), Ok(Level::WARN));
        assert!("loud".parse::<Level>().is_err());
        assert!(directives(Level(LevelFilter::INFO)).contains("lapin=off"));
        assert!(directives(Level(LevelFilter::TRACE)).starts_with("trace,lapin=off"));
        let asked = quiet("trace,lapin=trace");
        assert!(asked.starts_with("trace,lapin=trace,") && !asked.contains("lapin=off"), "{asked}");
        assert!(asked.contains("redis=off"), "{asked}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        for wanted in [None, Some(""), Some("taskq=debug,my_app=trace")] {
            filter(wanted.map(OsStr::new), Level::WARN).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
        }
        let error = filter(Some(OsStr::new("taskq=loud")), Level::WARN).expect_err("there is no such level");
        assert!(error.starts_with("RUST_LOG=\"taskq=loud\" cannot be read"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_filter_that_is_not_unicode_is_named() {
        use std::os::unix::ffi::OsStrExt;
        let error = filter(Some(OsStr::from_bytes(b"taskq\xa3")), Level::WARN).expect_err("it is no text");
        assert!(error.starts_with("RUST_LOG=") && error.contains("not Unicode"), "{error}");
    }
}
