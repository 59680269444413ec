//! The worker's engine from the inside: its layers, and who may see all of its shared state.

use crate::source;
use crate::tree::{Arrows, Tree};

const ENGINE: &str = "taskq-worker/src/engine/";

/// The rooms and files of the engine, lowest first. One imports only from lower lines, and from itself.
const LAYERS: [&[&str]; 15] = [
    &["crash", "lock", "phase"],
    &["observe"],
    &["prefetch", "reachability", "snapshot", "supervision"],
    &["run"],
    &["claims"],
    &["quarantine"],
    &["custody"],
    &["settle"],
    &["duplicates", "limits"],
    &["shared"],
    &["execution"],
    &["dispatcher", "drain", "upkeep"],
    &["control"],
    &["node"],
    &["worker", "builder"],
];

/// Two files that make and name each other's type, and count as one room.
const TWINS: [&str; 2] = ["worker", "builder"];

/// The type that holds everything that a worker's parts share, and the files that may name it. All others are built
/// with the three or four things that they need.
const SHARED: (&str, &[&str]) =
    ("Shared", &["shared.rs", "dispatcher.rs", "execution.rs", "worker.rs", "upkeep/tick.rs"]);

fn layer_of(file: &str) -> Option<(usize, &str)> {
    let room = file.strip_prefix(ENGINE)?.split('/').next()?.trim_end_matches(".rs");
    if room == "mod" {
        return None;
    }
    let layer = LAYERS.iter().position(|rooms| rooms.contains(&room));
    Some((layer.unwrap_or_else(|| panic!("{file} has no place among the engine's layers")), room))
}

fn upward(arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for (file, targets) in arrows {
        for (target, names) in targets {
            let (Some((from, room)), Some((to, other))) = (layer_of(file), layer_of(target)) else { continue };
            let are_twins = TWINS.contains(&room) && TWINS.contains(&other);
            if to > from || (to == from && room != other && !are_twins) {
                found.push(format!("{file} takes {names:?} of {target}, which is above it or beside it"));
            }
        }
    }
    found
}

#[test]
fn the_engines_layers_hold() {
    let found = upward(&Tree::of_crate("taskq-worker/src/lib.rs").arrows());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_the_story_names_what_is_shared() {
    let (name, allowed) = SHARED;
    for file in source::sources(ENGINE.trim_end_matches('/')) {
        let inside = file.strip_prefix(ENGINE).expect("the engine's files are in its folder");
        let code = source::without_tests(&source::code(&source::read(&file)));
        let names = source::words(&code).any(|(_, word)| word == name);
        let is_test = inside.starts_with("tests/") || inside.ends_with("/tests.rs");
        assert!(is_test || !names || allowed.contains(&inside), "{file} names {name}");
    }
}

#[test]
fn planted_ways_upward_are_found() {
    let sources = [
        ("lib.rs", "mod engine;"),
        ("engine/mod.rs", "mod execution; mod run; mod settle; mod worker;"),
        ("engine/run/mod.rs", "mod stop; pub struct Run(stop::Stop);"),
        ("engine/run/stop.rs", "pub struct Stop; use crate::engine::settle::End;"),
        ("engine/settle.rs", "use super::run::Run; pub struct End;"),
        ("engine/execution.rs", "use super::{run::Run, settle};"),
        ("engine/worker.rs", "use super::execution;"),
    ];
    let sources = sources.iter().map(|(file, source)| (format!("taskq-worker/src/{file}"), (*source).to_owned()));
    let tree = Tree::of_sources("taskq-worker/src/lib.rs", &sources.collect());
    let expected = "taskq-worker/src/engine/run/stop.rs takes {\"End\"} of taskq-worker/src/engine/settle.rs, which is above it or beside it";
    assert_eq!(upward(&tree.arrows()), [expected]);
}
