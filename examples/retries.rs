//! What fails, what is tried again and how soon, and where it ends up.
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

/// Any error means: again, by the policy. Without a word about it that is 3 retries, 1 s to 10 min apart.
#[task(retries = 5, backoff = "20ms..100ms")]
async fn fetch(ctx: &Context) -> Result<(), io::Error> {
    if ctx.attempt() < 2 {
        println!("fetch: connection refused, on attempt {}", ctx.attempt());
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    println!("fetch: a page, on attempt {}", ctx.attempt());
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

/// Only what is temporary is tried again. `TaskError::permanent(error)` says the same from within.
#[task(retries = 5, backoff = "20ms..100ms", retry_if = is_temporary)]
async fn charge(ctx: &Context) -> Result<(), CardError> {
    if ctx.attempt() == 0 {
        println!("charge: {}", CardError::Busy);
        return Err(CardError::Busy);
    }
    Err(CardError::Declined)
}

/// A snooze puts the attempt off and spends none: for what is not yet there, which is no failure.
#[task(retries = 0)]
async fn deliver(ctx: &Context) -> Result<(), TaskError> {
    static VISITS: AtomicU32 = AtomicU32::new(0);
    if VISITS.fetch_add(1, Ordering::Relaxed) < 2 {
        println!("deliver: nobody is at home");
        return Err(TaskError::snooze(Duration::from_millis(50)));
    }
    println!("deliver: handed over, on attempt {}", ctx.attempt());
    Ok(())
}

/// The other side knows best when to come back.
#[task(retries = 1)]
async fn call_back(ctx: &Context) -> Result<(), TaskError> {
    if ctx.attempt() == 0 {
        println!("call_back: told to wait, on attempt 0");
        return Err(TaskError::retry_in(Duration::from_millis(50), "please hold the line"));
    }
    println!("call_back: answered, on attempt {}", ctx.attempt());
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
    // What failed for good is kept, and can be put back: `client.dead().retry(…)`, or `taskq dead retry`.
    for entry in client.dead().list(10).await? {
        let (task, letter) = (entry.task.unwrap_or_default(), entry.letter);
        println!("dead: {task} after {} attempts: {}: {}", letter.attempts, letter.error_type, letter.error);
    }
    Ok(())
}
