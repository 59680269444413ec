//! `#[task]`: what it refuses and how it says so, and what comes of what it accepts.

use std::path::Path;
use std::process::Command;

#[path = "macros/pass/mod.rs"]
mod pass;

/// Each file is a mistake or a family of them, each `.stderr` what the compiler says. After a change of words, let
/// `TRYBUILD=overwrite` write them anew, and read every one as somebody would who made the mistake.
#[test]
fn every_mistake_is_answered_with_its_mend() {
    let cases = trybuild::TestCases::new();
    let ours_to_word = same_compiler();
    for entry in std::fs::read_dir("tests/macros/fail").expect("the mistakes are part of the repository") {
        let path = entry.expect("the folder is readable").path();
        if path.extension().is_some_and(|extension| extension == "rs") && (ours_to_word || !worded_by_compiler(&path)) {
            cases.compile_fail(path);
        }
    }
}

/// The compiler whose words are in those `.stderr` files that are not the macro's alone.
const WORDED_BY: &str = "rustc 1.95.";

/// Whether this is the compiler that worded them; others word their part differently, which says nothing about us.
fn same_compiler() -> bool {
    let output = Command::new("rustc").arg("--version").output().expect("rustc can be started: it built this test");
    let version = String::from_utf8_lossy(&output.stdout);
    let same = version.starts_with(WORDED_BY);
    if !same {
        println!("skipped: messages that the compiler words, recorded with {WORDED_BY}x; this is {version}");
    }
    same
}

/// Whether the expected message has a part with a code, which only the compiler gives.
fn worded_by_compiler(case: &Path) -> bool {
    let expected = std::fs::read_to_string(case.with_extension("stderr"));
    expected.expect("each mistake has its message").contains("error[E")
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
