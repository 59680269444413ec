//! The words of comments, documents, log lines and errors.
//!
//! A doc comment is read alone, on hovering or in a search, so it does not lean on the item before it and begins with a
//! noun of the field. Programs are no persons. Some words of taskq's youth are gone, each with the word that took its
//! place.

use std::path::Path;

use crate::source::{self, Piece};

/// Beginnings that a doc comment must not have: they refer to something that is not there, or hide the noun.
const BEGINNINGS: [&str; 17] = [
    "What",
    "Who",
    "Whose",
    "Whom",
    "Whoever",
    "Whatever",
    "It",
    "Its",
    "He",
    "His",
    "They",
    "Their",
    "The same",
    "Those",
    "Such",
    "The other",
    "The others",
];

/// Words that are nowhere, each with what to write in place of it.
const FORBIDDEN: [(&str, &str); 13] = [
    ("whoever", "name it: the worker, the caller, the process"),
    ("he", "a program is \"it\""),
    ("him", "a program is \"it\""),
    ("his", "a program is \"it\""),
    ("mend", "fix, remedy, repair, reconnect, recover"),
    ("mends", "fixes, repairs, reconnects, recovers"),
    ("mended", "fixed, repaired, reconnected, recovered"),
    ("mending", "fixing, repairing, reconnecting, recovering"),
    ("put aside", "quarantined"),
    ("puts aside", "quarantines"),
    ("in the air", "unconfirmed"),
    ("aloft", "unconfirmed"),
    ("The same.", "say what it is"),
];

/// The longest line of a comment in Rust.
const COMMENT_WIDTH: usize = 120;

/// The file that names the forbidden words: this one.
const THIS_FILE: &str = "architecture/words.rs";

/// A fault in one file, for the person who is to remove it.
fn faults_of_rust(source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut is_in_doc = false;
    for piece in source::pieces(source) {
        match piece {
            Piece::Comment(comment) => {
                let doc = ["///", "//!"].iter().find_map(|slashes| comment.strip_prefix(slashes));
                // Four slashes are no doc comment, and a doc comment goes on until there is code.
                let doc = doc.filter(|doc| !doc.starts_with('/'));
                if let Some(doc) = doc.filter(|doc| !is_in_doc && !doc.trim().is_empty())
                    && let Some(beginning) =
                        BEGINNINGS.iter().find(|beginning| begins_with(doc.trim_start(), beginning))
                {
                    faults.push(format!("a doc comment begins with \"{beginning}\": {}", doc.trim()));
                }
                is_in_doc = doc.is_some();
                faults.extend(forbidden(comment));
            }
            Piece::Text(text) => {
                is_in_doc = false;
                faults.extend(forbidden(text));
            }
            Piece::Code(code) => is_in_doc &= code.trim().is_empty(),
            Piece::Letter(_) => is_in_doc = false,
        }
    }
    let long =
        source.lines().filter(|line| line.trim_start().starts_with("//") && line.chars().count() > COMMENT_WIDTH);
    faults.extend(long.map(|line| format!("a comment is longer than {COMMENT_WIDTH} characters: {}", line.trim())));
    faults
}

/// The lines of `text` with words that are not to be used.
fn forbidden(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // A phrase may be broken by a line's end.
    let joined = text.replace("///", "").replace("//!", "").replace("//", "");
    let joined = joined.split_whitespace().collect::<Vec<_>>().join(" ");
    for (word, instead) in FORBIDDEN {
        let (text, word_here) = if word.starts_with(char::is_uppercase) {
            (joined.clone(), word.to_owned())
        } else {
            (joined.to_lowercase(), word.to_lowercase())
        };
        for (at, _) in text.match_indices(&word_here) {
            let before = text[..at].chars().next_back();
            let after = text[at + word_here.len()..].chars().next();
            let is_bound = |letter: Option<char>| letter.is_none_or(|letter| !source::is_word(letter) && letter != '-');
            let ends = word_here.ends_with('.') || is_bound(after);
            if is_bound(before) && ends {
                let start = text[..at].char_indices().rev().nth(40).map_or(0, |(place, _)| place);
                let around: String = text[start..].chars().take(100).collect();
                faults.push(format!("\"{word}\" ({instead}): … {around}"));
            }
        }
    }
    faults
}

fn begins_with(text: &str, beginning: &str) -> bool {
    text.strip_prefix(beginning).is_some_and(|rest| !rest.starts_with(source::is_word))
}

/// All files with words in them.
fn files() -> Vec<String> {
    let folders = [
        "taskq",
        "taskq-macros",
        "taskq-beat",
        "taskq-worker",
        "examples",
        "tests",
        "docs",
        "scripts",
        "deploy",
        ".ci",
    ];
    let mut found: Vec<String> = folders
        .iter()
        .flat_map(|folder| source::files(folder, &["rs", "md", "toml", "json", "yaml", "stderr"]))
        .collect();
    found.extend(["scripts", ".ci"].iter().flat_map(|folder| {
        let files = std::fs::read_dir(source::root().join(folder)).expect("the workspace's folders can be read");
        let files = files.map(|file| file.expect("the workspace's folders can be read"));
        let names = files.filter(|file| file.file_type().expect("files have a type").is_file());
        let names = names.map(|file| format!("{folder}/{}", file.file_name().to_string_lossy()));
        names.filter(|file| !file.contains('.') || file.starts_with(".ci")).collect::<Vec<_>>()
    }));
    found.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Cargo.toml"]
            .map(str::to_owned),
    );
    // Recorded from other programs.
    found.retain(|file| !file.starts_with("tests/golden/") && !file.ends_with(THIS_FILE));
    found
}

#[test]
fn comments_and_documents_are_plain() {
    let mut found = Vec::new();
    for file in files() {
        let text = source::read(&file);
        let is_rust = Path::new(&file).extension().is_some_and(|ending| ending == "rs");
        let faults = if is_rust { faults_of_rust(&text) } else { forbidden_by_line(&text) };
        found.extend(faults.iter().map(|fault| format!("{file}: {fault}")));
    }
    assert!(found.is_empty(), "{} faults:\n{}", found.len(), found.join("\n"));
}

/// The same search in a file that is no source: paragraph by paragraph.
fn forbidden_by_line(text: &str) -> Vec<String> {
    text.split("\n\n").flat_map(forbidden).collect()
}

#[test]
fn planted_words_are_found() {
    for (source, expected) in [
        ("/// What runs.\nstruct A;", 1),
        ("/// The runs.\n/// What runs.\nstruct A;", 0),
        ("/// The runs.\nstruct A; /// It's here.\nstruct B;", 1),
        ("#[x]\n/// The same as `f`.\nfn g() {}", 1),
        ("/// Items.\n///\n/// Those that are.\nfn g() {}", 0),
        ("//! Whose room it is.\n\nmod a;", 1),
        ("// What runs.\nstruct A;", 0),
        ("/// Whatsoever.\nstruct A;", 0),
        ("// The reader mends itself.", 1),
        ("// I recommend to amend this-mend.", 0),
        ("fn f() { error!(\"no queue; mend: make one\") }", 1),
        ("// A message is put\n// aside.", 0),
        ("// The process ends when he likes.", 1),
        ("fn mend() {}", 0),
    ] {
        let found = faults_of_rust(source);
        assert_eq!(found.len(), expected, "{source}: {found:?}");
    }
    let long = format!("// {}", "x".repeat(COMMENT_WIDTH));
    assert_eq!(faults_of_rust(&long).len(), 1);
    assert_eq!(forbidden_by_line("A message is put\naside.\n\nThe same. And more.").len(), 2);
}
