//! The longest values that are logged.

use taskq::internal::shown::{NAME_MAX, TEXT_MAX};

/// The target of panics.
pub(super) const PANICS: &str = "taskq::panic";

/// The field of a panic's backtrace.
pub(super) const BACKTRACE: &str = "backtrace";

/// The field of a panic's place.
pub(super) const PLACE: &str = "place";

/// The target of lines that tasks write by their context.
const OF_TASKS: &str = "taskq::task";

/// The crates of taskq, as they begin the targets of their lines.
const CRATES: [&str; 4] = ["taskq", "taskq_beat", "taskq_cli", "taskq_worker"];

/// The longest value of a line of the program itself, in bytes. It is the program's own choice what to log.
const OF_PROGRAM_MAX: usize = 16 * 1024;

/// The longest backtrace, in bytes.
const BACKTRACE_MAX: usize = 64 * 1024;

/// Returns whether lines of this target are taskq's, and not those of the program or its tasks.
pub(super) fn is_of_taskq(target: &str) -> bool {
    target != OF_TASKS && target.split("::").next().is_some_and(|first| CRATES.contains(&first))
}

/// Returns how many bytes of a value are written, by the target of its line and the name of its field.
pub(super) fn bytes_max(target: &str, field: &str) -> usize {
    match field {
        BACKTRACE if target == PANICS => BACKTRACE_MAX,
        "task" | "id" if target == OF_TASKS => NAME_MAX,
        _ if !is_of_taskq(target) => OF_PROGRAM_MAX,
        "task" | "id" | "queue" | "entry" | "key" | "node" => NAME_MAX,
        _ => TEXT_MAX,
    }
}

/// Returns the name of a field as it is written: a name that is a word of Rust is marked in the code.
pub(super) fn shown_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_the_program_may_write_more() {
        for (target, field, expected) in [
            ("taskq_worker::engine::observe::log", "task", 255),
            ("taskq_worker::engine::observe::log", "id", 255),
            ("taskq_worker::engine::observe::log", "message", 1024),
            ("taskq_worker::engine::observe::log", "failure", 1024),
            ("taskq", "queue", 255),
            ("taskq::panic", "message", 1024),
            ("taskq::panic", "backtrace", 65536),
            ("taskq::task", "task", 255),
            ("taskq::task", "message", 16384),
            ("taskq_shop", "task", 16384),
            ("my_app::mail", "body", 16384),
        ] {
            assert_eq!(bytes_max(target, field), expected, "{field} of {target}");
        }
    }
}
