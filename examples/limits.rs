//! Time limits: the soft one asks, the hard one stops, and what comes too late is not begun.
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

/// `cancelled()` completes when the soft limit is over, and when the worker shuts down. There is time to tidy up.
#[task(soft_time_limit = "100ms", time_limit = "1m")]
async fn collect(ctx: &Context) -> String {
    let mut pages = 0;
    loop {
        tokio::select! {
            () = ctx.cancelled() => return "stopped in good order".to_owned(),
            () = tokio::time::sleep(Duration::from_millis(10)) => pages += 1,
        }
        ctx.progress(pages, 0, "collecting").await;
    }
}

/// A plain function is on a thread of its own and asks now and then. An error after the limit is recorded as
/// `SoftTimeLimitExceeded`, and retried by the policy.
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

/// An async task that does not listen is dropped at the await it is at. That is no accident to be tried again.
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
    // A call has limits too, and they win over the task's own; so does `expires`: not begun by then, never begun.
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
