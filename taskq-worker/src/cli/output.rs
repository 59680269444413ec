//! The answers of commands on stdout: tables for people, one JSON document a line for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use taskq::internal::shown;

use super::failure::Failure;

/// The reader of a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// A person at a terminal.
    Person,
    /// A program, or a person who asked for `--json`.
    Program,
}

impl Output {
    /// Returns the reader: a program if stdout is no terminal, or with `--json`.
    pub(super) fn new(json: bool) -> Self {
        if json || !io::stdout().is_terminal() { Self::Program } else { Self::Person }
    }

    /// Writes `value` as one line of JSON for a program, or as `text` formats it for a person.
    pub fn say<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Program => json(value),
            Self::Person => line(&shown::lines(&text(value))),
        }
    }

    /// Writes each of `rows` as one line of JSON for a program, or a table of them for a person.
    pub fn table<T: Serialize, const N: usize>(
        self,
        rows: &[T],
        header: [&'static str; N],
        cells: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure> {
        match self {
            Self::Program => rows.iter().try_for_each(json),
            Self::Person => line(&render(header, rows.iter().map(cells))),
        }
    }

    /// Writes `value` like [`say`](Self::say). If that fails, logs a warning and goes on: a full disk under its stdout
    /// must not stop a worker.
    pub(super) fn announce<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        if let Err(failure) = self.say(value, text) {
            tracing::warn!(why = failure.message(), "a line could not be written to stdout");
        }
    }

    /// Writes a line for a person, and nothing for a program.
    pub fn note(self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Program => Ok(()),
            Self::Person => line(&shown::lines(text)),
        }
    }
}

/// Writes one line of JSON to stdout.
pub(super) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::unwritten(&error.into()))?;
    // A stored result is written as it is stored, and a terminal may be there with `--json` as well.
    line(&shown::in_json(&text))
}

/// Writes lines to stdout at once: a reader of a pipe must not wait for a full buffer.
fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::unwritten(&error))
}

/// Writes one line of text to stdout, for a person or a program.
pub(super) fn text_line(text: &str) -> Result<(), Failure> {
    line(&plain(text))
}

/// Formats a table with columns as wide as their widest cells. The last one is not padded.
fn render<const N: usize>(header: [&'static str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows = rows.map(|row| row.map(|cell| plain(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(header.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns `text` on one line with escapes in place of control characters and others that are not seen: text from a
/// task or a message must not control the terminal, forge a line, or look like another one.
pub(super) fn plain(text: &str) -> String {
    shown::line(text).into_owned()
}

/// Returns `text` as [`plain`] does, cut to this number of characters.
pub(super) fn short(text: &str, characters: usize) -> String {
    let text = plain(text);
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Formats a time for people.
pub(super) fn time(time: chrono::DateTime<chrono::Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["mail", "7"], ["über", "12"]].map(|row| row.map(str::to_owned));
        assert_eq!(render(["QUEUE", "READY"], rows.into_iter()), "QUEUE  READY\nmail   7\nüber   12\n");
    }

    #[test]
    fn text_of_others_does_not_control_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        let row = ["a\nb".to_owned(), "\u{202e}7".to_owned()];
        assert_eq!(render(["QUEUE", "READY"], [row].into_iter()), "QUEUE  READY\na\\nb   \\u{202e}7\n");
        assert_eq!(short("überlang", 4), "über…");
        assert_eq!(short("über", 4), "über");
    }
}
