//! What failed for good: the queue `taskq.dead`, read and put back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Client;
use crate::attempt::{Reason, Verdict};
use crate::broker::{DEAD_QUEUE, DEATH_QUEUE, DEATH_REASON, Delivery, NO_QUEUE, Publication};
use crate::codec::{self, DecodeError, celery};
use crate::error::Error;
use crate::message::{Envelope, Failure, Headers, Payload, Record, TaskId, WireMessage};

const REASON: &str = "taskq-dead-reason";
const QUEUE: &str = "taskq-dead-queue";
const AT: &str = "taskq-dead-at";
const ERROR_TYPE: &str = "taskq-dead-type";
const ERROR: &str = "taskq-dead-error";
const ATTEMPTS: &str = "taskq-dead-attempts";
const FINGERPRINT: &str = "taskq-dead-fingerprint";

/// How much of an error's text travels with a dead message, in characters.
const ERROR_CHARACTERS_MAX: usize = 2000;

/// Why a message is in the dead set; travels in its headers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeadLetter {
    /// One word: `failed`, `arguments`, `decode`, `unknown-task`, `worker-lost`, `no-queue` (a queue was deleted under
    /// delayed messages for it), or the broker's own, such as `delivery_limit`.
    pub reason: String,
    /// The queue it was taken from; where it goes back to.
    pub queue: String,
    /// When it was given up.
    pub at: Option<DateTime<Utc>>,
    /// The error's type.
    pub error_type: String,
    /// The error's text.
    pub error: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// The same for errors that differ only in numbers; errors are grouped by it.
    pub fingerprint: String,
}

impl DeadLetter {
    /// The letter of a message from `queue` that is given up now because of `failure`.
    pub fn new(reason: &str, queue: &str, task: &str, failure: &Failure, attempts: u32, now: DateTime<Utc>) -> Self {
        let error = failure.message();
        Self {
            reason: reason.to_owned(),
            queue: queue.to_owned(),
            at: Some(now),
            fingerprint: fingerprint(task, &failure.exc_type, &error),
            error_type: failure.exc_type.clone(),
            error: error.chars().take(ERROR_CHARACTERS_MAX).collect(),
            attempts,
        }
    }

    /// Writes it into the headers of its message.
    pub fn stamp(self, headers: &mut Headers) {
        headers.set(REASON, self.reason);
        headers.set(QUEUE, self.queue);
        headers.set(ERROR_TYPE, self.error_type);
        headers.set(ERROR, self.error);
        headers.set(ATTEMPTS, self.attempts);
        headers.set(FINGERPRINT, self.fingerprint);
        if let Some(at) = self.at {
            headers.set(AT, celery::time_text(at));
        }
    }

    /// Takes it out of the headers of a dead message; what the broker itself noted stands in where no worker did.
    fn take(headers: &mut Headers) -> Self {
        let mut text = |key: &str, broker: &str| {
            let noted = headers.remove(broker);
            headers.remove(key).or(noted).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let mut letter = Self {
            reason: text(REASON, DEATH_REASON),
            queue: text(QUEUE, DEATH_QUEUE),
            error_type: text(ERROR_TYPE, ""),
            error: text(ERROR, ""),
            fingerprint: text(FINGERPRINT, ""),
            at: celery::parse_time(&text(AT, "")),
            attempts: headers.remove(ATTEMPTS).and_then(|value| value.as_u64()).unwrap_or(0) as u32,
        };
        if letter.fingerprint.is_empty() {
            // Nobody but the broker has seen it.
            letter.error = brokers_words(&letter.reason, &letter.queue);
            letter.fingerprint = fingerprint(headers.text("task").unwrap_or_default(), &letter.reason, &letter.error);
        }
        letter
    }
}

/// What a reason of the broker's means.
fn brokers_words(reason: &str, queue: &str) -> String {
    match reason {
        NO_QUEUE => {
            format!("there was no queue {queue} any more when its delay was over; `dead retry` makes it again")
        }
        "expired" => "nobody had taken it when its time was over".to_owned(),
        "delivery_limit" => "it came back unfinished more often than the queue allows".to_owned(),
        _ => String::new(),
    }
}

/// Texts that differ only in numbers get the same fingerprint.
fn fingerprint(task: &str, error_type: &str, error: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut in_number = false;
    for byte in task.bytes().chain([0]).chain(error_type.bytes()).chain([0]).chain(error.bytes().take(200)) {
        let digit = byte.is_ascii_digit();
        if !digit {
            eat(byte);
        } else if !in_number {
            eat(b'#');
        }
        in_number = digit;
    }
    format!("{hash:016x}")
}

/// One dead message.
#[derive(Debug, Clone, Serialize)]
pub struct DeadEntry {
    /// The task's id, where the message has one.
    pub id: Option<TaskId>,
    /// The task's name, where the message has one.
    pub task: Option<String>,
    /// Why it is here.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The message as it will go back.
    #[serde(skip)]
    pub message: WireMessage,
}

impl DeadEntry {
    fn read(mut message: WireMessage) -> Self {
        let letter = DeadLetter::take(&mut message.headers);
        let id = message.headers.text("id").and_then(|text| TaskId::parse(text).ok());
        Self { id, task: message.headers.text("task").map(str::to_owned), letter, message }
    }
}

/// The tasks that failed for good and the messages that could not be read.
#[derive(Debug, Clone)]
pub struct DeadSet {
    client: Client,
}

/// Which dead messages are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of them.
    All,
    /// Those of these tasks.
    Ids(&'a [TaskId]),
    /// Those whose errors have this fingerprint.
    Fingerprint(&'a str),
}

impl Which<'_> {
    fn matches(&self, entry: &DeadEntry) -> bool {
        match self {
            Self::All => true,
            Self::Ids(ids) => entry.id.as_ref().is_some_and(|id| ids.contains(id)),
            Self::Fingerprint(fingerprint) => entry.letter.fingerprint == *fingerprint,
        }
    }
}

impl DeadSet {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Up to `limit` dead messages, oldest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadEntry>, Error> {
        self.client.declare(DEAD_QUEUE).await?;
        let browse = self.client.broker().browse(DEAD_QUEUE, limit).await?;
        let entries = browse.deliveries.iter().map(|delivery| DeadEntry::read(delivery.message.clone())).collect();
        browse.finish().await;
        Ok(entries)
    }

    /// The dead message of one task.
    pub async fn show(&self, id: &TaskId) -> Result<DeadEntry, Error> {
        let entries = self.list(usize::MAX).await?;
        let entry = entries.into_iter().find(|entry| entry.id.as_ref() == Some(id));
        entry.ok_or_else(|| Error::NotDead { id: id.clone() })
    }

    /// How many dead messages there are of each error: `fingerprint → (an example, how many)`.
    pub async fn by_error(&self, limit: usize) -> Result<BTreeMap<String, (DeadEntry, usize)>, Error> {
        let mut groups = BTreeMap::new();
        for entry in self.list(limit).await? {
            let group = groups.entry(entry.letter.fingerprint.clone()).or_insert((entry, 0));
            group.1 += 1;
        }
        Ok(groups)
    }

    /// Puts dead messages back into the queues they came from, as first attempts of a new generation, and says how many.
    /// Each leaves the dead set only once the broker has confirmed its new message.
    pub async fn retry(&self, which: &Which<'_>) -> Result<usize, Error> {
        self.take(which, true).await
    }

    /// Removes dead messages for ever, and says how many.
    pub async fn drop(&self, which: &Which<'_>) -> Result<usize, Error> {
        self.take(which, false).await
    }

    async fn take(&self, which: &Which<'_>, put_back: bool) -> Result<usize, Error> {
        self.client.declare(DEAD_QUEUE).await?;
        let mut browse = self.client.broker().browse(DEAD_QUEUE, usize::MAX).await?;
        let mut taken = 0;
        let mut outcome = Ok(());
        for delivery in std::mem::take(&mut browse.deliveries) {
            let entry = DeadEntry::read(delivery.message.clone());
            if outcome.is_err() || !which.matches(&entry) {
                browse.deliveries.push(delivery);
                continue;
            }
            outcome = if put_back { self.put_back(entry).await } else { Ok(()) };
            match outcome {
                Ok(()) => {
                    delivery.acker.ack();
                    taken += 1;
                }
                Err(_) => browse.deliveries.push(delivery),
            }
        }
        browse.finish().await;
        outcome.map(|()| taken)
    }

    async fn put_back(&self, entry: DeadEntry) -> Result<(), Error> {
        let queue = match entry.letter.queue.as_str() {
            "" => self.client.settings().default_queue.as_str(),
            queue => queue,
        };
        let queue = self.client.declare(queue).await?;
        let message = next_generation(entry.message);
        let publication = Publication { queue, message, delay: None };
        self.client.publish(publication).await
    }
}

/// The message as the first attempt of a new generation: its terminal record may be replaced once more. A message
/// that could not be understood goes back as it was.
fn next_generation(message: WireMessage) -> WireMessage {
    match codec::decode(&message) {
        Ok(mut envelope) => {
            envelope.generation += 1;
            envelope.returns = 0;
            envelope.attempt = 0;
            envelope.snoozes = 0;
            envelope.eta = None;
            envelope.expires = None;
            envelope.unknown_since = None;
            codec::encode(envelope)
        }
        Err(_) => message,
    }
}

/// A task's message as it goes to the dead set: the same, with the letter. `queue` is where it was taken from.
pub fn dead_message(
    envelope: &Envelope,
    queue: &str,
    reason: Reason,
    failure: &Failure,
    now: DateTime<Utc>,
) -> WireMessage {
    let attempts = envelope.attempt + 1;
    let letter = DeadLetter::new(reason.as_str(), queue, &envelope.task, failure, attempts, now);
    let mut message = codec::encode(envelope.clone());
    letter.stamp(&mut message.headers);
    message
}

/// What becomes of a message that is no task message.
#[derive(Debug)]
pub struct Unreadable {
    /// What could be read of it: its id, if it has one, and its task's name.
    pub envelope: Envelope,
    /// Its copy for the dead set.
    pub message: WireMessage,
    /// If it has an id: the record that tells whoever waits for it.
    pub record: Option<Record>,
}

impl Unreadable {
    /// The end of a delivered message that was not decoded because of `error`.
    pub fn new(delivery: &Delivery, error: &DecodeError, now: DateTime<Utc>) -> Self {
        let (queue, mut message) = (&delivery.queue, delivery.message.clone());
        let failure = Failure::new("taskq", "DecodeError", error.to_string());
        let id = message.headers.text("id").and_then(|text| TaskId::parse(text).ok());
        let known = id.is_some();
        let task = message.headers.text("task").unwrap_or("(none)").to_owned();
        let letter = DeadLetter::new(Reason::Decode.as_str(), queue, &task, &failure, 0, now);
        letter.stamp(&mut message.headers);
        let envelope = Envelope::new(id.unwrap_or_default(), task, Payload::default());
        let verdict = Verdict::Fail { reason: Reason::Decode, failure };
        let record = verdict.record(&envelope, now).filter(|_| known);
        Self { envelope, message, record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_are_one() {
        let print = |text: &str| fingerprint("mail.send", "Smtp", text);
        assert_eq!(print("user 17 has no address"), print("user 42 has no address"));
        assert_ne!(print("user 17 has no address"), print("user 17 has no name"));
        assert_ne!(print("x"), fingerprint("mail.send", "Dns", "x"));
    }

    #[test]
    fn a_letter_travels_in_the_headers_and_leaves_no_trace() {
        let failure = Failure::new("shop", "NoStock", "none left");
        let letter = DeadLetter::new("failed", "orders", "shop.buy", &failure, 4, DateTime::UNIX_EPOCH);
        let mut headers = Headers::from_iter([("task", "shop.buy"), ("id", "7")]);
        let before = headers.clone();
        letter.clone().stamp(&mut headers);
        assert_eq!(DeadLetter::take(&mut headers), letter);
        assert_eq!(headers, before);
    }

    #[test]
    fn what_the_broker_noted_stands_in() {
        let taken = |reason: &str, task: &str| {
            let mut headers = Headers::from_iter([(DEATH_REASON, reason), (DEATH_QUEUE, "orders"), ("task", task)]);
            let letter = DeadLetter::take(&mut headers);
            assert_eq!((letter.reason.as_str(), letter.queue.as_str()), (reason, "orders"));
            assert_eq!(headers, Headers::from_iter([("task", task)]));
            letter
        };
        let letter = taken("no-queue", "shop.buy");
        assert!(letter.error.contains("no queue orders"), "{letter:?}");
        assert_eq!(letter.fingerprint, taken("no-queue", "shop.buy").fingerprint);
        for (reason, task) in [("no-queue", "shop.sell"), ("expired", "shop.buy"), ("whatever", "shop.buy")] {
            assert_ne!(letter.fingerprint, taken(reason, task).fingerprint);
        }
    }
}
