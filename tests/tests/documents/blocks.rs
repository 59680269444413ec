//! The contents of the documents are right: every code block is compared with the project. Rust blocks are tests of
//! documentation (`src/documents.rs`); what the examples' heads show is run by `examples`.

use std::path::Path;

use rusqlite::Connection;
use taskq::Client;
use taskq::settings::Settings;
use taskq_beat::entry::{Entry, Origin};
use taskq_tests::harness::{Block, Folder, commands, repository};
use toml::{Table, Value};

/// The languages of blocks, and what holds them.
const LANGUAGES: [&str; 6] = [
    "rust",    // `src/documents.rs`
    "toml",    // `what_is_toml_can_be_used`
    "console", // `commands_are_there_and_take_what_they_are_given`
    "sh",      // the same
    "ini",     // `units_are_well_formed`
    "text",    // nothing: a picture
];

/// The words that a Rust block may have beside its language. `ignore` is not among it: such a block may say anything.
/// In a `test_harness` the functions that are tests are run.
const RUST_ATTRIBUTES: [&str; 4] = ["no_run", "should_panic", "compile_fail", "test_harness"];

/// The crates that documents are about: each is the first Rust block of its document, and other blocks use it.
const CRATES: [(&str, &str); 2] = [("my_app", "README.md"), ("my_shop", "docs/testing.md")];

/// Programs of others, whose arguments nobody here knows.
const OTHERS: [&str; 19] = [
    ".",
    "apt-get",
    "cd",
    "chmod",
    "curl",
    "eval",
    "export",
    "install",
    "journalctl",
    "kill",
    "mv",
    "openssl",
    "rabbitmqctl",
    "rm",
    "set",
    "systemctl",
    "tail",
    "useradd",
    "wait",
];

/// Every document of the repository, from its root.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/"] {
        let entries = std::fs::read_dir(repository().join(folder)).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("the folder can be read").file_name());
        let names = names.filter_map(|name| name.into_string().ok());
        found.extend(
            names
                .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
                .map(|name| format!("{folder}{name}")),
        );
    }
    found.sort();
    assert!(found.iter().any(|name| name == "README.md") && found.len() > 6, "{found:?}");
    found
}

/// Every block of these languages.
fn blocks(languages: &[&str]) -> Vec<Block> {
    let all = documents().into_iter().flat_map(|file| Block::all_of(&file));
    let found: Vec<Block> = all.filter(|block| languages.contains(&block.language())).collect();
    assert!(!found.is_empty(), "there are blocks in {languages:?}");
    found
}

#[test]
fn every_block_is_held_by_something() {
    let list = include_str!("../../src/documents.rs");
    for file in documents() {
        assert!(list.contains(&format!("include_str!(\"../../{file}\")")), "src/documents.rs leaves {file} out");
        for block in Block::all_of(&file) {
            let mut words = block.info.split(',');
            let language = words.next().unwrap_or_default();
            assert!(LANGUAGES.contains(&language), "{}: nothing checks blocks in {language:?}", block.place);
            let attributes: &[&str] = if language == "rust" { &RUST_ATTRIBUTES } else { &[] };
            assert!(words.all(|word| attributes.contains(&word)), "{}: {}", block.place, block.info);
        }
    }
}

#[test]
fn the_crates_that_documents_use_are_shown_there() {
    for (name, document) in CRATES {
        let first = Block::all_of(document).into_iter().find(|block| block.language() == "rust");
        let first = first.unwrap_or_else(|| panic!("{document} has a first example"));
        let path = repository().join("tests/fixtures").join(name).join("src/lib.rs");
        let library = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, library) = library.split_once("\n\n").expect("its head is one line");
        assert_eq!(library, first.text, "{} and {}", path.display(), first.place);
    }
}

#[test]
fn what_is_toml_can_be_used() {
    let folder = Folder::new("documents");
    for block in blocks(&["toml"]) {
        let table: Table = block.text.parse().unwrap_or_else(|error| panic!("{}: {error}", block.place));
        let dependencies = match table.get("dependencies").or_else(|| table.get("dev-dependencies")) {
            Some(dependencies) => Some(dependencies.as_table().expect("they are a table").clone()),
            None => table.contains_key("taskq").then(|| table.clone()),
        };
        match dependencies {
            Some(dependencies) => dependencies.iter().for_each(|(name, wanted)| check_dependency(&block, name, wanted)),
            None => {
                let path = folder.path().join("taskq.toml");
                std::fs::write(&path, &block.text).expect("the folder can be written");
                let settings = Settings::load(Some(&path)).unwrap_or_else(|error| panic!("{}: {error}", block.place));
                for (name, description) in &settings.schedule {
                    Entry::read(name, description, Origin::File(path.clone()))
                        .unwrap_or_else(|error| panic!("{}: {error}", block.place));
                }
            }
        }
    }
}

/// That a crate of ours is there, and one of others in this version; with these features.
fn check_dependency(block: &Block, name: &str, wanted: &Value) {
    let manifest = |path: &Path| -> Table {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.parse().expect("cargo reads it, too")
    };
    let workspace = manifest(&repository().join("Cargo.toml"));
    let Some(ours) = manifest_of(name).map(|path| manifest(&path)) else {
        let version = wanted.as_str().or_else(|| wanted.get("version")?.as_str());
        let version = version.unwrap_or_else(|| panic!("{}: {name} names no version", block.place));
        let known = &workspace["workspace"]["dependencies"];
        let known = known.get(name).unwrap_or_else(|| panic!("{}: who is {name}?", block.place));
        let there = known.as_str().or_else(|| known["version"].as_str()).expect("it is text");
        let is_same = format!("{there}.").starts_with(&format!("{version}."));
        return assert!(is_same, "{}: {name} {version} is not {there}", block.place);
    };
    // From a crate beside a clone. What crates.io has under these names is of others.
    let path = wanted.get("path").and_then(Value::as_str);
    assert_eq!(path, Some(format!("../taskq/{name}").as_str()), "{}: {name}", block.place);
    for feature in wanted.get("features").and_then(Value::as_array).into_iter().flatten() {
        let feature = feature.as_str().expect("features are text");
        assert!(ours["features"].get(feature).is_some(), "{}: {name} has no feature {feature}", block.place);
    }
}

fn manifest_of(package: &str) -> Option<std::path::PathBuf> {
    Some(repository().join(package).join("Cargo.toml")).filter(|path| package.starts_with("taskq") && path.is_file())
}

#[test]
fn commands_are_there_and_take_what_they_are_given() {
    for block in blocks(&["console", "sh"]) {
        let lines: Vec<String> = match block.language() {
            "console" => block.steps().into_iter().map(|step| step.command).collect(),
            _ => block.text.lines().map(str::to_owned).collect(),
        };
        for line in &lines {
            for command in commands(line) {
                check_command(&command).unwrap_or_else(|why| panic!("{}: {line}\n{why}", block.place));
            }
        }
    }
}

fn check_command(command: &[String]) -> Result<(), String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["taskq", ..] => taskq_cli::understands(&words),
        ["my_app", ..] => taskq_worker::understands(&words),
        ["cargo", "run", kind @ ("--bin" | "--example"), name, ..] => has_program(kind.trim_start_matches('-'), name),
        // The first is in a crate of the reader's.
        ["cargo", "run" | "build"] | ["cargo", "install", "taskq-cli"] => Ok(()),
        ["cargo", "test", "-p", "taskq-tests", "--test", binary, modules @ ..] => {
            let folder = repository().join("tests/tests").join(binary);
            let is_there = |module: &&str| folder.join(format!("{module}.rs")).is_file();
            let missing = ["main"].iter().chain(modules).find(|module| !is_there(module));
            missing.map_or(Ok(()), |module| Err(format!("there are no tests {module} in {binary}")))
        }
        ["sqlite3", words @ ..] => match words {
            ["-readonly", _, sql] | [_, sql] => check_sql(sql),
            _ => Err("this test knows `sqlite3 [-readonly] FILE SQL`".to_owned()),
        },
        [script, ..] if script.starts_with("scripts/") || script.starts_with(".ci/") => {
            let is_there = repository().join(script).is_file();
            is_there.then_some(()).ok_or_else(|| format!("there is no {script}"))
        }
        [other, ..] if OTHERS.contains(other) => Ok(()),
        _ => Err(format!("this test does not know {command:?}; tell it how to check that, or that it is of others")),
    }
}

/// Whether `examples/` has this program.
fn has_program(kind: &str, name: &str) -> Result<(), String> {
    let manifest = std::fs::read_to_string(repository().join("examples/Cargo.toml")).expect("the package has one");
    let is_there = manifest.contains(&format!("[[{kind}]]\nname = \"{name}\"\n"));
    is_there.then_some(()).ok_or_else(|| format!("examples/ has no {kind} {name}"))
}

/// Whether a file of ours has what this asks for.
fn check_sql(sql: &str) -> Result<(), String> {
    let folder = Folder::new("sql");
    let path = folder.path().join("taskq.db");
    let url = format!("sqlite:{}", path.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = runtime.block_on(Client::builder().broker(&url).results(&url).build()).expect("the file can be made");
    let connection = Connection::open(&path).expect("it is SQLite's");
    let outcome = connection.prepare(sql).map(drop).map_err(|error| error.to_string());
    runtime.block_on(client.close());
    outcome
}

/// systemd's format: sections, and keys with values.
#[test]
fn units_are_well_formed() {
    for block in blocks(&["ini"]) {
        let mut section = None;
        for line in block.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                assert!(["Unit", "Service", "Install"].contains(&name), "{}: {line}", block.place);
                section = Some(name);
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{}: {line}", block.place));
            assert!(section.is_some() && key.chars().all(char::is_alphanumeric), "{}: {line}", block.place);
            if key == "ExecStart" {
                let words: Vec<&str> = value.split(' ').collect();
                taskq_worker::understands(&words).unwrap_or_else(|why| panic!("{}: {line}\n{why}", block.place));
            }
        }
    }
}

#[test]
fn links_lead_somewhere() {
    for file in documents() {
        let text = std::fs::read_to_string(repository().join(&file)).expect("it was found");
        let folder = repository().join(&file).parent().expect("it is in a folder").to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            if path.starts_with("http") {
                continue;
            }
            let path = if path.is_empty() { repository().join(&file) } else { folder.join(path) };
            assert!(path.exists(), "{file}: {target} is not there");
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&path).expect("it is a document");
                let names = there.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(names.into_iter().any(|name| name == heading), "{file}: {target} has no such heading");
            }
        }
    }
}

/// The name that a heading has in links: `## Where a setting comes from` is `where-a-setting-comes-from`.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|sign| sign.is_alphanumeric() || matches!(sign, ' ' | '-' | '_'));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}
