//! The sender: sends the plan's tasks, and notes each attempt to send and each confirm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use taskq::BoxError;
use taskq::canvas::ArgumentList;
use taskq::{Call, Client, TaskId};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, Semaphore};
use tokio::time::Instant;

use super::ledger::{Fact, Ledger, now_ms};
use super::workload::Planned;

/// The largest number of sends that are unanswered at a time.
const UNANSWERED_MAX: usize = 256;

/// How much longer than the publish timeout a send may take before that is a failure.
const LATE_MAX: Duration = Duration::from_secs(3);

/// Sends that take longer than this are noted.
const NOTABLE: Duration = Duration::from_millis(100);

/// The sender of a run.
#[derive(Debug)]
pub(super) struct Producer {
    client: Client,
    queues: Vec<String>,
    /// The beginning of every id.
    prefix: String,
    next: AtomicU64,
    ledger: Arc<Ledger>,
    /// Held for reading by each send, for writing while nothing may be sent.
    rest: Arc<RwLock<()>>,
}

impl Producer {
    pub(super) fn new(client: Client, queues: Vec<String>, prefix: String, ledger: Arc<Ledger>) -> Self {
        Self { client, queues, prefix, next: AtomicU64::new(0), ledger, rest: Arc::default() }
    }

    /// Returns the id of the next task.
    pub(super) fn next_id(&self) -> TaskId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        TaskId::parse(&format!("{}-{number}", self.prefix)).expect("the prefix is short, and not empty")
    }

    /// Waits until every send is answered. Nothing is sent while the returned guard is held.
    pub(super) async fn at_rest(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.rest).write_owned().await
    }

    /// Sends these tasks, evenly over `span`, and waits for the answers.
    pub(super) async fn send(self: Arc<Self>, tasks: Vec<Planned>, span: Duration) -> Result<(), BoxError> {
        let pause = span / u32::try_from(tasks.len().max(1)).unwrap_or(u32::MAX);
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        let mut sending = tokio::task::JoinSet::new();
        let mut next = Instant::now();
        for (number, task) in tasks.into_iter().enumerate() {
            // After a pause the sends that fell behind are not caught up with.
            next = (next + pause).max(Instant::now());
            tokio::time::sleep_until(next).await;
            let permit = Arc::clone(&unanswered).acquire_owned().await?;
            let moving = Arc::clone(&self.rest).read_owned().await;
            let producer = Arc::clone(&self);
            sending.spawn(async move {
                let sent = producer.send_one(&task, number).await;
                drop((permit, moving));
                sent
            });
            while let Some(sent) = sending.try_join_next() {
                sent??;
            }
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        Ok(())
    }

    async fn send_one(&self, task: &Planned, number: usize) -> Result<(), BoxError> {
        let id = self.next_id();
        let list = ArgumentList::from_json(&[json!(task.behavior), json!(now_ms())], &serde_json::Map::new())?;
        let queue = self.queues[number % self.queues.len()].clone();
        let mut call = Call::<u32>::named(task.behavior.task(), list).queue(queue).id(id.as_str());
        if let Some(countdown) = task.countdown {
            call = call.countdown(countdown);
        }
        if let Some(limit) = task.time_limit {
            call = call.time_limit(limit);
        }
        self.ledger.note(Fact::Attempted { id: id.to_string(), expect: task.expect() })?;
        let begun = Instant::now();
        let answer = call.send(&self.client).await;
        let took = begun.elapsed();
        let id = id.to_string();
        self.ledger.note(match answer {
            Ok(_) => Fact::Acknowledged { id },
            Err(error) => Fact::Refused { id, why: error.to_string() },
        })?;
        let allowed = self.client.settings().publish_timeout + LATE_MAX;
        if took > allowed {
            self.ledger.note(Fact::Wrong {
                what: format!("a send was answered after {took:?}, and {allowed:?} are allowed"),
            })?;
        }
        // A line for every send would drown the ledger.
        if took > NOTABLE {
            self.ledger.note(Fact::Figure { name: "slowest_send_ms".to_owned(), value: took.as_millis() as u64 })?;
        }
        Ok(())
    }
}
