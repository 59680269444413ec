//! The writing of records. What is wrong with one record is answered in its place, and holds up no other.
//!
//! * A document that is larger than the server's `proto-max-bulk-len` is not sent: the server would close the
//!   connection, which all operations of the process share.
//! * An error that the server reports is about itself (it is read-only, full, loading) or about one record. Where it
//!   does not say, another record that it takes is the proof that it works.
//! * A large record may break every connection all the same: a proxy may have a limit of its own, or the network may be
//!   too slow for it. It is then tried alone a few times.

use bytes::Bytes;
use redis::{Pipeline, Value};

use super::connection::Connection;
use super::journal::{RecordWrite, Write};
use super::{keys, scripts};
use crate::backend::Written;
use crate::codec::result;
use crate::fault::{BoxError, full_message};
use crate::message::{Record, TaskId};

/// The size in bytes from which a document may be the reason why a connection breaks: the smallest value of
/// `proto-max-bulk-len` that a server takes.
const SUSPECT_MIN: usize = 1024 * 1024;

/// The number of connections that a document may break, or for which it may be too slow, before it counts as the
/// reason.
const TRIES_ALONE: usize = 3;

/// The time to live of a probe.
const PROBE_TTL_MS: u64 = 1000;

/// A record as it is sent.
struct Outbound {
    key: String,
    document: Bytes,
    generation: u32,
    attempt: u32,
    is_terminal: bool,
}

/// The meaning of the server's answer to one record.
#[derive(Debug)]
enum RecordAnswer {
    /// The record was dealt with.
    Final(Written),
    /// The server takes no record at the moment.
    Away(BoxError),
    /// An error that may be about this record or about the server.
    Unclear(String),
}

/// Writes the records. An error means that the server takes none at the moment.
pub(super) async fn write(
    connection: &Connection,
    records: &[Record],
    ttl_ms: Option<u64>,
) -> Result<Vec<Written>, BoxError> {
    let number = connection.number();
    let outbound: Vec<Outbound> = records.iter().map(Outbound::of).collect();
    let limit = connection.document_max();
    let mut written: Vec<Option<Written>> = outbound.iter().map(|outbound| outbound.refusal(limit)).collect();
    let left: Vec<usize> = (0..outbound.len()).filter(|&at| written[at].is_none()).collect();

    let writer = RecordWriter { connection, outbound: &outbound, ttl_ms };
    match writer.send(&left).await {
        Ok(answers) => enter(&mut written, &left, writer.conclude(answers).await?),
        Err(error) => {
            let (suspects, others): (Vec<usize>, Vec<usize>) =
                left.into_iter().partition(|&at| outbound[at].document.len() >= SUSPECT_MIN);
            if suspects.is_empty() {
                return Err(error);
            }
            let answers = writer.send(&others).await?;
            enter(&mut written, &others, writer.conclude(answers).await?);
            for at in suspects {
                written[at] = Some(writer.send_alone(at).await?);
            }
        }
    }
    let written: Vec<Written> =
        written.into_iter().map(|written| written.expect("every record has been dealt with")).collect();
    let writes = outbound.into_iter().zip(&written).filter_map(|(outbound, written)| outbound.kept(written, ttl_ms));
    connection.journal().add(number, writes);
    Ok(written)
}

/// Enters the outcomes of these records.
fn enter(written: &mut [Option<Written>], which: &[usize], outcomes: Vec<Written>) {
    for (&at, outcome) in which.iter().zip(outcomes) {
        written[at] = Some(outcome);
    }
}

struct RecordWriter<'a> {
    connection: &'a Connection,
    outbound: &'a [Outbound],
    ttl_ms: Option<u64>,
}

impl RecordWriter<'_> {
    /// Sends these records as one pipeline.
    async fn send(&self, which: &[usize]) -> Result<Vec<RecordAnswer>, BoxError> {
        if which.is_empty() {
            return Ok(Vec::new());
        }
        let mut calls = Pipeline::with_capacity(which.len());
        for &at in which {
            let Outbound { key, document, generation, .. } = &self.outbound[at];
            calls.add_command(scripts::write_record(key, document, *generation, self.ttl_ms));
        }
        let answers = self.connection.call(calls).await?;
        Ok(answers.into_iter().map(meaning).collect())
    }

    /// The outcomes of records with these answers.
    async fn conclude(&self, answers: Vec<RecordAnswer>) -> Result<Vec<Written>, BoxError> {
        let is_taken = |answer: &RecordAnswer| matches!(answer, RecordAnswer::Final(Written::Stored | Written::Kept));
        let is_unclear = |answer: &RecordAnswer| matches!(answer, RecordAnswer::Unclear(_));
        let works = answers.iter().any(is_taken) || !answers.iter().any(is_unclear) || self.takes_others().await;
        let outcome = |answer| match answer {
            RecordAnswer::Final(written) => Ok(written),
            RecordAnswer::Away(error) => Err(error),
            RecordAnswer::Unclear(why) if works => {
                Ok(Written::Refused { why: format!("the server refused the record: {why}") })
            }
            RecordAnswer::Unclear(why) => Err(why.into()),
        };
        answers.into_iter().map(outcome).collect()
    }

    /// Sends one record by itself until it is answered, or has broken a few connections of a server that takes others.
    async fn send_alone(&self, at: usize) -> Result<Written, BoxError> {
        let mut tries = 1;
        loop {
            let error = match self.send(&[at]).await {
                Ok(answers) => return Ok(self.conclude(answers).await?.swap_remove(0)),
                Err(error) => error,
            };
            if !self.takes_others().await {
                return Err(error);
            }
            if tries == TRIES_ALONE {
                let (size, error) = (self.outbound[at].document.len(), full_message(&*error));
                return Ok(Written::Refused {
                    why: format!(
                        "the record has {size} bytes, and sending it failed {tries} times while others were stored \
                         ({error}); pass a reference to the data instead, or look for a limit between here and the server"
                    ),
                });
            }
            tries += 1;
        }
    }

    /// Whether the server stores a small record of no task.
    async fn takes_others(&self) -> bool {
        let mut calls = Pipeline::with_capacity(1);
        let probe = keys::result(&TaskId::new());
        calls.add_command(scripts::write_record(&probe, b"{}", 0, Some(PROBE_TTL_MS)));
        let answers = self.connection.call(calls).await.unwrap_or_default();
        answers.into_iter().any(|answer| matches!(meaning(answer), RecordAnswer::Final(Written::Stored)))
    }
}

impl Outbound {
    fn of(record: &Record) -> Self {
        Self {
            key: keys::result(&record.id),
            document: result::encode(record).into(),
            generation: record.generation,
            attempt: record.attempt,
            is_terminal: record.state.is_terminal(),
        }
    }

    /// The write as the journal keeps it. A terminal record that was kept may be this one, whose answer was lost.
    fn kept(self, written: &Written, ttl_ms: Option<u64>) -> Option<Write> {
        let is_there = *written == Written::Stored || (*written == Written::Kept && self.is_terminal);
        let Self { key, document, generation, attempt, is_terminal } = self;
        is_there.then(|| Write::Record(RecordWrite { key, document, generation, attempt, is_terminal, ttl_ms }))
    }

    /// The refusal of a document that the server would not take.
    fn refusal(&self, limit: usize) -> Option<Written> {
        let size = self.document.len();
        (size > limit).then(|| Written::Refused {
            why: format!(
                "the record has {size} bytes, and Redis takes {limit} (its setting `proto-max-bulk-len`); pass a reference \
                 to the data instead"
            ),
        })
    }
}

fn meaning(answer: Value) -> RecordAnswer {
    match answer {
        Value::Int(1) => RecordAnswer::Final(Written::Stored),
        Value::Int(0) => RecordAnswer::Final(Written::Kept),
        Value::ServerError(error) => {
            let code = error.code().to_owned();
            let text = format!("{code} {}", error.details().unwrap_or_default());
            // Before Redis 7, an error inside of a script has the code ERR, and its own code in the text.
            let is = |wanted: &str| text.split(|c: char| !c.is_ascii_uppercase()).any(|word| word == wanted);
            if is("WRONGTYPE") {
                let why = "the key of its result holds a value of another kind, which is not taskq's; delete it, or choose \
                           another database";
                RecordAnswer::Final(Written::Refused { why: why.to_owned() })
            } else if OF_THE_SERVER.into_iter().any(is) {
                RecordAnswer::Away(redis::RedisError::from(error).into())
            } else {
                RecordAnswer::Unclear(text)
            }
        }
        other => RecordAnswer::Unclear(format!("the script answered {other:?}")),
    }
}

/// The codes of errors that are about the state of the server or the rights of its user, whatever the record.
const OF_THE_SERVER: [&str; 17] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "DENIED",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNKILLABLE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Value {
        let parsed =
            redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("it is an error of the protocol");
        assert!(matches!(parsed, Value::ServerError(_)), "{parsed:?}");
        parsed
    }

    #[test]
    fn errors_of_the_server_are_told_from_those_of_a_record() {
        for (line, expected) in [
            ("OOM command not allowed when used memory > 'maxmemory'. script: 4a, on @user_script:8.", "away"),
            ("READONLY You can't write against a read only replica. script: 4a, on @user_script:8.", "away"),
            ("NOPERM No permissions to access a key", "away"),
            ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", "away"),
            ("LOADING Redis is loading the dataset in memory", "away"),
            ("ERR Error running script (call to f_4a): @user_script:8: -OOM command not allowed when used", "away"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value script: 4a", "refused"),
            ("ERR Error running script (call to f_4a): @user_script:8: WRONGTYPE Operation against", "refused"),
            ("ERR Protocol error: invalid bulk length", "unclear"),
            ("ERR something that no release has said yet", "unclear"),
        ] {
            let found = match meaning(error(line)) {
                RecordAnswer::Away(_) => "away",
                RecordAnswer::Final(Written::Refused { .. }) => "refused",
                RecordAnswer::Unclear(_) => "unclear",
                RecordAnswer::Final(other) => panic!("{line}: {other:?}"),
            };
            assert_eq!(found, expected, "{line}");
        }
        assert!(matches!(meaning(Value::Int(1)), RecordAnswer::Final(Written::Stored)));
        assert!(matches!(meaning(Value::Int(0)), RecordAnswer::Final(Written::Kept)));
        assert!(matches!(meaning(Value::Int(2)), RecordAnswer::Unclear(_)));
    }
}
