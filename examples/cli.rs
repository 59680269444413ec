//! A program that is nothing but its tasks: worker and command line come with `taskq_worker::main()`.
//!
//! ```console
//! $ cargo build --example cli; PATH=$PWD/target/debug/examples:$PATH
//! $ cli tasks
//! TASK       QUEUE  TAKES AND GIVES
//! cli.greet  cli    (name: String) -> String
//! cli.root   cli    (number: i64) -> Result<u64, TaskError>
//! $ cli call cli.greet Ada --id greeting
//! creating …/taskq.db, since nothing is configured; …
//! greeting
//! $ cli queues list
//! QUEUE       READY  CONSUMERS
//! cli         1      0
//! default     -      -
//! taskq.dead  -      -
//! $ cli worker > worker.log 2>&1 &
//! $ cli result greeting --wait
//! "Hello, Ada"
//! $ cli call cli.root 1764 --wait
//! 42
//! $ cli call cli.root -1 --wait
//! error: task … failed: TaskError: -1 has no root
//! $ kill $!; wait
//! $ cli dead list
//! COUNT  TASK      ERROR                      FINGERPRINT
//! 1      cli.root  TaskError: -1 has no root  9c656049452ae969
//! ```
//!
//! `kill` asks the worker to finish the tasks that it has begun. `taskq -A target/debug/examples/cli …` does the same
//! as `cli …`.

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
