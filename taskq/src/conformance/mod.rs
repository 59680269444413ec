//! The test suite that every adapter must pass, those of taskq and those of other crates.
//!
//! Each function checks one promise of a port and panics where it is broken. They wait for facts and bound the wait
//! generously; none asserts a time.

pub mod broadcast;
pub mod broker;
pub mod kv;
pub mod results;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

/// The time within which an expected event must happen. Generous, since nothing is asserted about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks one promise; a panic names the one that is broken, and how.
async fn keep(name: &str, promise: impl Future<Output = ()>) {
    let checked = tokio::time::timeout(PATIENCE * 2, AssertUnwindSafe(promise).catch_unwind()).await;
    match checked {
        Ok(Ok(())) => {}
        Err(elapsed) => panic!("the promise {name} was not decided in time: {elapsed}"),
        Ok(Err(failure)) => {
            let text = failure.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| failure.downcast_ref::<&str>().copied());
            panic!("the promise {name} is broken: {}", text.unwrap_or("it panicked"));
        }
    }
}
