//! Panics in tasks as failures with message and place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use futures_util::FutureExt;

use crate::definition::TaskResult;
use crate::message::Failure;

/// A panic that was caught.
#[derive(Debug)]
pub struct Panicked {
    /// The failure that the panic means.
    pub failure: Failure,
    /// The place of the panic, with the backtrace if `RUST_BACKTRACE` asked for one.
    pub place: Option<String>,
}

/// The end of a body that was not stopped: its result, or its panic.
pub type Caught = Result<TaskResult, Panicked>;

/// Polls `future`, the body of an async task, and catches its panics.
pub async fn catch(future: impl Future<Output = TaskResult>) -> Caught {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| panicked(&*payload))
}

/// Calls `function`, the body of a plain task, and catches its panic.
pub fn catch_sync(function: impl FnOnce() -> TaskResult) -> Caught {
    std::panic::catch_unwind(AssertUnwindSafe(function)).map_err(|payload| panicked(&*payload))
}

/// The place of the last panic of a thread.
#[derive(Debug, Clone)]
struct PanicLocation {
    location: String,
    backtrace: Option<String>,
}

thread_local! {
    static LAST: RefCell<Option<PanicLocation>> = const { RefCell::new(None) };
}

/// Installs a panic hook that stores the place of each panic for its thread. The previous hook is still called.
pub fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let backtrace = Backtrace::capture();
            let place = PanicLocation {
                location: panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
                // Only where RUST_BACKTRACE asks for it: resolving symbols takes long.
                backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
            };
            LAST.set(Some(place));
            earlier(panic);
        }));
    });
}

/// Converts a caught panic. Must be called on the thread that panicked, before anything else panics there.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> Panicked {
    let message = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    let Some(place) = LAST.take() else {
        return Panicked { failure: Failure::new("taskq", "Panic", message), place: None };
    };
    let headline = format!("panicked at {}: {message}", place.location);
    let traceback = match place.backtrace {
        Some(backtrace) => format!("{headline}\n{backtrace}"),
        None => headline.clone(),
    };
    Panicked { failure: Failure::new("taskq", "Panic", headline), place: Some(traceback) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_message_and_place() {
        note_panics();
        let line = line!() + 1;
        let payload = std::panic::catch_unwind(|| panic!("lost {}", "it")).expect_err("it panics");
        let Panicked { failure, place } = panicked(&*payload);
        let message = failure.message();
        assert!(message.starts_with(&format!("panicked at {}:{line}:", file!())), "{message}");
        assert!(message.ends_with(": lost it"), "{message}");
        assert!(place.expect("the place is known").starts_with("panicked at"));
    }
}
