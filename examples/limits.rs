//! Time limits: the soft limit asks a task to stop, the hard limit stops it, and an expired call is not begun.
//!
//! ```console
//! $ cargo run --example limits
//! collect: Ok("stopped in good order")
//! compute: SoftTimeLimitExceeded: not done in time
//! hang: TimeLimitExceeded: 0.2
//! remind: revoked, TaskRevokedError: expired
//! ```

use std::time::Duration;

use taskq::{Client, Context, Error, task};
use taskq_worker::Worker;

/// `cancelled()` completes when the soft limit is reached, and when the worker shuts down. There is time to clean up.
#[task(soft_time_limit = "100ms", time_limit = "1m")]
async fn collect(ctx: &Context) -> String {
    let mut pages = 0;
    loop {
        tokio::select! {
            () = ctx.cancelled() => return "stopped in good order".to_owned(),
            () = tokio::time::sleep(Duration::from_millis(10)) => pages += 1,
        }
        ctx.progress(pages, 0, "collecting");
    }
}

/// A plain function runs on a thread of its own and checks from time to time. An error after the limit is recorded as
/// `SoftTimeLimitExceeded`, and retried according to the policy.
#[task(soft_time_limit = "100ms", retries = 0)]
fn compute(ctx: &Context) -> Result<u64, String> {
    let mut sum = 0_u64;
    for number in 0..u64::MAX {
        if ctx.is_cancelled() {
            return Err("not done in time".to_owned());
        }
        sum = sum.wrapping_add(number);
    }
    Ok(sum)
}

/// An async task that does not check is dropped at its current `await`. It is not retried.
#[task(time_limit = "200ms")]
async fn hang() {
    std::future::pending::<()>().await;
}

#[task]
async fn remind() -> String {
    "too late".to_owned()
}

async fn calls() -> Result<(), Error> {
    println!("collect: {:?}", collect().get().await);
    if let Err(Error::Failed { failure, .. }) = compute().get().await {
        println!("compute: {failure}");
    }
    if let Err(Error::Failed { failure, .. }) = hang().get().await {
        println!("hang: {failure}");
    }
    // A call may have limits too, which override those of the task. A call that has not begun when it expires never
    // does.
    if let Err(Error::Revoked { failure, .. }) = remind().countdown("200ms").expires("100ms").get().await {
        println!("remind: revoked, {failure}");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    Worker::builder(client).run_until(calls()).await??;
    Ok(())
}
