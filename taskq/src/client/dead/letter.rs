//! The letter of a dead message: why it was given up, as headers.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::broker::{DEATH_QUEUE, DEATH_REASON, NO_QUEUE, NOT_DELAYED};
use crate::codec::celery;
use crate::hash::fnv1a;
use crate::message::{Failure, Headers};

/// The version of the letter's headers; absent in messages means 1. Raise it with any change that would make an older
/// program put a message back wrongly.
const VERSION: &str = "taskq-dead-version";
const VERSION_KNOWN: u64 = 1;

const REASON: &str = "taskq-dead-reason";
const QUEUE: &str = "taskq-dead-queue";
const AT: &str = "taskq-dead-at";
const ERROR_TYPE: &str = "taskq-dead-type";
pub(super) const ERROR: &str = "taskq-dead-error";
const ATTEMPTS: &str = "taskq-dead-attempts";
const FINGERPRINT: &str = "taskq-dead-fingerprint";

/// The headers of a letter, each of which holds a short text or a number.
pub(super) const HEADERS: [&str; 7] = [REASON, QUEUE, AT, ERROR_TYPE, ERROR, ATTEMPTS, FINGERPRINT];

/// The number of characters of an error's text that are kept with a dead message.
const ERROR_CHARACTERS_MAX: usize = 2000;

/// The reason for which a message is in the dead set, stored in the message's headers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// One word: `failed`, `arguments`, `decode`, `unknown-task`, `worker-lost`, `result` (the task succeeded, and its
    /// result could not be stored), `unsendable` (its next message could not be published), `no-queue` (a queue was
    /// deleted under delayed messages for it), `not-delayed` (it was sent to a queue of taskq's own), or the broker's
    /// own, such as `delivery_limit`.
    pub reason: String,
    /// The queue that the message was taken from and goes back to. From a queue of taskq's own it goes to the default
    /// queue.
    pub queue: String,
    /// When the message was given up.
    pub at: Option<DateTime<Utc>>,
    /// The error's type.
    pub error_type: String,
    /// The error's text.
    pub error: String,
    /// The number of attempts that were made.
    pub attempts: u32,
    /// A hash that is equal for errors that differ only in numbers; errors are grouped by it.
    pub fingerprint: String,
    /// The version of the letter's format, if it is newer than this program knows; the other fields may then be
    /// incomplete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer_version: Option<u64>,
}

impl DeadLetter {
    /// Makes the letter of a message from `queue` that is given up now because of `failure`.
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
            newer_version: None,
        }
    }

    /// Writes the letter into the headers of its message.
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

    /// Takes the letter out of the headers of a dead message. Where the broker moved it into the dead set, only the
    /// broker's own notes count: the sender may have written the letter that is there.
    pub(super) fn take(headers: &mut Headers) -> Self {
        let version = headers.remove(VERSION).and_then(|version| version.as_u64()).unwrap_or(VERSION_KNOWN);
        let by_broker = headers.contains(DEATH_REASON);
        let mut text = |key: &str, broker: &str| {
            let (noted, written) = (headers.remove(broker), headers.remove(key));
            let value = if by_broker { noted } else { written };
            value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let mut letter = Self {
            reason: text(REASON, DEATH_REASON),
            queue: text(QUEUE, DEATH_QUEUE),
            error_type: text(ERROR_TYPE, ""),
            error: text(ERROR, ""),
            fingerprint: text(FINGERPRINT, ""),
            at: celery::parse_time(&text(AT, "")),
            attempts: headers.remove(ATTEMPTS).and_then(|value| value.as_u64()).unwrap_or(0) as u32,
            newer_version: None,
        };
        if by_broker {
            letter.attempts = 0;
        }
        if letter.fingerprint.is_empty() {
            // No worker has written a letter.
            letter.error = error_of_broker(&letter.reason, &letter.queue);
            letter.fingerprint = fingerprint(headers.text("task").unwrap_or_default(), &letter.reason, &letter.error);
        }
        letter.newer_version = Some(version).filter(|version| *version > VERSION_KNOWN);
        letter
    }
}

/// Returns the error text for a reason of the broker's.
fn error_of_broker(reason: &str, queue: &str) -> String {
    match reason {
        NO_QUEUE => {
            format!("there was no queue {queue} any more when its delay was over; `dead retry` makes it again")
        }
        NOT_DELAYED => format!(
            "it was sent to {queue}, where only taskq's own delayed messages wait; `dead retry` sends it to the default \
             queue"
        ),
        "expired" => "nobody had taken it when its time was over".to_owned(),
        "delivery_limit" => "it came back unfinished more often than the queue allows".to_owned(),
        _ => String::new(),
    }
}

/// Returns the fingerprint of an error; texts that differ only in numbers have equal ones.
fn fingerprint(task: &str, error_type: &str, error: &str) -> String {
    let mut in_number = false;
    let bytes = task.bytes().chain([0]).chain(error_type.bytes()).chain([0]).chain(error.bytes().take(200));
    let without_numbers = bytes.filter_map(|byte| {
        let continues = std::mem::replace(&mut in_number, byte.is_ascii_digit());
        match (in_number, continues) {
            (false, _) => Some(byte),
            (true, false) => Some(b'#'),
            (true, true) => None,
        }
    });
    format!("{:016x}", fnv1a(without_numbers))
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

    #[test]
    fn a_letter_of_a_newer_format_says_so() {
        let failure = Failure::new("shop", "NoStock", "none left");
        let letter = DeadLetter::new("failed", "orders", "shop.buy", &failure, 4, DateTime::UNIX_EPOCH);
        let versions = [(None, None), (Some(1), None), (Some(2), Some(2))];
        for (written, newer_version) in versions {
            let mut headers = Headers::new();
            letter.clone().stamp(&mut headers);
            if let Some(version) = written {
                headers.set(VERSION, version);
            }
            assert_eq!(DeadLetter::take(&mut headers), DeadLetter { newer_version, ..letter.clone() });
            assert!(headers.is_empty(), "{headers:?}");
        }
    }
}
