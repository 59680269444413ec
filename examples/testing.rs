//! Tests of tasks and of the code that calls them: no server, no worker, no sleep.
//!
//! ```console
//! $ cargo run --example testing
//! Welcome, Ada
//! ```
//!
//! ```console
//! $ cargo test --example testing
//! ```
//!
//! `testing` is a feature of `taskq`, for dev-dependencies.

use std::sync::{Arc, Mutex, PoisonError};

use taskq::{Client, Context, Handle, task};
use taskq_worker::Worker;

/// The mail that was sent; state of the worker, and in tests of the test.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<String>>>);

impl Outbox {
    fn put(&self, letter: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(letter.to_owned());
    }

    fn letters(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[task(queue = "mail", retries = 2, backoff = "1m..1h")]
async fn welcome(ctx: &Context, name: String) -> Result<(), String> {
    if name.is_empty() {
        return Err("nobody is to be welcomed".to_owned());
    }
    ctx.state::<Outbox>().put(&format!("Welcome, {name}"));
    Ok(())
}

/// Signs up a user, as a web server would do it.
async fn sign_up(name: &str) -> Result<Handle<()>, taskq::Error> {
    welcome(name).countdown("100ms").await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    let outbox = Outbox::default();
    let worker = Worker::builder(client).state(outbox.clone());
    worker.run_until(async { sign_up("Ada").await?.get().await }).await??;
    println!("{}", outbox.letters().join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use taskq::TaskState;
    use taskq::testing::{self, End};

    use super::*;

    /// Calls that name no client go to the queue of the test, until the guard is dropped.
    #[tokio::test]
    async fn signing_up_enqueues_a_welcome() {
        let _queue = testing::start();
        sign_up("Ada").await.expect("it is taken");
        testing::assert_enqueued!(welcome("Ada").queue("mail").countdown("100ms"));
        testing::assert_not_enqueued!(welcome("Grace"));
    }

    /// `drain` runs the tasks that are due, on this thread. The clock stands still until it is advanced.
    #[tokio::test]
    async fn the_welcome_is_sent_when_it_is_due() {
        let outbox = Outbox::default();
        let queue = testing::builder().state(outbox.clone()).start();
        let handle = sign_up("Ada").await.expect("it is taken");
        assert!(queue.drain().await.runs.is_empty(), "it is not due yet");
        queue.advance("100ms");
        queue.drain().await.assert_ok();
        assert_eq!(outbox.letters(), ["Welcome, Ada"]);
        assert_eq!(handle.status().await.expect("it is known").state, TaskState::Success);
    }

    /// `drain_all` advances the clock, so hours of retries pass at once.
    #[tokio::test]
    async fn what_cannot_be_sent_is_given_up_after_two_retries() {
        let queue = testing::builder().state(Outbox::default()).start();
        sign_up("").await.expect("it is taken");
        let report = queue.drain_all().await;
        let [End::Retried { .. }, End::Retried { .. }, End::Failed(failure)] =
            &report.runs.iter().map(|run| run.end.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("{report}")
        };
        assert_eq!(failure.message(), "nobody is to be welcomed");
        assert_eq!(queue.client().dead().list(10).await.expect("it can be read").len(), 1);
    }
}
