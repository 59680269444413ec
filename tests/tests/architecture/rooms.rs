//! Rooms and homes: the tables of `ARCHITECTURE.md`. A room imports only from rooms below it, and each outside library
//! has one home.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::source::{self, code, paths};
use crate::tree::{Arrows, Tree};

/// The rooms of one crate, lowest first. A room may import from those on lower lines, and from itself.
type Layers = &'static [&'static [&'static str]];

/// The rooms of each crate, by the folder of its sources. The crate's root and `internal`, which bind rooms together,
/// are in none.
const ROOMS: [(&str, Layers); 4] = [
    (
        "taskq/src",
        &[
            &["access", "fault", "hash", "redact", "shortage", "shown"],
            &["io"],
            &["clock", "tls"],
            &["message"],
            &["definition", "remote"],
            &["codec", "sqlite"],
            &["protection"],
            &["canvas", "attempt"],
            &["broker", "backend"],
            &["settings"],
            &["error"],
            &["client"],
            &["testing"],
            &["conformance"],
        ],
    ),
    // The parts that decide import nothing of those that act.
    ("taskq-beat/src", &[&["schedule", "versioned"], &["entry"], &["agenda", "due"], &["leader", "store"], &["beat"]]),
    ("taskq-worker/cli-bin/src", &[&["bench", "torture"], &["commands"]]),
    ("taskq-worker/src", &[&["recorder", "remote"], &["engine", "supervise", "telemetry"], &["cli"]]),
];

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

/// The folders of sources that ship.
pub(crate) const FOLDERS: [&str; 5] =
    ["taskq/src", "taskq-macros/src", "taskq-beat/src", "taskq-worker/src", "taskq-worker/cli-bin/src"];

/// The home of each outside library that has one, as beginnings of paths.
const HOMES: [(&str, &[&str]); 19] = [
    ("lapin", &["taskq/src/broker/amqp/"]),
    ("async_rs", &["taskq/src/broker/amqp/transport.rs"]),
    ("futures_io", &["taskq/src/broker/amqp/transport.rs"]),
    ("hmac", &["taskq/src/protection/"]),
    ("sha2", &["taskq/src/protection/"]),
    ("ed25519_dalek", &["taskq/src/protection/"]),
    ("chacha20poly1305", &["taskq/src/protection/"]),
    ("getrandom", &["taskq/src/protection/"]),
    ("redis", &["taskq/src/backend/redis/"]),
    ("tokio_rustls", &["taskq/src/tls/"]),
    ("rustls_native_certs", &["taskq/src/tls/files.rs"]),
    ("rusqlite", &["taskq/src/sqlite/", "taskq/src/broker/sqlite", "taskq/src/backend/sqlite"]),
    ("inventory", &["taskq/src/definition/registry.rs"]),
    ("cron", &["taskq-beat/src/schedule/cron.rs"]),
    ("chrono_tz", &["taskq-beat/src/schedule/"]),
    ("clap", &["taskq-worker/src/cli/", "taskq-worker/cli-bin/src/commands/"]),
    ("libc", &["taskq-worker/src/recorder/", "taskq-worker/src/cli/signals/"]),
    ("tracing_subscriber", &["taskq-worker/src/telemetry"]),
    ("rustix", &["taskq-worker/src/supervise/unix.rs"]),
];

/// Torture, and the files of its crate that may name it: it does to taskq what strangers do, and nothing depends on it.
const TORTURE: (&str, &[&str]) =
    ("crate::torture", &["taskq-worker/cli-bin/src/torture", "taskq-worker/cli-bin/src/commands/"]);

/// The supervisor must not be able to do anything that could hang or crash it: it connects to nothing and runs no
/// tasks. So it may import nothing of ours but itself and the recorder that it reads.
const SUPERVISOR: (&str, [&str; 2]) = ("taskq-worker/src/supervise/", ["crate::supervise::", "crate::recorder"]);

/// An import that the tables forbid.
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

/// The violations of one file, whose path is from the workspace's root, as far as its text shows them.
fn violations(file: &str, source: &str) -> Vec<Violation> {
    let found = paths(&code(source));
    let violation =
        |imports: &str, rule: String| Violation { file: file.to_owned(), imports: imports.to_owned(), rule };
    let mut violations = Vec::new();
    let is_in = |folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let (package, own_name, allowed) =
        CRATES.iter().find(|(folder, ..)| is_in(folder)).expect("every folder of sources is in the table");
    let is_ours = |first: &str| CRATES.iter().any(|(_, name, _)| *name == first);
    for path in &found {
        let first = path.split("::").next().unwrap_or_default();
        if is_ours(first) && first != *own_name && !allowed.contains(&first) {
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
            if is_ours(first) || (first == "crate" && !allowed.iter().any(|room| path.starts_with(room))) {
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
            if !may_import(layers, room, target) {
                violations.push(violation(path, format!("{room} is below {target}, or beside it")));
            }
        }
    }
    violations
}

/// The imports that lead upward between the rooms of a crate, however their paths begin and through whichever name that
/// a room passes on they go.
fn upward(arrows: &Arrows) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, targets) in arrows {
        for (target, names) in targets {
            let (Some((layers, room)), Some((_, target_room))) = (room_of(file), room_of(target)) else { continue };
            if !may_import(layers, room, target_room) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                found.push(Violation {
                    file: file.clone(),
                    imports: format!("{} of {target}", names.join(", ")),
                    rule: format!("{room} is below {target_room}, or beside it"),
                });
            }
        }
    }
    found
}

/// The room of a file, among those of its crate.
fn room_of(file: &str) -> Option<(Layers, &str)> {
    let (rest, layers) =
        ROOMS.iter().find_map(|(folder, layers)| Some((file.strip_prefix(folder)?.strip_prefix('/')?, layers)))?;
    let room = rest.split('/').next()?.trim_end_matches(".rs");
    (!["lib", "main", "bin", "internal"].contains(&room)).then_some((layers, room))
}

fn layer_of(layers: Layers, room: &str) -> Option<usize> {
    layers.iter().position(|rooms| rooms.contains(&room))
}

fn may_import(layers: Layers, room: &str, target: &str) -> bool {
    // What is no room is one of the names that the crate's root passes on, or a macro.
    let Some(below) = layer_of(layers, target) else { return true };
    let above = layer_of(layers, room).unwrap_or_else(|| panic!("the room {room} has no place in the table"));
    room == target || below < above
}

#[test]
fn imports_go_downward_and_libraries_stay_at_home() {
    let mut files: Vec<String> = FOLDERS.into_iter().flat_map(source::sources).collect();
    // The fixtures are crates of their own.
    files.extend(["examples", "tests/src", "tests/tests"].into_iter().flat_map(source::sources));
    assert!(files.len() > 200, "only {} sources were found", files.len());
    let mut all: Vec<Violation> = files.iter().flat_map(|file| violations(file, &source::read(file))).collect();
    for (folder, _) in &ROOMS {
        all.extend(upward(&Tree::of_crate(&format!("{folder}/lib.rs")).arrows()));
    }
    all.sort();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn every_home_is_lived_in() {
    // A library that moved would leave an empty rule behind, which nothing can break.
    let all: Vec<String> = FOLDERS.into_iter().flat_map(source::sources).collect();
    for (library, homes) in &HOMES {
        let lives = |file: &String| {
            homes.iter().any(|home| file.starts_with(home))
                && paths(&code(&source::read(file))).iter().any(|path| path.split("::").next() == Some(library))
        };
        assert!(all.iter().any(lives), "{library} is not used in {homes:?}");
    }
}

#[test]
fn every_room_of_the_tables_exists() {
    for (folder, layers) in &ROOMS {
        let files = source::sources(folder);
        for room in layers.iter().copied().flatten() {
            let lives = |file: &String| room_of(file).is_some_and(|(_, found)| found == *room);
            assert!(files.iter().any(lives), "{folder} has no room {room}");
        }
    }
}

#[test]
fn planted_violations_are_found() {
    // One import may break two rules.
    let rules = |file: &str, source: &str| {
        let found: BTreeSet<String> = violations(file, source).into_iter().map(|found| found.imports).collect();
        found.into_iter().collect::<Vec<_>>()
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
        ("taskq-worker/src/recorder/mod.rs", "use crate::engine::Worker;", &["crate::engine::Worker"]),
        ("taskq-worker/cli-bin/src/bench.rs", "use crate::torture::run;", &["crate::torture::run"]),
        ("taskq-worker/cli-bin/src/torture/tasks.rs", "use clap::Args;", &["clap::Args"]),
        ("taskq/src/error.rs", "use crate::client::Client;", &["crate::client::Client"]),
        ("taskq/src/definition/mod.rs", "taskq_worker::main()", &["taskq_worker::main"]),
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

#[test]
fn planted_ways_upward_are_found() {
    let sources: BTreeMap<String, String> = [
        ("lib.rs", "mod client; mod message; pub mod internal; pub use client::Client;"),
        ("internal.rs", "pub fn client() -> crate::Client {}"),
        ("client/mod.rs", "mod call; pub use call::Client;"),
        ("client/call.rs", "use crate::message::Id; pub struct Client;"),
        ("message/mod.rs", "mod ids; pub use ids::Id;"),
        ("message/ids.rs", "pub struct Id(crate::Client); fn f() { super::super::client::Client }"),
    ]
    .into_iter()
    .map(|(file, source)| (format!("taskq/src/{file}"), source.to_owned()))
    .collect();
    let found: Vec<String> =
        upward(&Tree::of_sources("taskq/src/lib.rs", &sources).arrows()).iter().map(ToString::to_string).collect();
    let expected =
        "taskq/src/message/ids.rs imports Client of taskq/src/client/call.rs: message is below client, or beside it";
    assert_eq!(found, [expected]);
}
