//! Lines on stderr: those of the log, and those beside it.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use taskq::internal::shown;

use super::json_line;

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text for people; in colours on a terminal.
    Text,
    /// One JSON document a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json".to_owned()),
        }
    }
}

/// The format of everything on stderr, once it is known.
static FORMAT: OnceLock<Format> = OnceLock::new();

/// The number of lines that could not be written since the last one that could.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// A stderr that may fail (the disk under it is full, its reader is gone) without failing its writer: lines that cannot
/// be written are counted, and reported as soon as one can be written again.
pub(super) struct Log {
    stderr: io::Stderr,
    format: Format,
}

impl Log {
    /// Returns the stderr of this process.
    pub(super) fn new(format: Format) -> Self {
        Self { stderr: io::stderr(), format }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.stderr.write_all(line).is_err() {
            UNWRITTEN.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let unwritten = UNWRITTEN.swap(0, Ordering::Relaxed);
        if unwritten > 0 {
            let text = format!("{unwritten} lines of the log could not be written");
            let line = match self.format {
                Format::Text => format!("{text}\n"),
                Format::Json => json_line::line("WARN", "taskq", &text),
            };
            // If this cannot be written either, the loss is not reported; the lines are gone anyway.
            drop(self.stderr.write_all(line.as_bytes()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns whether the log goes to a terminal.
pub(crate) fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Sets the format of everything that is written to stderr from now on.
pub(super) fn set_format(format: Format) {
    // A process that becomes another command keeps its first format.
    FORMAT.get_or_init(|| format);
}

/// Writes a line that is neither an error nor of the log.
pub(crate) fn aside(text: &str) {
    write("INFO", "", text);
}

/// Writes the error with which a command ends.
pub(crate) fn complain(text: &str) {
    write("ERROR", "error: ", text);
}

/// Writes a line in the format of the log, whatever its level. If that fails, nothing can be reported.
pub(super) fn write(level: &str, prefix: &str, text: &str) {
    let line = match FORMAT.get() {
        Some(Format::Json) => json_line::line(level, "taskq", text),
        Some(Format::Text) | None => format!("{prefix}{}\n", shown::lines(text)),
    };
    drop(io::stderr().write_all(line.as_bytes()));
}

/// Returns a line that another process wrote for this one's stderr, in the format of the log. A document of JSON, or
/// any text among text, stays as it is: the other process has seen to it, and has read no message of strangers yet.
pub(crate) fn line_of_other(line: &[u8]) -> Cow<'_, [u8]> {
    match FORMAT.get() {
        Some(Format::Json) => documented(line),
        Some(Format::Text) | None => Cow::Borrowed(line),
    }
}

fn documented(line: &[u8]) -> Cow<'_, [u8]> {
    if serde_json::from_slice::<Value>(line).is_ok_and(|document| document.is_object()) {
        return Cow::Borrowed(line);
    }
    let mut document = json_line::line("INFO", "stderr", &String::from_utf8_lossy(line));
    document.truncate(document.trim_end().len());
    Cow::Owned(document.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_json_every_line_is_a_document() {
        let own = br#"{"level":"INFO","message":"x"}"#;
        assert_eq!(&*documented(own), own);
        for text in [&b"thread 'main' panicked"[..], b"7", b"", b"\xff{\"level\":\"INFO\"}\r\x1b[2J"] {
            let document = documented(text);
            let read: Value = serde_json::from_slice(&document).expect("it is JSON");
            assert_eq!(read["target"], "stderr", "{read}");
            assert_eq!(read["message"], *String::from_utf8_lossy(text), "{read}");
            assert!(!String::from_utf8_lossy(&document).chars().any(shown::is_hidden), "{read}");
        }
    }
}
