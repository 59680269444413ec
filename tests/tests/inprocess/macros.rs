//! `#[task]`: the tasks that it accepts, and the crates that it works in. Its error messages are tested in
//! `taskq-macros/tests/mistakes.rs`.

use std::path::Path;
use std::process::Command;

#[path = "macros/pass/mod.rs"]
mod pass;

/// A crate of another edition that knows taskq by another name and denies all lints must compile with the code
/// that the macro writes.
#[test]
fn a_strict_crate_of_another_edition_may_rename_taskq() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/renamed");
    // What is built already for the workspace need not be built again.
    let profile = Path::new(env!("CARGO_BIN_EXE_shop")).parent().expect("a program is in a folder");
    let target = profile.parent().expect("the folder of a profile is in the target folder").to_owned();
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
