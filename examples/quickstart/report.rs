//! The work: a report about the content of a file.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use taskq::{Context, TaskError, task};

/// The number of words that are reported.
const WORDS: usize = 3;

/// The length of the shortest words that are counted; shorter ones say little about a file.
const WORD_LETTERS_MIN: usize = 4;

/// The content of a file in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    /// The most frequent words, with how often each occurs.
    pub(crate) words: Vec<(String, u64)>,
    /// SHA-256, in hexadecimal.
    pub(crate) digest: String,
}

/// Reads a file and reports its content. As a plain function it runs on the blocking pool, since it reads from disk and
/// computes.
#[task(time_limit = "60s")]
pub(crate) fn examine(ctx: &Context, path: String) -> Result<Report, TaskError> {
    let content = std::fs::read(Path::new(&path)).map_err(|error| match error.kind() {
        // A retry would not bring the file back.
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => TaskError::permanent(error),
        _ => TaskError::retry_in(std::time::Duration::from_millis(500), error),
    })?;
    ctx.progress(1, 2, "counting");
    let text = String::from_utf8_lossy(&content);
    Ok(Report {
        bytes: content.len() as u64,
        lines: content.iter().filter(|byte| **byte == b'\n').count() as u64,
        words: frequent_words(&text),
        digest: Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect(),
        path,
    })
}

/// Returns the most frequent words in lower case; of equally frequent ones the first in the alphabet.
fn frequent_words(text: &str) -> Vec<(String, u64)> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    let words = text.split(|letter: char| !letter.is_alphabetic());
    for word in words.filter(|word| word.chars().count() >= WORD_LETTERS_MIN) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by(|(word, count), (other, other_count)| other_count.cmp(count).then_with(|| word.cmp(other)));
    ranked.truncate(WORDS);
    ranked
}
