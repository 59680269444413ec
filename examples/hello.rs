//! A whole program: a task, a call, and a worker beside it.
//!
//! ```console
//! $ cargo run --example hello
//! 2 + 3 = 5
//! ```
//!
//! Nothing has to be installed or configured: queue and result are kept in the file `taskq.db` in the working
//! directory. With `TASKQ_BROKER_URL=amqp://…` and `TASKQ_RESULT_URL=redis://…` the same program uses those servers.

use taskq::{Client, task};
use taskq_worker::Worker;

#[task(queue = "hello")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Calls that name no client use the one that is installed.
    let client = Client::from_settings().await?.install();
    // `add(2, 3)` is a value; `get` enqueues it and waits for the result.
    let sum = Worker::builder(client).run_until(add(2, 3).get()).await??;
    println!("2 + 3 = {sum}");
    Ok(())
}
