//! The contents of documents: their code blocks, and the sessions in those.

use std::path::{Path, PathBuf};

/// A code block of a Markdown file, or of the head of a Rust file.
#[derive(Debug, Clone)]
pub struct Block {
    /// The file and the line of its first fence, for messages: `README.md:12`.
    pub place: String,
    /// The text of its fence: `rust,no_run`; empty if there is none.
    pub info: String,
    /// The text between the fences.
    pub text: String,
}

/// A command of a session, and what it is shown to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The text behind `$ `.
    pub command: String,
    /// The lines below it.
    pub output: String,
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace exists")
}

impl Block {
    /// The blocks of a file, whose path is from the root of the repository.
    ///
    /// # Panics
    ///
    /// If there is no such file, or a block does not end.
    pub fn all_of(file: &str) -> Vec<Self> {
        let path = repository().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        blocks(file, &if is_rust { head(&text) } else { text })
    }

    /// The language: `rust` for `rust,no_run`.
    pub fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or_default()
    }

    /// The commands. A command that ends with a backslash goes on in the next line.
    ///
    /// # Panics
    ///
    /// If it does not begin with a command.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for line in self.text.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), output: String::new() }),
                (None, Some(step)) if step.output.is_empty() && step.command.ends_with('\\') => {
                    step.command.truncate(step.command.len() - 1);
                    step.command.push_str(line.trim_start());
                }
                (None, Some(step)) => {
                    step.output.push_str(line);
                    step.output.push('\n');
                }
                (None, None) => panic!("{}: a session begins with `$ ` and a command, not with {line:?}", self.place),
            }
        }
        steps
    }
}

/// The `//!` lines at the beginning of a Rust file, as Markdown.
fn head(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

fn blocks(file: &str, markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in markdown.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(info)) => {
                let place = format!("{file}:{}", index + 1);
                open = Some(Block { place, info: info.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end: {open:?}");
    blocks
}

/// Compares what was written with what a document shows, line by line. A `…` in the document stands for anything within
/// its line: ids, times, names of machines.
///
/// # Panics
///
/// With both, if they differ.
pub fn assert_shown(place: &str, shown: &str, written: &str) {
    let (expected, found): (Vec<&str>, Vec<&str>) = (shown.lines().collect(), written.lines().collect());
    let same = expected.len() == found.len() && expected.iter().zip(&found).all(|(one, other)| is_like(one, other));
    assert!(same, "{place} shows\n{shown}\nbut this was written\n{written}");
}

/// Whether a line is what the document shows.
fn is_like(shown: &str, written: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == written };
    let Some(mut written) = written.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match written.split_once(part) {
            Some((_, after)) => written = after,
            None => return false,
        }
    }
    written.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_in_markdown_and_in_heads() {
        let source =
            "//! Head.\n//!\n//! ```console\n//! $ a \\\n//!     b\n//! c\n//!\n//! d\n//! $ e\n//! ```\n\nfn f() {}\n";
        let found = blocks("x.rs", &head(source));
        let [block] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((block.place.as_str(), block.language()), ("x.rs:3", "console"));
        let step = |command: &str, output: &str| Step { command: command.to_owned(), output: output.to_owned() };
        assert_eq!(block.steps(), [step("a b", "c\n\nd\n"), step("e", "")]);
        assert_eq!(blocks("x.md", "```rust,no_run\nx\n```\n~\n```\n```\n").len(), 2);
    }

    #[test]
    fn an_ellipsis_stands_for_anything_in_its_line() {
        for (shown, written, like) in [
            ("5", "5", true),
            ("5", "6", false),
            ("id …", "id 7", true),
            ("id …!", "id 7", false),
            ("… of …, …", "3 of 7, x", true),
            ("… of …, …", "3 of 7", false),
        ] {
            assert_eq!(is_like(shown, written), like, "{shown} {written}");
        }
    }
}
