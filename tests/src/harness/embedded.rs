//! A file that is broker and result backend, in a folder of one test's own, and what a look into it shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use taskq::{TaskId, TaskState};

use super::{App, BOUND, unique};

/// An embedded broker's file. Deleted, with its folder, when dropped.
#[derive(Debug)]
pub struct Embedded {
    folder: PathBuf,
}

/// The notes of a producer about its tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The ids of those that were accepted.
    pub accepted: Vec<String>,
    /// The ids of those that were not, and why.
    pub refused: Vec<(String, String)>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self::new()
    }
}

impl Embedded {
    /// One in a folder in the temporary folder. The first process that uses the file makes it.
    ///
    /// # Panics
    ///
    /// If the folder cannot be made.
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(unique("taskq-embedded"));
        fs::create_dir(&folder).expect("the temporary folder can be written");
        // As the programs under test name it.
        Self { folder: folder.canonicalize().expect("it was just made") }
    }

    /// The file's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.join("taskq.db")
    }

    /// The file's URL.
    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    /// The program at `program`, with this file as broker and for results.
    pub fn app(&self, program: impl AsRef<Path>) -> App {
        App::new(program).env("TASKQ_BROKER_URL", &self.url()).env("TASKQ_RESULT_URL", &self.url())
    }

    /// The file as SQLite has it, to be closed soon.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn plain(&self) -> Connection {
        let connection = Connection::open(self.path()).expect("the file is there");
        connection.busy_timeout(BOUND).expect("a time-out is a number");
        connection
    }

    /// How many rows a table has.
    ///
    /// # Panics
    ///
    /// If there is no such table.
    pub fn count(&self, table: &str) -> i64 {
        self.plain().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("it is a table")
    }

    /// The state and the attempt of every terminal record, by the task's id.
    ///
    /// # Panics
    ///
    /// If one cannot be read.
    pub fn ends(&self) -> BTreeMap<String, Vec<(TaskState, u32)>> {
        let plain = self.plain();
        let mut statement = plain.prepare("SELECT task, document FROM results").expect("it is a table");
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let mut ends: BTreeMap<String, Vec<(TaskState, u32)>> = BTreeMap::new();
        for row in rows.expect("it can be read") {
            let (id, document) = row.expect("it can be read");
            let task = TaskId::parse(&id).expect("only good ids are stored");
            let record = taskq::internal::codec::result::decode(&task, &document).expect("records can be read");
            if record.state.is_terminal() {
                ends.entry(id).or_default().push((record.state, record.attempt));
            }
        }
        ends
    }

    /// The names of the files beside it that do not belong to SQLite.
    ///
    /// # Panics
    ///
    /// If the folder cannot be read.
    pub fn leftovers(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).expect("the folder is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name().to_string_lossy().into_owned());
        names.filter(|name| !["taskq.db", "taskq.db-wal", "taskq.db-shm"].contains(&name.as_str())).collect()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // What is left in the temporary folder is no test's concern.
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Notes {
    /// The notes of the program `producer` at `path` so far. A line whose end has not been written yet is left out.
    ///
    /// # Panics
    ///
    /// If a line is not of the form that it writes.
    pub fn read(path: &Path) -> Self {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(error) => panic!("{} cannot be read: {error}", path.display()),
        };
        let mut notes = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["ok", id] => notes.accepted.push(id.to_owned()),
                ["refused", id, why] => notes.refused.push((id.to_owned(), why.to_owned())),
                _ => panic!("a note is `ok ID` or `refused ID WHY`: {line:?}"),
            }
        }
        notes
    }
}
