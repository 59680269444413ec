//! The ledger: everything that was sent, done and observed, recorded outside of the system under test.
//!
//! The ledger is a file to which several processes append lines, each with a single `write`: lines do not mix, and a
//! line that was written stays, whatever becomes of the process that wrote it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use taskq::TaskState;

use super::workload::Expect;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// The time of the note, in milliseconds since 1970.
    pub at: u64,
    /// The process that wrote the line.
    pub pid: u32,
    /// The content.
    #[serde(flatten)]
    pub fact: Fact,
}

/// The content of a line. `id` is the id of the task, `attempt` the number of its attempt, 0 first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the fields are explained by their variant")]
pub enum Fact {
    /// A task is about to be sent.
    Attempted { id: String, expect: Expect },
    /// The broker has confirmed the task's message.
    Acknowledged { id: String },
    /// The broker does not have the message, or it is not known whether it has.
    Refused { id: String, why: String },
    /// A body begins to run.
    Began { id: String, attempt: u32 },
    /// A body was told to stop.
    Told { id: String, attempt: u32 },
    /// A body did its work. The `note` is the task's own.
    Effect {
        id: String,
        attempt: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A terminal record was read. Noted again if a later read differs.
    Ended { id: String, state: TaskState, attempt: u32, worker: Option<String> },
    /// The message is in the dead set.
    Dead { id: Option<String>, reason: String },
    /// A fault begins; what it affects may have to repeat its work.
    Struck { fault: String, affected: Affected },
    /// The fault is over.
    Over { fault: String },
    /// The process that writes this line is about to die of the task.
    Doomed { id: String },
    /// A process of a worker ended, with an exit code or by a signal; `asked` if it had been told to stop.
    Gone { process: u32, code: Option<i32>, signal: Option<i32>, asked: bool },
    /// The results that were stored so far are gone.
    ResultsLost,
    /// The patience is over: acknowledged tasks that have not ended are stuck, and new workers may free them.
    PatienceOver,
    /// Something was observed that must not happen.
    Wrong { what: String },
    /// A measured value; the largest of each name counts.
    Figure { name: String, value: u64 },
}

/// The processes and connections that a fault affects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affected {
    /// These processes.
    Processes(Vec<u32>),
    /// The connections of these processes.
    Connections(Vec<u32>),
    /// The connection of the sender.
    Producer,
    /// The connections of these processes and of the sender.
    Everybody(Vec<u32>),
    /// Nobody: nothing may have to be repeated.
    Nobody,
}

/// The writing side of a ledger. Several processes may each have one of the same file.
#[derive(Debug)]
pub struct Ledger(File);

impl Ledger {
    /// Opens the ledger at `path`; creates it if `create`.
    pub fn open(path: &Path, create: bool) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(create).open(path);
        file.map(Self).map_err(|error| {
            io::Error::new(error.kind(), format!("the ledger {} cannot be opened: {error}", path.display()))
        })
    }

    /// Notes `fact` with the present time.
    pub fn note(&self, fact: Fact) -> io::Result<()> {
        self.note_all([fact])
    }

    /// Notes several facts with the present time, in one write.
    pub fn note_all(&self, facts: impl IntoIterator<Item = Fact>) -> io::Result<()> {
        let mut text = Vec::new();
        for fact in facts {
            let line = LedgerLine { at: now_ms(), pid: std::process::id(), fact };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        (&self.0).write_all(&text)
    }
}

/// The reading side of a ledger: returns the lines that were added since the last read.
#[derive(Debug)]
pub struct LedgerTail {
    file: File,
    /// The beginning of a line whose end was not there yet.
    half: Vec<u8>,
}

impl LedgerTail {
    /// Opens the ledger at `path`, before its first line.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, half: Vec::new() })
    }

    /// Reads the lines that were added. A line that cannot be read is an error: the ledger is the witness, and must be
    /// whole.
    pub fn read(&mut self) -> io::Result<Vec<LedgerLine>> {
        self.file.read_to_end(&mut self.half)?;
        let whole = self.half.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.half.split_off(whole);
        let text = std::mem::replace(&mut self.half, rest);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
    }
}

/// Returns the present time in milliseconds since 1970; 0 if the clock shows a time before.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_once_and_half_lines_wait() {
        let path = std::env::temp_dir().join(format!("taskq-ledger-{}", taskq::TaskId::new()));
        let ledger = Ledger::open(&path, true).expect("the temporary folder can be written");
        let mut tail = LedgerTail::open(&path).expect("it is there");
        let began = |id: &str| Fact::Began { id: id.to_owned(), attempt: 0 };
        let gone = Fact::Gone { process: 7, code: None, signal: Some(9), asked: false };
        let struck = Fact::Struck { fault: "kill".into(), affected: Affected::Processes(vec![7]) };
        ledger.note_all([began("a"), gone.clone(), struck.clone()]).expect("it can be written");
        let facts = |tail: &mut LedgerTail| -> Vec<Fact> {
            tail.read().expect("it can be read").into_iter().map(|line| line.fact).collect()
        };
        assert_eq!(facts(&mut tail), [began("a"), gone, struck]);
        assert_eq!(facts(&mut tail), []);

        let text = serde_json::to_vec(&LedgerLine { at: 1, pid: 2, fact: began("b") }).expect("it is JSON");
        let (first, second) = text.split_at(10);
        let mut raw = OpenOptions::new().append(true).open(&path).expect("it is there");
        raw.write_all(first).expect("it can be written");
        assert_eq!(facts(&mut tail), []);
        raw.write_all(second).and_then(|()| raw.write_all(b"\n")).expect("it can be written");
        assert_eq!(facts(&mut tail), [began("b")]);

        raw.write_all(b"nonsense\n").expect("it can be written");
        assert!(tail.read().is_err(), "a witness who mumbles is no witness");
        std::fs::remove_file(&path).expect("it is there");
    }

    #[test]
    fn a_ledger_that_is_not_there_is_named() {
        let error = Ledger::open(Path::new("/no/such/ledger"), false).expect_err("it is not there");
        assert!(error.to_string().contains("/no/such/ledger"), "{error}");
    }
}
