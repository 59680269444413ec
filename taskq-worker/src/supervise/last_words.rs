//! The last words of a child that died while it started: what it wrote to stderr, without backtraces.
//!
//! With `RUST_BACKTRACE=1` a panic is followed by dozens of lines of frames. They go to stderr like every line, but are
//! not kept: the reason is in the lines before them.

use std::collections::VecDeque;

use serde_json::Value;

/// The number of lines from the start of a child that are kept.
const KEPT_MAX: usize = 20;

/// The number of lines that are shown.
const SHOWN_MAX: usize = 5;

/// The lines of a child's start that may explain its death.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    lines: VecDeque<String>,
    in_backtrace: bool,
}

impl LastWords {
    /// Keeps a line, unless it belongs to a backtrace.
    pub(super) fn keep(&mut self, line: &[u8]) {
        let line = said(line);
        let text = line.trim();
        self.in_backtrace = match text {
            "stack backtrace:" | "Stack backtrace:" => true,
            _ => self.in_backtrace && is_of_a_frame(text),
        };
        if self.in_backtrace || text.is_empty() || text.starts_with("note: ") && text.contains("RUST_BACKTRACE=") {
            return;
        }
        if self.lines.len() == KEPT_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The lines to show: the last ones, or the first ones of the last panic, where its message is.
    pub(super) fn shown(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let from = match lines.iter().rposition(|line| is_panic(line)) {
            Some(panic) => panic,
            None => lines.len().saturating_sub(SHOWN_MAX),
        };
        lines.into_iter().skip(from).take(SHOWN_MAX).collect()
    }
}

/// Returns the text of a line: without the colours of a log as text, and as the message of one of JSON.
fn said(line: &[u8]) -> String {
    if let Ok(Value::Object(document)) = serde_json::from_slice(line)
        && let Some(Value::String(message)) = document.get("message")
    {
        return message.clone();
    }
    let text = String::from_utf8_lossy(line);
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let after = piece.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == ';');
        plain.push_str(after.strip_prefix('m').unwrap_or(after));
    }
    plain
}

/// Whether this is the first line of a panic's message, as the standard library or the log writes it.
fn is_panic(line: &str) -> bool {
    line.contains("thread '") && line.contains(" panicked at ")
}

/// Whether this line of a backtrace names a function (`12: app::main`) or its place (`at src/main.rs:7:5`).
fn is_of_a_frame(text: &str) -> bool {
    let is_numbered =
        |(number, _): (&str, &str)| !number.is_empty() && number.bytes().all(|sign| sign.is_ascii_digit());
    text.starts_with("at ") || text.split_once(':').is_some_and(is_numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut words = LastWords::default();
        for line in text.split('\n') {
            words.keep(line.as_bytes());
        }
        words.shown().join("\n")
    }

    #[test]
    fn a_backtrace_does_not_hide_the_message() {
        let frames: Vec<String> = (0..40)
            .map(|frame| format!("  {frame:>3}: app::f::{{closure#0}}\n             at ./src/main.rs:{frame}:5"))
            .collect();
        let frames = frames.join("\n");
        let note = "note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.";
        let panic = "thread 'main' (12) panicked at src/main.rs:7:5:\nno licence";
        let after = format!("{panic}\nstack backtrace:\n{frames}\n{note}");
        for text in [&after, &format!("starting\n\n{after}"), &format!("{after}\nfatal runtime error: aborting")] {
            let shown = shown(text);
            assert!(shown.starts_with(panic) && !shown.contains("app::f") && !shown.contains("note:"), "{shown}");
        }
        assert!(shown(&format!("{after}\nfatal runtime error: aborting")).ends_with("\nfatal runtime error: aborting"));
        // As `anyhow` prints it.
        let error = format!("Error: no licence\n\nStack backtrace:\n{frames}");
        assert_eq!(shown(&error), "Error: no licence");
    }

    #[test]
    fn without_a_panic_the_last_lines_are_shown() {
        assert_eq!(shown(""), "");
        assert_eq!(shown("1\n2\n3\n4\n5\n6"), "2\n3\n4\n5\n6");
        // Lines that look like frames, and are in no backtrace.
        assert_eq!(shown("at once\n12: full"), "at once\n12: full");
    }

    #[test]
    fn of_a_long_message_the_beginning_is_shown() {
        let shown = shown("thread 'main' panicked at a.rs:1:1:\n1\n2\n3\n4\n5\n6\n7");
        assert_eq!(shown, "thread 'main' panicked at a.rs:1:1:\n1\n2\n3\n4");
    }

    #[test]
    fn of_a_line_of_the_log_the_text_is_shown() {
        let said = "thread 'main' panicked at a.rs:1:1: no licence";
        for line in [
            said.to_owned(),
            format!("{{\"level\":\"ERROR\",\"message\":\"{said}\",\"target\":\"taskq::panic\"}}"),
            format!("\x1b[31m{said}\x1b[0m"),
        ] {
            assert_eq!(shown(&format!("starting\n{line}")), said, "{line}");
        }
        let line = format!("\x1b[2m2026-11-27\x1b[0m \x1b[31mERROR\x1b[0m \x1b[1;2mtaskq\x1b[0m: {said}");
        assert_eq!(shown(&format!("starting\n{line}")), format!("2026-11-27 ERROR taskq: {said}"));
    }

    #[test]
    fn few_lines_are_kept() {
        let mut words = LastWords::default();
        for number in 0..1000 {
            words.keep(number.to_string().as_bytes());
        }
        assert_eq!(words.lines.len(), KEPT_MAX);
    }
}
