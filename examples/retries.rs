//! Failures: which are retried, after which delay, and where the rest is kept.
//!
//! ```console
//! $ cargo run --example retries
//! fetch: connection refused, on attempt 0
//! fetch: connection refused, on attempt 1
//! fetch: a page, on attempt 2
//! charge: the terminal is busy
//! charge: task … failed: CardError: the card was declined
//! deliver: nobody is at home
//! deliver: nobody is at home
//! deliver: handed over, on attempt 0
//! call_back: told to wait, on attempt 0
//! call_back: answered, on attempt 1
//! dead: taskq_examples.charge after 2 attempts: CardError: the card was declined
//! ```

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use taskq::{Client, Context, TaskError, task};
use taskq_worker::Worker;

/// Any error leads to a retry, according to the policy. The default policy is 3 retries, 1 s to 10 min apart.
#[task(retries = 5, backoff = "20ms..100ms")]
async fn fetch(ctx: &Context) -> Result<(), io::Error> {
    if ctx.retries() < 2 {
        println!("fetch: connection refused, on attempt {}", ctx.retries());
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    println!("fetch: a page, on attempt {}", ctx.retries());
    Ok(())
}

#[derive(Debug)]
enum CardError {
    Busy,
    Declined,
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the terminal is busy",
            Self::Declined => "the card was declined",
        })
    }
}

impl std::error::Error for CardError {}

fn is_temporary(error: &CardError) -> bool {
    matches!(error, CardError::Busy)
}

/// Only temporary errors are retried. A task can also decide so itself, with `TaskError::permanent(error)`.
#[task(retries = 5, backoff = "20ms..100ms", retry_if = is_temporary)]
async fn charge(ctx: &Context) -> Result<(), CardError> {
    if ctx.retries() == 0 {
        println!("charge: {}", CardError::Busy);
        return Err(CardError::Busy);
    }
    Err(CardError::Declined)
}

/// A snooze postpones the attempt without counting it: for a precondition that is not met yet, which is no failure.
#[task(retries = 0)]
async fn deliver(ctx: &Context) -> Result<(), TaskError> {
    static VISITS: AtomicU32 = AtomicU32::new(0);
    if VISITS.fetch_add(1, Ordering::Relaxed) < 2 {
        println!("deliver: nobody is at home");
        return Err(TaskError::snooze(Duration::from_millis(50)));
    }
    println!("deliver: handed over, on attempt {}", ctx.retries());
    Ok(())
}

/// A remote system may say when to try again.
#[task(retries = 1)]
async fn call_back(ctx: &Context) -> Result<(), TaskError> {
    if ctx.retries() == 0 {
        println!("call_back: told to wait, on attempt 0");
        return Err(TaskError::retry_in(Duration::from_millis(50), "please hold the line"));
    }
    println!("call_back: answered, on attempt {}", ctx.retries());
    Ok(())
}

async fn calls() -> Result<(), taskq::Error> {
    fetch().get().await?;
    if let Err(error) = charge().get().await {
        println!("charge: {error}");
    }
    deliver().get().await?;
    call_back().get().await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    Worker::builder(client.clone()).run_until(calls()).await??;
    // Tasks that failed for good are kept in the dead set, and can be retried: `client.dead().retry(…)`, `taskq dead
    // retry`.
    for entry in client.dead().list(10).await? {
        let (task, letter) = (entry.task.unwrap_or_default(), entry.letter);
        println!("dead: {task} after {} attempts: {}: {}", letter.attempts, letter.error_type, letter.error);
    }
    Ok(())
}
