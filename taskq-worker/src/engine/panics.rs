//! Panics in tasks as failures with message and place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::sync::Once;

use taskq::message::Failure;

/// Where the last panic of a thread happened.
#[derive(Debug, Clone)]
struct Place {
    location: String,
    backtrace: Option<String>,
}

thread_local! {
    static LAST: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// From now on panics leave their place behind on their thread. The hook that was there before is still called.
pub(super) fn note_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let backtrace = Backtrace::capture();
            let place = Place {
                location: panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string),
                // Only where RUST_BACKTRACE asks for it: resolving symbols takes long.
                backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
            };
            LAST.set(Some(place));
            earlier(panic);
        }));
    });
}

/// The failure that a caught panic is, and where it happened. Must be called on the thread that panicked, before
/// anything else panics there.
pub(super) fn failure(payload: &(dyn Any + Send)) -> (Failure, Option<String>) {
    let message = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    let Some(place) = LAST.take() else { return (Failure::new("taskq", "Panic", message), None) };
    let headline = format!("panicked at {}: {message}", place.location);
    let traceback = match place.backtrace {
        Some(backtrace) => format!("{headline}\n{backtrace}"),
        None => headline.clone(),
    };
    (Failure::new("taskq", "Panic", headline), Some(traceback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_message_and_place() {
        note_places();
        let line = line!() + 1;
        let payload = std::panic::catch_unwind(|| panic!("lost {}", "it")).expect_err("it panics");
        let (failure, traceback) = failure(&*payload);
        let message = failure.message();
        assert!(message.starts_with(&format!("panicked at {}:{line}:", file!())), "{message}");
        assert!(message.ends_with(": lost it"), "{message}");
        assert!(traceback.expect("the place is known").starts_with("panicked at"));
    }
}
