//! A progress bar that follows a task: every change is pushed to its watchers, in this process or another.
//!
//! ```console
//! $ cargo run --example progress
//! imported 500 rows
//! ```
//!
//! The bar is drawn on stderr while the task runs. `taskq watch ID` draws it too.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use taskq::{Client, Context, Handle, TaskState, task};
use taskq_worker::Worker;

/// Reports progress for every row; the latest report is stored about ten times a second.
#[task]
async fn import(ctx: &Context, rows: u64) -> u64 {
    for row in 1..=rows {
        tokio::time::sleep(Duration::from_millis(2)).await;
        ctx.progress(row, rows, if row < rows / 2 { "reading" } else { "writing" });
    }
    rows
}

/// Draws the progress of a task until it has ended.
async fn follow(handle: &Handle<u64>) -> Result<TaskState, taskq::Error> {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}").expect("the template is a constant");
    let bar = ProgressBar::new(0).with_style(style);
    let mut updates = handle.watch().await?;
    let mut state = TaskState::Pending;
    while let Some(status) = updates.next().await {
        let status = status?;
        state = status.state;
        if let Some(progress) = status.progress {
            bar.set_length(progress.total);
            bar.set_position(progress.current);
            bar.set_message(progress.note);
        }
    }
    bar.finish_and_clear();
    Ok(state)
}

async fn run() -> Result<(), taskq::Error> {
    let handle = import(500).await?;
    match follow(&handle).await? {
        TaskState::Success => println!("imported {} rows", handle.get().await?),
        other => println!("the import ended as {other}"),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::builder().broker("memory:").build().await?.install();
    Worker::builder(client).run_until(run()).await??;
    Ok(())
}
