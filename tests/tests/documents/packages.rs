//! The packages that a program which only enqueues has to build.

use std::collections::BTreeSet;
use std::process::Command;

use taskq_tests::harness::repository;

/// How many packages a lean producer may need.
const PACKAGES_MAX: usize = 90;

/// The packages of workers, and of servers that a producer does not talk to.
const FOREIGN: [&str; 8] =
    ["clap", "rustls", "tracing-subscriber", "rusqlite", "libsqlite3-sys", "redis", "indicatif", "taskq-worker"];

/// The names of all packages that are built for `taskq` with these features.
fn packages(features: &str) -> BTreeSet<String> {
    let arguments = [
        "tree",
        "--offline",
        "--locked",
        "-p",
        "taskq",
        "--no-default-features",
        "--features",
        features,
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(workspace).output().expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    // A package that was printed before is marked at the end of its line: name and version come first.
    lines
        .lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect()
}

fn names(packages: &BTreeSet<String>) -> BTreeSet<&str> {
    packages.iter().map(|package| package.split(' ').next().unwrap_or_default()).collect()
}

#[test]
fn a_producer_builds_little() {
    let lean = packages("macros,amqp");
    println!("a producer with macros and amqp builds {} packages", lean.len());
    assert!(lean.len() <= PACKAGES_MAX, "{} packages are more than {PACKAGES_MAX}: {lean:?}", lean.len());
    let names = names(&lean);
    assert!(names.contains("lapin") && names.contains("taskq-macros"), "{names:?}");
    for foreign in FOREIGN {
        assert!(!names.contains(foreign), "a producer has no use for {foreign}");
    }
}

#[test]
fn tls_adds_as_many_packages_as_the_readme_says() {
    let added = packages("macros,amqp,tls").len() - packages("macros,amqp").len();
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("it is there");
    let said = format!("the feature `tls` adds {added} packages");
    assert!(readme.contains(&said), "README.md does not say that {said}");
}

#[test]
fn a_library_comes_with_its_feature() {
    // So that the test above cannot pass by looking for names that nothing has.
    let full = packages("macros,amqp,redis");
    assert!(names(&full).contains("redis"));
}
