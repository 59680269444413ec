//! Panics in tasks as failures with message and place.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context as Waking, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::definition::{Context, TaskResult};
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

/// The body of an async task, none of whose panics come out: neither when it is polled nor when it is dropped.
pub struct ShieldedBody(Option<BoxFuture<'static, TaskResult>>);

/// Shields `body`, the body of an async task.
pub fn catch(body: BoxFuture<'static, TaskResult>) -> ShieldedBody {
    ShieldedBody(Some(body))
}

/// Calls `function`, the body of a plain task, and catches its panic.
pub fn catch_sync(function: impl FnOnce() -> TaskResult) -> Caught {
    std::panic::catch_unwind(AssertUnwindSafe(function)).map_err(panicked)
}

impl ShieldedBody {
    /// Returns whether the body has ended, or was stopped.
    pub fn is_over(&self) -> bool {
        self.0.is_none()
    }

    /// Drops the body, unless it has ended; what the task still holds is dropped with it. A panic in that is logged:
    /// the end of the attempt, or the reason to stop it, is known by then.
    pub fn stop(&mut self) {
        let body = self.0.take();
        if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(body))) {
            let Panicked { failure, .. } = panicked(payload);
            let context = Context::current();
            let (task, id) = context.as_ref().map_or(("", ""), |context| (context.task(), context.id().as_str()));
            tracing::error!(task, id, "the task panicked while it was dropped: {}", failure.message());
        }
    }
}

impl Future for ShieldedBody {
    type Output = Caught;

    fn poll(mut self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<Caught> {
        let body = self.0.as_mut().expect("a future is not polled after its end");
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| body.poll_unpin(waking)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(payload) => Err(panicked(payload)),
        };
        self.stop();
        Poll::Ready(ended)
    }
}

impl Drop for ShieldedBody {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Drops the payload of a panic, which may panic in its turn.
pub fn discard(payload: Box<dyn Any + Send>) {
    if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // This one would have been dropped as the first one was; nothing more can be done with it.
        std::mem::forget(payload);
    }
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
pub(super) fn panicked(payload: Box<dyn Any + Send>) -> Panicked {
    let message = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    let place = LAST.take();
    discard(payload);
    let Some(place) = place else {
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
        let Panicked { failure, place } = panicked(payload);
        let message = failure.message();
        assert!(message.starts_with(&format!("panicked at {}:{line}:", file!())), "{message}");
        assert!(message.ends_with(": lost it"), "{message}");
        assert!(place.expect("the place is known").starts_with("panicked at"));
    }

    /// Panics when it is dropped, as often as that happens.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    /// A body that holds a bomb, and ends once it was polled `polls` times.
    async fn holding_a_bomb(polls: u32) -> TaskResult {
        let bomb = Bomb;
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
        std::mem::forget(bomb);
        Ok(serde_json::value::RawValue::from_string("7".to_owned()).expect("it is JSON"))
    }

    #[test]
    fn a_body_that_panics_when_it_is_dropped_is_dropped_all_the_same() {
        let mut body = catch(Box::pin(holding_a_bomb(1)));
        assert!((&mut body).now_or_never().is_none(), "it goes on");
        // At the time limit.
        body.stop();
        drop(body);
        // By a panic elsewhere in the process that takes the future with it.
        let mut body = catch(Box::pin(holding_a_bomb(1)));
        assert!((&mut body).now_or_never().is_none(), "it goes on");
        drop(body);
    }

    #[test]
    fn a_result_is_kept_whatever_happens_afterwards() {
        struct Ends(Bomb);
        impl Future for Ends {
            type Output = TaskResult;
            fn poll(self: Pin<&mut Self>, _: &mut Waking<'_>) -> Poll<TaskResult> {
                Poll::Ready(Ok(serde_json::value::RawValue::from_string("7".to_owned()).expect("it is JSON")))
            }
        }
        let ended = catch(Box::pin(Ends(Bomb))).now_or_never().expect("it ends at once");
        assert_eq!(ended.expect("no panic of the body").expect("it succeeds").get(), "7");
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_is_a_failure_like_others() {
        let failure = catch_sync(|| std::panic::panic_any(Bomb)).expect_err("it panics").failure;
        assert!(failure.message().contains("a panic without a message"), "{failure}");
        let body: BoxFuture<'static, TaskResult> = Box::pin(async { std::panic::panic_any(Bomb) });
        let failure = catch(body).now_or_never().expect("it ends at once").expect_err("it panics").failure;
        assert!(failure.message().contains("a panic without a message"), "{failure}");
    }
}
