//! `#[task]`: what it refuses and how it says so, and what comes of what it accepts.

use std::path::Path;
use std::process::Command;

#[path = "macros/pass/mod.rs"]
mod pass;

/// Each file is a mistake or a family of them, each `.stderr` what the compiler says. After a change of words, let
/// `TRYBUILD=overwrite` write them anew, and read every one as somebody would who made the mistake.
#[test]
fn every_mistake_is_answered_with_its_mend() {
    trybuild::TestCases::new().compile_fail("tests/macros/fail/*.rs");
}

/// A crate of another edition that knows taskq by another name and denies all lints: nothing that the macro writes
/// may be in its way.
#[test]
fn a_strict_crate_of_another_edition_may_rename_taskq() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/renamed");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed");
    // The workspace's own versions: those are on this machine, whatever is newest elsewhere.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    std::fs::copy(lock, fixture.join("Cargo.lock")).expect("the workspace has been built, so it is locked");
    let cargo = |command: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg(command).current_dir(&fixture).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    // Clippy's lints are denied there, too, where clippy is installed.
    let has_clippy = cargo("clippy").arg("--version").output().is_ok_and(|output| output.status.success());
    let output = cargo(if has_clippy { "clippy" } else { "check" })
        .args(["--offline", "--all-targets"])
        .output()
        .expect("cargo can be started: it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
