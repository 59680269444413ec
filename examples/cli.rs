//! A program that is nothing but its tasks: worker and command line come with `taskq_worker::main()`.
//!
//! ```console
//! $ cargo build --example cli; PATH=$PWD/target/debug/examples:$PATH
//! $ export TASKQ_BROKER_URL=sqlite:cli.db
//! $ cli tasks
//! TASK       QUEUE  TAKES AND GIVES
//! cli.greet  cli    (name: String) -> String
//! cli.root   cli    (number: i64) -> Result<u64, TaskError>
//! $ cli worker > worker.log 2>&1 &
//! $ cli call cli.greet Ada --wait
//! "Hello, Ada"
//! $ cli call cli.root 1764 --id the-answer
//! the-answer
//! $ cli result the-answer --wait
//! 42
//! $ cli call cli.root -1 --wait
//! error: task … failed: TaskError: -1 has no root
//! $ kill $!; wait
//! $ cli dead list
//! COUNT  TASK      ERROR                      FINGERPRINT
//! 1      cli.root  TaskError: -1 has no root  9c656049452ae969
//! $ cli call cli.greet Grace --id later
//! later
//! $ cli queues list
//! QUEUE       READY  CONSUMERS
//! cli         1      0
//! default     0      0
//! taskq.dead  1      0
//! ```
//!
//! Nothing has to run for `call`: what is enqueued waits for a worker. Without `TASKQ_BROKER_URL` all commands use the
//! file `taskq.db`, and each says so. `taskq -A target/debug/examples/cli …` is the same as `cli …`.

use taskq::{TaskError, task};

#[task(name = "cli.greet", queue = "cli")]
async fn greet(name: String) -> String {
    format!("Hello, {name}")
}

#[task(name = "cli.root", queue = "cli")]
async fn root(number: i64) -> Result<u64, TaskError> {
    let number = u64::try_from(number).map_err(|_| TaskError::permanent(format!("{number} has no root")))?;
    Ok(number.isqrt())
}

fn main() -> std::process::ExitCode {
    taskq_worker::main()
}
