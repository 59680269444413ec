//! No circles: files that import one another cannot be read one after the other, nor moved one by one.
//!
//! Two shapes are allowed: a module with its own children, which are read together, and two files of one folder that
//! describe each other ("twins").

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Arrows, Tree};

/// Files that import one another, directly or through others of them.
type Circle<'a> = BTreeSet<&'a str>;

/// The circles among `files`, none of which is part of another.
fn circles<'a>(arrows: &'a Arrows, files: &BTreeSet<&'a str>) -> Vec<Circle<'a>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        files.iter().map(|file| (*file, reach(arrows, files, file))).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        if seen.contains(file) || !reached[file].contains(file) {
            continue;
        }
        let circle: Circle<'_> = reached[file].iter().copied().filter(|other| reached[other].contains(file)).collect();
        seen.extend(circle.iter().copied());
        found.push(circle);
    }
    found
}

/// The files that can be reached from `start` in one step or more.
fn reach<'a>(arrows: &'a Arrows, files: &BTreeSet<&'a str>, start: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(file) = waiting.pop() {
        for next in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if files.contains(next.as_str()) && found.insert(next.as_str()) {
                waiting.push(next);
            }
        }
    }
    found
}

/// Whether a circle is twins, or a module with its own children and twins among them.
fn is_allowed(tree: &Tree, arrows: &Arrows, circle: &Circle<'_>) -> bool {
    let parents = tree.parents();
    let families: BTreeSet<&[String]> = circle.iter().map(|file| parents[file]).collect();
    if circle.len() == 2 && families.len() == 1 {
        return true;
    }
    let parent = circle.iter().find(|file| {
        let path = tree.path_of(file);
        circle.iter().all(|other| other == *file || parents[other] == path)
    });
    parent.is_some_and(|parent| {
        let children: BTreeSet<&str> = circle.iter().copied().filter(|file| file != parent).collect();
        circles(arrows, &children).iter().all(|circle| is_allowed(tree, arrows, circle))
    })
}

/// The circles of a crate that are not allowed.
fn faults(tree: &Tree) -> Vec<String> {
    let arrows = tree.arrows();
    let files = arrows.keys().map(String::as_str).collect();
    let circles = circles(&arrows, &files);
    let faults = circles.iter().filter(|circle| !is_allowed(tree, &arrows, circle));
    faults.map(|circle| describe(&arrows, circle)).collect()
}

fn describe(arrows: &Arrows, circle: &Circle<'_>) -> String {
    let mut lines = vec![format!("{} files in a circle:", circle.len())];
    for from in circle {
        for (to, names) in arrows[*from].iter().filter(|(to, _)| circle.contains(to.as_str())) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

fn assert_no_circle(root: &str) {
    let tree = Tree::of_crate(root);
    let files = tree.arrows().len();
    assert!(files > 2, "only {files} files were found from {root} on");
    let faults = faults(&tree);
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

#[test]
fn no_circle_in_taskq() {
    assert_no_circle("taskq/src/lib.rs");
}

#[test]
fn no_circle_in_taskq_macros() {
    assert_no_circle("taskq-macros/src/lib.rs");
}

#[test]
fn no_circle_in_taskq_beat() {
    assert_no_circle("taskq-beat/src/lib.rs");
}

#[test]
fn no_circle_in_taskq_worker() {
    assert_no_circle("taskq-worker/src/lib.rs");
}

#[test]
fn no_circle_in_taskq_cli() {
    assert_no_circle("taskq-worker/cli-bin/src/lib.rs");
}

#[test]
fn no_circle_in_the_tests_harness() {
    assert_no_circle("tests/src/lib.rs");
}

/// The circles of a crate made of these files, each as its files.
#[cfg(test)]
fn planted(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(file, source)| (format!("x/{file}"), (*source).to_owned())).collect();
    faults(&Tree::of_sources("x/lib.rs", &sources))
}

#[test]
fn planted_circles_are_found() {
    let three = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "pub struct B; fn f() { super::c::C }"),
        ("c.rs", "use super::{a::{self}, b}; pub struct C; fn f() { a::A }"),
    ];
    assert_eq!(
        planted(&three),
        ["3 files in a circle:\n  x/a.rs -> x/b.rs: B\n  x/b.rs -> x/c.rs: C\n  x/c.rs -> x/a.rs: A"]
    );
    // Through names that a module passes on, and across rooms.
    let across = [
        ("lib.rs", "mod a; mod b; pub use a::A;"),
        ("a/mod.rs", "mod inner; pub(crate) use inner::A;"),
        ("a/inner.rs", "use crate::b::B; pub(crate) struct A;"),
        ("b.rs", "use crate::A; pub(crate) struct B;"),
    ];
    assert_eq!(planted(&across).len(), 1);
    // Through everything that another file has.
    let glob = [
        ("lib.rs", "mod a; mod b { pub mod c; }"),
        ("a.rs", "use crate::b::c::*; pub struct A; fn f(_: C) {}"),
        ("b/c.rs", "pub struct C(crate::a::A);"),
    ];
    assert_eq!(planted(&glob).len(), 1);
}

#[test]
fn families_twins_and_tests_are_allowed() {
    let family = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; mod c; pub use b::B; pub use c::C; pub trait A { fn f(_: B) -> C; }"),
        ("a/b.rs", "use super::A; pub struct B;"),
        ("a/c.rs", "use super::A; pub struct C;"),
    ];
    assert_eq!(planted(&family), [""; 0]);
    let twins = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::a::A; pub struct B;"),
    ];
    assert_eq!(planted(&twins), [""; 0]);
    // A table of contents does not depend on what it lists, and tests know everything.
    let contents = [
        ("lib.rs", "mod a; mod b; pub use a::A; pub use b::{B, port};"),
        ("a.rs", "use crate::{B, port}; pub struct A; #[cfg(test)] mod tests { use crate::b; }"),
        ("b.rs", "pub struct B; pub fn port() {} #[cfg(test)] use crate::A; #[cfg(test)] mod tests;"),
        ("b/tests.rs", "use crate::A;"),
    ];
    assert_eq!(planted(&contents), [""; 0]);
}
