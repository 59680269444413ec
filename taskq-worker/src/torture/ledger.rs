//! The ledger: what was asked for, done and seen, noted outside of everything that is under test.
//!
//! A file that several processes append lines to, each with one `write`, so that lines do not mix and a line that was
//! written is there whatever becomes of its writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use taskq::TaskState;

use super::plan::Expect;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When it was noted, in milliseconds since 1970.
    pub(crate) at: u64,
    /// The process that noted it.
    pub(crate) pid: u32,
    /// What it says.
    #[serde(flatten)]
    pub(crate) fact: Fact,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub(crate) enum Fact {
    /// A task is about to be sent.
    Attempted { id: String, expect: Expect },
    /// The broker has it.
    Acknowledged { id: String },
    /// The broker does not have it, or nobody knows.
    Refused { id: String, why: String },
    /// A body begins to run.
    Began { id: String, attempt: u32 },
    /// A body was told to stop.
    Told { id: String, attempt: u32 },
    /// A body did what it is there for.
    Effect { id: String, attempt: u32 },
    /// A terminal record was read. Noted again if it reads otherwise later.
    Ended { id: String, state: TaskState, attempt: u32, worker: Option<String> },
    /// The message is in the dead set.
    Dead { id: Option<String>, reason: String },
    /// A fault begins; whatever it struck may have to repeat what it was doing.
    Struck { fault: String, whom: Whom },
    /// That fault is over.
    Over { fault: String },
    /// This process is about to die of what it runs.
    Doomed { id: String },
    /// A worker's process ended.
    Gone { process: u32, code: Option<i32>, signal: Option<i32>, asked: bool },
    /// The results that were stored so far are gone.
    ResultsLost,
    /// What was acknowledged should have ended by now; what has not is stuck, and may be freed by new workers.
    PatienceOver,
    /// Something that must not be, seen by whoever looked.
    Wrong { what: String },
    /// A measured value: the largest of a name counts.
    Figure { name: String, value: u64 },
}

/// Whom a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Whom {
    /// These processes.
    Processes(Vec<u32>),
    /// These processes lose their connections.
    Connections(Vec<u32>),
    /// The connection of whoever sends.
    Producer,
    /// All of these processes lose their connections, and whoever sends does.
    Everybody(Vec<u32>),
    /// Nobody: nothing may have to be repeated.
    Nobody,
}

/// The writing side. Several processes may each have one of the same ledger.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    /// Opens the ledger at `path`, and makes it if `create`.
    pub(crate) fn open(path: &Path, create: bool) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(create).open(path);
        file.map(Self).map_err(|error| {
            io::Error::new(error.kind(), format!("the ledger {} cannot be opened: {error}", path.display()))
        })
    }

    /// Notes `fact`, now.
    pub(crate) fn note(&self, fact: Fact) -> io::Result<()> {
        self.note_all([fact])
    }

    /// Notes several facts as of now, in one write.
    pub(crate) fn note_all(&self, facts: impl IntoIterator<Item = Fact>) -> io::Result<()> {
        let mut text = Vec::new();
        for fact in facts {
            let line = Line { at: now_ms(), pid: std::process::id(), fact };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        (&self.0).write_all(&text)
    }
}

/// The reading side: gives what has been added since the last look.
#[derive(Debug)]
pub(crate) struct Tail {
    file: File,
    /// The beginning of a line whose end was not there yet.
    half: Vec<u8>,
}

impl Tail {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, half: Vec::new() })
    }

    /// The lines that were added. A line that is none is an error: the ledger is the witness, and must be whole.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Line>> {
        self.file.read_to_end(&mut self.half)?;
        let whole = self.half.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.half.split_off(whole);
        let text = std::mem::replace(&mut self.half, rest);
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(io::Error::from)).collect()
    }
}

/// The time now, in milliseconds since 1970; 0 if the clock shows a time before.
pub(crate) fn now_ms() -> u64 {
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
        let mut tail = Tail::open(&path).expect("it is there");
        let began = |id: &str| Fact::Began { id: id.to_owned(), attempt: 0 };
        let gone = Fact::Gone { process: 7, code: None, signal: Some(9), asked: false };
        let struck = Fact::Struck { fault: "kill".into(), whom: Whom::Processes(vec![7]) };
        ledger.note_all([began("a"), gone.clone(), struck.clone()]).expect("it can be written");
        let facts = |tail: &mut Tail| -> Vec<Fact> {
            tail.read().expect("it can be read").into_iter().map(|line| line.fact).collect()
        };
        assert_eq!(facts(&mut tail), [began("a"), gone, struck]);
        assert_eq!(facts(&mut tail), []);

        let text = serde_json::to_vec(&Line { at: 1, pid: 2, fact: began("b") }).expect("it is JSON");
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
