//! The programs of `examples/`, and a terminal to run them on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{App, Finished, Folder, repository};

/// An example, by its name; built first if need be. Cargo gives a test only the programs of its own package.
///
/// # Panics
///
/// If it cannot be built.
pub fn example(name: &str) -> App {
    App::new(built().join("examples").join(name))
}

/// The quickstart; as [`example`].
///
/// # Panics
///
/// If it cannot be built.
pub fn quickstart() -> App {
    App::new(built().join("quickstart"))
}

/// `taskq`, the command line without tasks. Cargo gives a test only the programs of its own package.
///
/// # Panics
///
/// If it cannot be built.
pub fn taskq() -> App {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    App::new(PROGRAM.get_or_init(|| {
        let folder = profile();
        // Both packages are named so that features, and with them what is built already, are the same as here.
        let packages = ["--package", "taskq-tests", "--package", "taskq-cli", "--bin", "taskq"];
        build_into(&folder, &packages);
        folder.join("taskq")
    }))
}

/// The folder of this profile, with the programs in it.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let profile = profile();
        // All packages, so that features, and with them what is built already, are those of a test of the workspace.
        build_into(&profile, &["--workspace", "--examples", "--bin", "quickstart"]);
        profile
    })
}

/// A test is in `deps` of its profile's folder, which is in the target folder.
fn profile() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(2).expect("a test is two folders below its profile's").to_owned()
}

fn build_into(profile: &Path, what: &[&str]) {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked"]).args(what);
    build.arg("--target-dir").arg(profile.parent().expect("a profile's folder is in the target folder"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let status = build.current_dir(repository()).status().expect("cargo can be run");
    assert!(status.success(), "{what:?} cannot be built");
}

/// Runs a shell script in this folder, on a terminal of its own: programs answer as they do to a person, with tables in
/// place of JSON, and what they write to stderr stands where a person sees it. The script finds the examples by their
/// names.
///
/// # Panics
///
/// If it does not end within [`BOUND`](super::BOUND).
pub fn on_terminal(folder: &Folder, script: &str) -> Finished {
    let python = std::env::var("TASKQ_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let path = std::env::var("PATH").unwrap_or_default();
    let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/python/terminal.py");
    let app = App::new(python).folder(folder).env("PATH", &format!("{}:{path}", built().join("examples").display()));
    let mut finished = app.run(&[terminal, "-c", script]);
    // A terminal ends its lines with two signs.
    finished.stdout = finished.stdout.replace("\r\n", "\n");
    finished
}
