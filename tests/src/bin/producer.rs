//! A program that sends `shop.ledger` tasks, and notes which of them were accepted.
//!
//! `producer NOTES LEDGER PREFIX COUNT BATCH PAUSE_MS`: sends COUNT tasks with the ids PREFIX-0, PREFIX-1, … in
//! batches, with a pause after each. For each answer it appends `ok ID` or `refused ID WHY` to NOTES; a refusal does
//! not stop it.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use futures_util::StreamExt;
use taskq::Client;
use taskq_tests::tasks;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(produce())
}

async fn produce() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [notes, ledger, prefix, count, batch, pause_ms] = &arguments[..] else {
        return Err("producer NOTES LEDGER PREFIX COUNT BATCH PAUSE_MS".into());
    };
    let (count, batch, pause_ms) = (count.parse::<usize>()?, batch.parse::<usize>()?, pause_ms.parse()?);
    let mut notes = OpenOptions::new().append(true).create(true).open(notes)?;
    let client = Client::from_settings().await?;
    for first in (0..count).step_by(batch) {
        let ids: Vec<String> = (first..count.min(first + batch)).map(|number| format!("{prefix}-{number}")).collect();
        let mut answers = client.send_all(ids.iter().map(|id| tasks::ledger(ledger.as_str(), "-", 0).id(id)));
        let mut lines = Vec::new();
        while let Some((index, answer)) = answers.next().await {
            let id = &ids[index];
            match answer {
                Ok(_) => writeln!(lines, "ok {id}")?,
                Err(error) => writeln!(lines, "refused {id} {}", with_causes(&error))?,
            }
        }
        // At once: a reader sees whole batches.
        notes.write_all(&lines)?;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    client.close().await;
    Ok(())
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
