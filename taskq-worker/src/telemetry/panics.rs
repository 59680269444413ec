//! Panics as lines of the log.
//!
//! The standard library prints the message of a panic as it is, and a message may hold a name or a value of a stranger:
//! it could forge lines, among them whole documents of JSON.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use super::bounds::PANICS;
use super::stderr;

type PanicHook = Box<dyn Fn(&PanicHookInfo<'_>) + Sync + Send>;

/// Has every panic from now on written to the log. A hook that the program has installed before is still called, and
/// writes what it writes.
pub(super) fn log() {
    let earlier = panic::take_hook();
    // After the first call there is none but the standard library's own.
    let own = is_same(&earlier, &panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        report(info);
        if !own {
            earlier(info);
        }
    }));
}

/// Returns whether two hooks are one function.
fn is_same(one: &PanicHook, other: &PanicHook) -> bool {
    // A hook that holds values is somewhere in memory; of those that hold none, the table of functions tells.
    std::ptr::eq(&raw const **one, &raw const **other)
}

fn report(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("<unnamed>");
    if !tracing::enabled!(target: PANICS, tracing::Level::ERROR) {
        // Whatever lines are wanted, a program must not end in silence.
        return stderr::write("ERROR", "", &format!("thread '{thread}' panicked at {place}: {message}"));
    }
    let backtrace = Backtrace::capture();
    // Only where RUST_BACKTRACE asks for it: resolving symbols takes long.
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(target: PANICS, place, backtrace, "thread '{thread}' panicked at {place}: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_program(_: &PanicHookInfo<'_>) {}

    #[test]
    fn a_hook_of_the_program_is_told_from_that_of_the_library() {
        let word = "held".to_owned();
        let hooks: [PanicHook; 3] =
            [Box::new(of_the_program), Box::new(|_| {}), Box::new(move |_| assert_eq!(word, "held"))];
        for (at, one) in hooks.iter().enumerate() {
            for (other_at, other) in hooks.iter().enumerate() {
                assert_eq!(is_same(one, other), at == other_at, "{at} and {other_at}");
            }
        }
        assert!(is_same(&(Box::new(of_the_program) as PanicHook), &hooks[0]));
    }
}
