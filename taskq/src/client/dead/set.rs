//! The dead set: reading it, putting messages back, and discarding them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::DeadLetter;
use crate::broker::{DEAD_QUEUE, OWN_PREFIX, Publication, QueueSpec};
use crate::client::Client;
use crate::codec::{self, celery::SIGNATURE};
use crate::error::Error;
use crate::message::{TaskId, WireMessage};

/// A message of the dead set.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct DeadEntry {
    /// The task's id, where the message has one.
    pub id: Option<TaskId>,
    /// The task's name, where the message has one.
    pub task: Option<String>,
    /// The reason for which it was given up.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The message as it will be put back.
    #[serde(skip)]
    pub message: WireMessage,
}

impl DeadEntry {
    /// Reads a message of the queue `taskq.dead`.
    pub fn read(mut message: WireMessage) -> Self {
        let letter = DeadLetter::take(&mut message.headers);
        let id = message.headers.text("id").and_then(|text| TaskId::parse(text).ok());
        Self { id, task: message.headers.text("task").map(str::to_owned), letter, message }
    }
}

/// The set of tasks that failed for good and of messages that could not be read. Made by [`Client::dead`].
#[derive(Debug, Clone)]
pub struct DeadSet {
    client: Client,
}

/// A choice of dead messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadFilter<'a> {
    /// All dead messages.
    All,
    /// The messages of these tasks.
    Ids(&'a [TaskId]),
    /// The messages whose errors have this [fingerprint](DeadLetter::fingerprint).
    Fingerprint(&'a str),
}

impl DeadFilter<'_> {
    fn matches(&self, entry: &DeadEntry) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => entry.id.as_ref().is_some_and(|id| ids.contains(id)),
            Self::Fingerprint(fingerprint) => entry.letter.fingerprint == *fingerprint,
        }
    }
}

impl Client {
    /// Returns the dead set: tasks that failed for good and messages that could not be read.
    pub fn dead(&self) -> DeadSet {
        DeadSet { client: self.clone() }
    }
}

impl DeadSet {
    /// Lists up to `limit` dead messages, oldest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadEntry>, Error> {
        self.client.declare(DEAD_QUEUE).await?;
        let browse = self.client.broker().browse(DEAD_QUEUE, limit).await?;
        let entries = browse.deliveries.iter().map(|delivery| DeadEntry::read(delivery.message.clone())).collect();
        browse.finish().await;
        Ok(entries)
    }

    /// Returns the dead message of one task, or [`Error::NotDead`].
    pub async fn get(&self, id: &TaskId) -> Result<DeadEntry, Error> {
        let entries = self.list(usize::MAX).await?;
        let entry = entries.into_iter().find(|entry| entry.id.as_ref() == Some(id));
        entry.ok_or_else(|| Error::NotDead { id: id.clone() })
    }

    /// Counts the dead messages that `filter` chooses.
    pub async fn count(&self, filter: &DeadFilter<'_>) -> Result<usize, Error> {
        Ok(self.list(usize::MAX).await?.iter().filter(|entry| filter.matches(entry)).count())
    }

    /// Counts the dead messages of each error: `fingerprint → (an example, the number of messages)`.
    pub async fn by_error(&self, limit: usize) -> Result<BTreeMap<String, (DeadEntry, usize)>, Error> {
        let mut groups = BTreeMap::new();
        for entry in self.list(limit).await? {
            let group = groups.entry(entry.letter.fingerprint.clone()).or_insert((entry, 0));
            group.1 += 1;
        }
        Ok(groups)
    }

    /// Puts dead messages back into the queues that they came from, as first attempts of a new generation, and returns
    /// their number. Each leaves the dead set only once the broker has confirmed its new message.
    ///
    /// A message that can never be put back keeps no other one from it: [`Error::PutBackInPart`] then tells of both. A
    /// fault that may pass ends the work with that error; what is left stays in the dead set.
    pub async fn retry(&self, filter: &DeadFilter<'_>) -> Result<usize, Error> {
        self.take(filter, true).await
    }

    /// Removes dead messages for ever, and returns their number.
    pub async fn discard(&self, filter: &DeadFilter<'_>) -> Result<usize, Error> {
        self.take(filter, false).await
    }

    async fn take(&self, filter: &DeadFilter<'_>, put_back: bool) -> Result<usize, Error> {
        self.client.declare(DEAD_QUEUE).await?;
        let mut browse = self.client.broker().browse(DEAD_QUEUE, usize::MAX).await?;
        let (mut taken, mut kept) = (0, 0);
        let mut first = None;
        for delivery in std::mem::take(&mut browse.deliveries) {
            let entry = DeadEntry::read(delivery.message.clone());
            if first.as_ref().is_some_and(|error: &Error| !error.is_permanent()) || !filter.matches(&entry) {
                browse.deliveries.push(delivery);
                continue;
            }
            match if put_back { self.put_back(entry, &delivery.message).await } else { Ok(()) } {
                Ok(()) => {
                    delivery.acker.ack();
                    taken += 1;
                }
                Err(error) => {
                    browse.deliveries.push(delivery);
                    kept += 1;
                    // The one that ends the work is told.
                    first = if error.is_permanent() { first.or(Some(error)) } else { Some(error) };
                }
            }
        }
        browse.finish().await;
        match first {
            None => Ok(taken),
            Some(error) if error.is_permanent() && (taken > 0 || kept > 1) => {
                Err(Error::PutBackInPart { put_back: taken, kept, first: Box::new(error) })
            }
            Some(error) => Err(error),
        }
    }

    /// Puts a dead message back; `dead` is the message as it is in the dead set.
    async fn put_back(&self, entry: DeadEntry, dead: &WireMessage) -> Result<(), Error> {
        // It would be signed anew.
        self.client.verify_dead(dead).map_err(|fault| Error::Untrusted { id: entry.id.clone(), fault })?;
        if let Some(version) = entry.letter.newer_version {
            return Err(Error::NewerDeadLetter { id: entry.id, version });
        }
        let queue = match entry.letter.queue.as_str() {
            queue if queue.is_empty() || queue.starts_with(OWN_PREFIX) => self.client.settings().default_queue.as_str(),
            queue => {
                QueueSpec::check_named(queue)?;
                queue
            }
        };
        let queue = self.client.declare(queue).await?;
        let message = next_generation(entry.message);
        let publication = Publication { queue, message, delay: None };
        self.client.publish(publication).await
    }
}

/// Returns the message as the first attempt of a new generation, whose terminal record may replace the stored one. A
/// message that could not be understood is put back unchanged.
fn next_generation(mut message: WireMessage) -> WireMessage {
    message.headers.remove(SIGNATURE);
    match codec::decode(&message) {
        Ok(mut envelope) => {
            envelope.generation = envelope.generation.saturating_add(1);
            envelope.returns = 0;
            envelope.attempt = 0;
            envelope.snoozes = 0;
            envelope.eta = None;
            envelope.expires = None;
            envelope.sender_clock = None;
            envelope.delay_served = false;
            envelope.put_back = None;
            codec::encode(envelope)
        }
        Err(_) => message,
    }
}
