//! Who may know whom. Reads the paths in the sources of all crates and holds the table of `ARCHITECTURE.md`: rooms import
//! only what is below them, and each outside library has one home.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// The rooms of `taskq`, lowest first. A room may import from those on lower lines, and from itself.
const LAYERS: [&[&str]; 11] = [
    &["io", "redact"],
    &["clock"],
    &["message"],
    &["task"],
    &["codec", "sqlite"],
    &["canvas", "attempt"],
    &["broker", "backend"],
    &["error"],
    &["client"],
    &["testing"],
    &["conformance"],
];

/// The same for `taskq-beat`. What decides imports nothing of what acts.
const LAYERS_OF_BEAT: [&[&str]; 5] = [&["schedule"], &["entry"], &["agenda", "due"], &["leader", "store"], &["beat"]];

/// Paths that a room may name although they lead upward, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("error", "crate::client::ConfigError", "the client's error names every cause there is")];

/// A crate of the workspace: its folder, its name in paths, and the crates of the workspace that it may import.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("taskq-macros", "taskq_macros", &[]),
    ("taskq", "taskq", &["taskq_macros"]),
    ("taskq-beat", "taskq_beat", &["taskq"]),
    ("taskq-worker/cli-bin", "taskq_cli", &["taskq", "taskq_worker"]),
    ("taskq-worker", "taskq_worker", &["taskq", "taskq_beat"]),
    ("examples", "taskq_examples", &["taskq", "taskq_beat", "taskq_worker"]),
    ("tests", "taskq_tests", &["taskq", "taskq_beat", "taskq_worker", "taskq_cli"]),
];

/// The home of each outside library that has one, as beginnings of paths.
const HOMES: [(&str, &[&str]); 10] = [
    ("lapin", &["taskq/src/broker/amqp/"]),
    ("redis", &["taskq/src/backend/redis/"]),
    ("rusqlite", &["taskq/src/sqlite/", "taskq/src/broker/sqlite", "taskq/src/backend/sqlite"]),
    ("inventory", &["taskq/src/task/registry.rs"]),
    ("cron", &["taskq-beat/src/schedule/cron.rs"]),
    ("chrono_tz", &["taskq-beat/src/schedule/"]),
    ("clap", &["taskq-worker/src/cli/", "taskq-worker/cli-bin/src/commands/"]),
    ("libc", &["taskq-worker/src/recorder/"]),
    ("tracing_subscriber", &["taskq-worker/src/telemetry"]),
    ("rustix", &["taskq-worker/src/supervise/unix.rs"]),
];

/// Torture, and the files of its crate that may name it: it does to taskq what strangers do, and nothing depends on it.
const TORTURE: (&str, &[&str]) =
    ("crate::torture", &["taskq-worker/cli-bin/src/torture", "taskq-worker/cli-bin/src/commands/"]);

/// The supervisor must not be able to do what could hang or crash it: it connects to nothing and runs no tasks. So it may
/// import nothing of ours but itself and the recorder that it reads.
const SUPERVISOR: (&str, [&str; 2]) = ("taskq-worker/src/supervise/", ["crate::supervise::", "crate::recorder"]);

/// Something that is not as the table says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    imports: String,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} imports {}: {}", self.file, self.imports, self.rule)
    }
}

/// What is wrong with one file, whose path is from the workspace's root.
fn violations(file: &str, source: &str) -> Vec<Violation> {
    let found = paths(&without_comments(source));
    let violation =
        |imports: &str, rule: String| Violation { file: file.to_owned(), imports: imports.to_owned(), rule };
    let mut violations = Vec::new();
    let is_in = |folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let (package, own_name, allowed) =
        CRATES.iter().find(|(folder, ..)| is_in(folder)).expect("every folder of sources is in the table");
    for path in &found {
        let first = path.split("::").next().unwrap_or_default();
        let is_ours = CRATES.iter().any(|(_, name, _)| *name == first);
        if is_ours && first != *own_name && !allowed.contains(&first) {
            violations.push(violation(path, format!("{package} may import {allowed:?} only")));
        }
        // Tests and examples may talk to servers as strangers do.
        let home = HOMES.iter().find(|(library, _)| *library == first);
        if let Some((library, homes)) = home
            && package.starts_with("taskq")
            && !homes.iter().any(|home| file.starts_with(home))
        {
            violations.push(violation(path, format!("{library} lives in {homes:?} only")));
        }
    }
    let (supervisor, allowed) = SUPERVISOR;
    if file.starts_with(supervisor) {
        for path in &found {
            let first = path.split("::").next().unwrap_or_default();
            let is_ours = CRATES.iter().any(|(_, name, _)| *name == first);
            if is_ours || (first == "crate" && !allowed.iter().any(|room| path.starts_with(room))) {
                violations.push(violation(path, "the supervisor imports nothing of ours".to_owned()));
            }
        }
    }
    let (torture, its_files) = TORTURE;
    if file.starts_with("taskq-worker/") && !its_files.iter().any(|home| file.starts_with(home)) {
        let named = found.iter().filter(|path| path.starts_with(torture));
        violations
            .extend(named.map(|path| violation(path, "torture is reached from the command line only".to_owned())));
    }
    if let Some((layers, room)) = room_of(file) {
        for path in &found {
            // A path that is not from the crate's root stays in its room, or names an outside crate.
            let Some(target) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else { continue };
            let is_exception = EXCEPTIONS.iter().any(|(from, to, _)| *from == room && to == path);
            if !may_import(layers, room, target) && !is_exception {
                violations.push(violation(path, format!("{room} is below {target}, or beside it")));
            }
        }
    }
    violations
}

/// The rooms of one crate, lowest first.
type Layers = [&'static [&'static str]];

/// The room of a file of `taskq` or `taskq-beat`, among which others. The crate's root, which binds them together, is in
/// none.
fn room_of(file: &str) -> Option<(&'static Layers, &str)> {
    let (layers, rest): (&Layers, _) = match file.strip_prefix("taskq/src/") {
        Some(rest) => (&LAYERS, rest),
        None => (&LAYERS_OF_BEAT, file.strip_prefix("taskq-beat/src/")?),
    };
    let room = rest.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some((layers, room))
}

fn layer_of(layers: &Layers, room: &str) -> Option<usize> {
    layers.iter().position(|rooms| rooms.contains(&room))
}

fn may_import(layers: &Layers, room: &str, target: &str) -> bool {
    // What is no room is one of the names that the crate's root passes on, or a macro.
    let Some(below) = layer_of(layers, target) else { return true };
    let above = layer_of(layers, room).unwrap_or_else(|| panic!("the room {room} has no place in the table"));
    room == target || below < above
}

/// The source without comments and texts, so that only code is left.
fn without_comments(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(letter) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_text(rest) {
            let end = format!("\"{hashes}");
            let start = 2 + hashes.len();
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if letter == '"' {
            text_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(letter);
            letter.len_utf8()
        };
        rest = &rest[taken..];
    }
    code
}

/// The hashes of the raw text that `rest` begins with, if it does.
fn raw_text(rest: &str) -> Option<&str> {
    let after = rest.strip_prefix('r')?;
    let hashes = &after[..after.len() - after.trim_start_matches('#').len()];
    after[hashes.len()..].starts_with('"').then_some(hashes)
}

/// The length of the text in quotation marks that `rest` begins with.
fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Every path of two words or more in `code`, trees of `use` spelled out.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find("::") {
        let start = rest[..at].rfind(|letter: char| !is_word(letter)).map_or(0, |before| before + 1);
        let prefix = &rest[start..at];
        let end = at + read_tree(prefix, &rest[at..], &mut found);
        rest = &rest[end..];
    }
    found
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Reads what follows `prefix`, from `::` on, and says how long it is.
fn read_tree(prefix: &str, rest: &str, found: &mut BTreeSet<String>) -> usize {
    let after = &rest[2..];
    if !after.starts_with('{') {
        let word = after.len() - after.trim_start_matches(is_word).len();
        let path = format!("{prefix}::{}", &after[..word]);
        if after[word..].starts_with("::") {
            return 2 + word + read_tree(&path, &after[word..], found);
        }
        found.insert(path);
        return 2 + word;
    }
    let mut at = 1;
    while at < after.len() {
        let letter = after[at..].chars().next().expect("there is more");
        if letter == '}' {
            return 2 + at + 1;
        }
        if is_word(letter) {
            let word = after[at..].len() - after[at..].trim_start_matches(is_word).len();
            let path = format!("{prefix}::{}", &after[at..at + word]);
            at += word;
            if after[at..].starts_with("::") {
                at += read_tree(&path, &after[at..], found);
            } else {
                found.insert(path);
                if let Some(alias) = after[at..].strip_prefix(" as ") {
                    at += " as ".len() + alias.len() - alias.trim_start_matches(is_word).len();
                }
            }
        } else {
            at += letter.len_utf8();
        }
    }
    2 + at
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All sources below `folder`, as paths from the workspace's root.
fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("the workspace's folders can be read") {
            let entry = entry.expect("the workspace's folders can be read");
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().expect("files have a type").is_dir() {
                folders.push(path);
            } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn imports_go_downward_and_libraries_stay_at_home() {
    // The fixtures of the macro's tests are crates of their own.
    let folders = CRATES.iter().map(|(folder, ..)| match *folder {
        "examples" => "examples".to_owned(),
        "tests" => "tests/tests".to_owned(),
        folder => format!("{folder}/src"),
    });
    let files: Vec<String> = folders.flat_map(|folder| sources(&folder)).collect();
    assert!(files.len() > 80, "only {} sources were found", files.len());
    let mut all = Vec::new();
    for file in &files {
        let source = std::fs::read_to_string(root().join(file)).expect("sources can be read");
        all.extend(violations(file, &source));
    }
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    for (room, path, reason) in EXCEPTIONS {
        let named = |file: &String| {
            let source = std::fs::read_to_string(root().join(file)).expect("sources can be read");
            room_of(file).is_some_and(|(_, found)| found == room) && paths(&without_comments(&source)).contains(path)
        };
        assert!(sources("taskq/src").iter().any(named), "{room} does not name {path} any more ({reason})");
    }
}

#[test]
fn every_home_is_lived_in() {
    // A library that moved would leave an empty rule behind, which nothing can break.
    for (library, homes) in &HOMES {
        let lives = |file: &String| {
            let source = std::fs::read_to_string(root().join(file)).expect("sources can be read");
            homes.iter().any(|home| file.starts_with(home))
                && paths(&without_comments(&source)).iter().any(|path| path.split("::").next() == Some(library))
        };
        let all = ["taskq/src", "taskq-beat/src", "taskq-worker/src", "taskq-worker/cli-bin/src"]
            .into_iter()
            .flat_map(sources);
        assert!(all.into_iter().any(|file| lives(&file)), "{library} is not used in {homes:?}");
    }
}

#[test]
fn planted_violations_are_found() {
    let rules = |file: &str, source: &str| {
        violations(file, source).iter().map(|found| found.imports.clone()).collect::<Vec<_>>()
    };
    for (file, source, expected) in [
        ("taskq/src/message/ids.rs", "use crate::client::Client;", &["crate::client::Client"][..]),
        ("taskq/src/message/ids.rs", "fn f() { crate::codec::decode(x) }", &["crate::codec::decode"]),
        (
            "taskq/src/codec/mod.rs",
            "use crate::{message::Record, broker::{self, amqp::Link}};",
            &["crate::broker::amqp::Link", "crate::broker::self"],
        ),
        (
            "taskq/src/broker/mod.rs",
            "use crate::backend::{\n    Kv,\n    Put as P,\n};",
            &["crate::backend::Kv", "crate::backend::Put"],
        ),
        ("taskq/src/client/mod.rs", "use lapin::Channel;", &["lapin::Channel"]),
        ("taskq/src/broker/memory/mod.rs", "fn f(_: &redis::Client) {}", &["redis::Client"]),
        ("taskq-worker/src/engine/worker.rs", "#[derive(clap::Args)] struct A;", &["clap::Args"]),
        ("taskq-beat/src/due/mod.rs", "use cron::Schedule;", &["cron::Schedule"]),
        ("taskq-beat/src/agenda.rs", "use crate::due::Decision;", &["crate::due::Decision"]),
        ("taskq-beat/src/schedule/mod.rs", "use crate::{entry::Entry};", &["crate::entry::Entry"]),
        ("taskq-worker/src/supervise/group.rs", "use crate::engine::Worker;", &["crate::engine::Worker"]),
        ("taskq-worker/src/supervise/group.rs", "taskq::internal::io::spawn(x)", &["taskq::internal::io::spawn"]),
        ("taskq-worker/src/engine/worker.rs", "rustix::process::getpid()", &["rustix::process::getpid"]),
        ("taskq-worker/src/cli/worker.rs", "use taskq_cli::torture;", &["taskq_cli::torture"]),
        ("taskq-worker/cli-bin/src/bench.rs", "use crate::torture::run;", &["crate::torture::run"]),
        ("taskq-worker/cli-bin/src/torture/tasks.rs", "use clap::Args;", &["clap::Args"]),
        ("taskq/src/task/mod.rs", "taskq_worker::main()", &["taskq_worker::main"]),
        ("taskq-macros/src/lib.rs", "use taskq::Call;", &["taskq::Call"]),
        // None of these is one.
        ("taskq/src/client/mod.rs", "use crate::{broker::Broker, error::Error, message::TaskId};", &[]),
        (
            "taskq/src/message/mod.rs",
            "// use crate::client::Client;\nuse super::ids;\n/* lapin::X */ const A: &str = \"redis::Y\";",
            &[],
        ),
        (
            "taskq/src/message/mod.rs",
            "const A: &str = r#\"crate::client::\"#; const Q: char = '\"'; use crate::message::ids;",
            &[],
        ),
        ("taskq/src/broker/amqp/link.rs", "use lapin::{Channel, options::{BasicGetOptions, BasicAckOptions}};", &[]),
        ("taskq-beat/src/due/mod.rs", "use crate::schedule::Schedule;", &[]),
        ("taskq-worker/src/supervise/group/look.rs", "use crate::supervise::policy;", &[]),
        ("taskq-worker/cli-bin/src/commands/bench.rs", "use clap::Args; use taskq_worker::Worker;", &[]),
        ("tests/tests/process.rs", "use lapin::Channel; use taskq_worker::Worker;", &[]),
    ] {
        assert_eq!(rules(file, source), expected, "{file}: {source}");
    }
}
