//! `queues`: lists the queues with their messages, and empties a queue.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde::Serialize;
use taskq::Client;
use taskq::broker::{BrokerError, DEAD_QUEUE, QueueSpec};
use taskq::definition::Registry;
use taskq::settings::Settings;

use super::confirm::confirm;
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// List the queues with their waiting messages, and empty them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq queues list -Q mail,reports
  taskq queues purge mail")]
pub(super) struct QueuesCommand {
    #[command(subcommand)]
    verb: QueuesVerb,
}

#[derive(Debug, Subcommand)]
enum QueuesVerb {
    List(QueueList),
    Purge(QueuePurge),
}

/// Messages waiting and consumers, queue by queue
///
/// Lists the default queue, the queues of taskq.toml and of this program's tasks, the dead set and those of -Q: a
/// broker does not tell its clients which queues there are. Messages being worked on, or waiting for their time, are
/// not counted.
#[derive(Debug, Args)]
struct QueueList {
    /// Further queues, separated by commas
    #[arg(short = 'Q', long, value_name = "NAMES", value_delimiter = ',')]
    queues: Vec<String>,
}

/// Remove every waiting message from a queue, for ever
///
/// Messages that are being worked on, and those that wait for their time, stay.
#[derive(Debug, Args)]
struct QueuePurge {
    /// The queue
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A queue. Without numbers if it does not exist.
#[derive(Serialize)]
struct QueueRow {
    queue: String,
    exists: bool,
    ready: Option<u64>,
    consumers: Option<u64>,
}

#[derive(Serialize)]
struct PurgedQueue<'a> {
    queue: &'a str,
    removed: u64,
}

impl QueuesCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        match &self.verb {
            QueuesVerb::List(list) => list.run(session).await,
            QueuesVerb::Purge(purge) => purge.run(session).await,
        }
    }
}

impl QueueList {
    async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let registry = Registry::collect()?;
        let client = session.client().await?;
        let mut rows = Vec::new();
        for queue in names(client.settings(), &registry, &self.queues) {
            rows.push(row(&client, queue).await?);
        }
        client.close().await;
        session.output().table(&rows, ["QUEUE", "READY", "CONSUMERS"], |row| {
            let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            [row.queue.clone(), number(row.ready), number(row.consumers)]
        })?;
        Ok(Exit::Ok)
    }
}

async fn row(client: &Client, queue: String) -> Result<QueueRow, Failure> {
    QueueSpec::check_name(&queue)?;
    match client.broker().stats(&queue).await {
        Ok(stats) => Ok(QueueRow { queue, exists: true, ready: Some(stats.ready), consumers: Some(stats.consumers) }),
        Err(BrokerError::NoQueue { .. }) => Ok(QueueRow { queue, exists: false, ready: None, consumers: None }),
        Err(error) => Err(error.into()),
    }
}

/// Returns the queues that are known here, each once; the dead set last.
fn names(settings: &Settings, registry: &Registry, further: &[String]) -> Vec<String> {
    let mut names: BTreeSet<String> = settings.queues.keys().chain(&settings.interop).chain(further).cloned().collect();
    names.insert(settings.default_queue.clone());
    names.extend(registry.iter().filter_map(|task| task.options.queue).map(str::to_owned));
    names.remove(DEAD_QUEUE);
    names.into_iter().chain([DEAD_QUEUE.to_owned()]).collect()
}

impl QueuePurge {
    async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        if self.name == DEAD_QUEUE {
            let text = "the dead set is emptied by `dead drop --all`";
            return Err(Failure::new(Exit::Usage, text));
        }
        QueueSpec::check_named(&self.name)?;
        let client = session.client().await?;
        let waiting = client.broker().stats(&self.name).await?.ready;
        confirm(&format!("removes the {waiting} waiting messages of queue {} for ever", self.name), self.yes)?;
        let removed = client.broker().purge(&self.name).await;
        client.close().await;
        let purged = PurgedQueue { queue: &self.name, removed: removed? };
        let text = |purged: &PurgedQueue<'_>| format!("{} messages removed from {}", purged.removed, purged.queue);
        let written = session.output().say(&purged, text);
        written.map_err(|failure| failure.after(|| text(&purged)))?;
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_is_listed_once_and_the_dead_set_last() {
        let mut settings = Settings::default();
        settings.interop.push("celery".into());
        settings.queues.insert("mail".into(), taskq::settings::QueueSettings::default());
        let further = ["mail".to_owned(), DEAD_QUEUE.to_owned(), "a".to_owned()];
        let listed = names(&settings, &Registry::default(), &further);
        assert_eq!(listed, ["a", "celery", "default", "mail", DEAD_QUEUE]);
    }
}
