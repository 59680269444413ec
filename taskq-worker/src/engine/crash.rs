//! Named points at which a test may end the process as `kill -9` would.

/// Ends the process here, if the failpoint `name` is set to `return`. Without the feature `failpoints` this is nothing.
pub(super) fn point(name: &'static str) {
    fail::fail_point!(name, |_| std::process::abort());
    let _ = name;
}
