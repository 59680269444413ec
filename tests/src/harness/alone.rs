//! Tests that need a process to themselves, though their binary runs many tests in one.

use std::process::Command;

/// The variable that tells a process which test it was started for.
const VARIABLE: &str = "TASKQ_TEST_ALONE";

/// Runs a test in a process of its own, for what belongs to the whole process: its working directory, its default
/// client, its threads. Takes the path of the test, `concat!(module_path!(), "::name")`. Returns true in the test's own
/// process, where the test goes on. Elsewhere it starts that process, waits for its end and returns false: the test has
/// passed, and returns.
///
/// ```no_run
/// # use taskq_tests::harness::in_own_process;
/// fn the_working_directory_can_be_changed() {
///     if !in_own_process(concat!(module_path!(), "::the_working_directory_can_be_changed")) {
///         return;
///     }
///     std::env::set_current_dir("/").expect("it exists");
/// }
/// ```
///
/// # Panics
///
/// If the test fails in its process, or there is no test of this path.
pub fn in_own_process(path: &str) -> bool {
    let (_, test) = path.split_once("::").expect("the path of a test begins with its binary");
    if std::env::var(VARIABLE).is_ok_and(|started_for| started_for == test) {
        return true;
    }
    let program = std::env::current_exe().expect("the program of a running process has a path");
    let arguments = ["--exact", test, "--include-ignored", "--nocapture"];
    let output = Command::new(program).args(arguments).env(VARIABLE, test).output().expect("it can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} failed in a process of its own\n{stdout}\n{stderr}"
    );
    false
}
