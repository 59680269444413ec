//! The error messages of `#[task]`: each file in `ui` is a mistake or a family of mistakes, and its `.stderr` is the
//! output of the compiler.
//!
//! The tests are in this crate because its dependencies are few: trybuild checks all of them again, in a target
//! directory of its own.

use std::path::Path;
use std::process::Command;

/// Compares each mistake with its recorded message. After a change of wording, let `TRYBUILD=overwrite` record the
/// messages again, and read each of them as somebody would who made the mistake.
#[test]
fn every_mistake_is_answered_with_its_remedy() {
    let cases = trybuild::TestCases::new();
    let same_compiler = same_compiler();
    for entry in std::fs::read_dir("tests/ui").expect("the mistakes are part of the repository") {
        let path = entry.expect("the folder is readable").path();
        if path.extension().is_some_and(|extension| extension == "rs") && (same_compiler || !worded_by_compiler(&path))
        {
            cases.compile_fail(path);
        }
    }
}

/// The compiler that worded those `.stderr` files that are not the macro's alone.
const WORDED_BY: &str = "rustc 1.95.";

/// Whether this compiler worded the recorded messages. Other versions word their part differently, which says nothing
/// about the macro.
fn same_compiler() -> bool {
    let output = Command::new("rustc").arg("--version").output().expect("rustc can be started: it built this test");
    let version = String::from_utf8_lossy(&output.stdout);
    let same = version.starts_with(WORDED_BY);
    if !same {
        println!("skipped: messages that the compiler words, recorded with {WORDED_BY}x; this is {version}");
    }
    same
}

/// Whether the expected message has a part with an error code, which only the compiler gives.
fn worded_by_compiler(case: &Path) -> bool {
    let expected = std::fs::read_to_string(case.with_extension("stderr"));
    expected.expect("each mistake has its message").contains("error[E")
}
