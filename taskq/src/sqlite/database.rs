//! An open database file: its writing thread, its reading thread, and the channels to them.

#![expect(clippy::disallowed_types, reason = "waits on the caller's thread, which no clock of a runtime governs")]

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;

use super::companions;
use super::fault::Fault;
use super::identity::Identity;
use super::location::Location;
use super::observer::{Observer, Observers};
use super::reader::{Question, Reader};
use super::schema;
use super::writer::{Job, Tx, Work, Writer};
use crate::access::{self, FileMode};

/// The maximum time for which another process may keep the file locked before a change is given up.
const LOCKED_MAX: Duration = Duration::from_secs(10);

/// The flags of both connections. The file was made before, and a link that has taken its place is not followed.
const FLAGS: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX).union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// The maximum size of each connection's page cache: 8 MiB.
const CACHE_KIB: i64 = 8 << 10;

/// The size to which the write-ahead log is truncated after it has grown.
const LOG_BYTES_KEPT: i64 = 64 << 20;

/// An open database file. Its threads end once the last clone of the `Arc` is gone and all pending work is done.
pub(crate) struct Database {
    path: Arc<Path>,
    writer: Sender<Box<dyn Work>>,
    reader: Sender<Question>,
    observers: Arc<Observers>,
    identity: Identity,
    /// The number that tells the records of this process from those of other processes.
    number: i64,
    /// The process that has the threads.
    process: u32,
}

impl Database {
    /// Opens a file, or returns the instance that this process has open already. A file that is not there is made, for
    /// the users of `mode`. Blocks.
    pub(crate) fn open(location: &Location, mode: FileMode) -> Result<Arc<Self>, Fault> {
        static OPEN: OnceLock<Mutex<HashMap<Location, Weak<Database>>>> = OnceLock::new();
        // The lock is held while a file is being opened, so that each file is opened only once.
        let mut open = OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.get(location).and_then(Weak::upgrade) {
            // The open instance is of no use if the file was deleted: the caller means the new one. Nor if this process
            // was forked from the one that has opened it.
            if database.is_current() {
                return Ok(database);
            }
        }
        let database = Self::open_alone(location, mode)?;
        open.retain(|_, database| database.strong_count() > 0);
        open.insert(location.clone(), Arc::downgrade(&database));
        Ok(database)
    }

    /// Opens a file as another process would, sharing nothing but the file itself. Blocks.
    pub(crate) fn open_alone(location: &Location, mode: FileMode) -> Result<Arc<Self>, Fault> {
        location.check_file_system().map_err(Fault::unusable)?;
        let path: Arc<Path> = location.path.as_path().into();
        companions::create(&path, mode)?;
        let started = Instant::now();
        let connection = loop {
            match connect_writer(&path, location.full) {
                // SQLite does not always wait by itself when two processes create a file at the same time.
                Err(Opening::Sqlite(error)) if is_locked(&error) && started.elapsed() < LOCKED_MAX => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Opening::Sqlite(error)) => return Err(Fault::of(&path, &error)),
                Err(Opening::Fault(fault)) => return Err(fault),
                Ok(connection) => break connection,
            }
        };
        let reading = connect_reader(&path).map_err(|error| Fault::of(&path, &error))?;
        let identity = Identity::of(&path)?;
        for warning in companions::exposure(&path, mode) {
            access::warn_once(&warning);
        }

        let observers = Arc::new(Observers::default());
        let (writer, jobs) = mpsc::channel();
        let (reader, questions) = mpsc::channel();
        let (file, seers) = (|| Arc::clone(&path), || Arc::clone(&observers));
        let writing = Writer { connection, path: file(), identity, observers: seers() };
        let reading = Reader { connection: reading, path: file(), identity, observers: seers() };
        thread("taskq-sqlite-w", move || writing.run(&jobs))?;
        thread("taskq-sqlite-r", move || reading.run(&questions))?;
        Ok(Arc::new(Self {
            path,
            writer,
            reader,
            observers,
            identity,
            number: super::unique_number(),
            process: std::process::id(),
        }))
    }

    /// Makes a change in a transaction, together with all other pending changes, and answers after the commit. The
    /// change is queued when this returns; the future only waits for the answer. The closure may be called more than
    /// once, each time on a file on which it has had no effect yet.
    pub(crate) fn write<T, F>(&self, change: F) -> impl Future<Output = Result<T, Fault>> + Send + 'static + use<T, F>
    where
        F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // If the thread has ended, the answer says so.
        drop(self.writer.send(Box::new(Job::new(change, reply))));
        let path = Arc::clone(&self.path);
        async move { answer.await.unwrap_or_else(|_| Err(Fault::ended(&path))) }
    }

    /// Runs a query that sees at least everything that was committed when this was called.
    pub(crate) fn read<T, F>(&self, question: F) -> impl Future<Output = Result<T, Fault>> + Send + 'static + use<T, F>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let path = Arc::clone(&self.path);
        let asked = Arc::clone(&path);
        let ask = move |connection: Result<&Connection, Fault>| {
            // The caller may have stopped waiting.
            let _ = reply.send(
                connection.and_then(|connection| question(connection).map_err(|error| Fault::of(&asked, &error))),
            );
        };
        // If the thread has ended, the answer says so.
        drop(self.reader.send(Question::Ask(Box::new(ask))));
        async move { answer.await.unwrap_or_else(|_| Err(Fault::ended(&path))) }
    }

    /// Registers `observer`, which is notified of changes for as long as it is alive.
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        self.observers.add(observer);
        self.look();
    }

    /// Wakes the reading thread. To be called when an observer has become interested.
    pub(crate) fn look(&self) {
        // If the thread has ended, no change can be seen, and every query returns an error that says so.
        drop(self.reader.send(Question::Look));
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// The number with which this process marks its records.
    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    fn is_current(&self) -> bool {
        self.process == std::process::id() && self.identity.check(&self.path).is_ok()
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The reason why a file could not be opened.
enum Opening {
    Sqlite(rusqlite::Error),
    Fault(Fault),
}

impl From<rusqlite::Error> for Opening {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn connect_writer(path: &Path, full: bool) -> Result<Connection, Opening> {
    let mut connection = Connection::open_with_flags(path, FLAGS)?;
    configure(&mut connection)?;
    if connection.is_readonly("main")? {
        let text = format!("{} is read-only; give this user write access to it", path.display());
        return Err(Opening::Fault(Fault::unusable(text)));
    }
    // This check precedes every change, so that a file of another program stays as it is.
    schema::check(&connection, path).map_err(Opening::Fault)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let text = format!(
            "{} is on a file system without shared memory (SQLite stays in mode {mode:?}); put it on a local disk",
            path.display()
        );
        return Err(Opening::Fault(Fault::unusable(text)));
    }
    connection.pragma_update(None, "synchronous", if full { "FULL" } else { "NORMAL" })?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    schema::prepare(&mut connection, path).map_err(Opening::Fault)?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(path, FLAGS)?;
    configure(&mut connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn configure(connection: &mut Connection) -> rusqlite::Result<()> {
    // The file may come from anybody, with code in it. Nothing of that runs, not even before the file is refused.
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, value)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    // SQLite's busy handler sleeps for up to 100 ms at a time, and then a process that does not sleep gets every turn.
    let mut started = Instant::now();
    connection.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            started = Instant::now();
        }
        // A process that has held the lock for a second is not in a short transaction.
        let pause = match tries {
            ..200 => 100,
            200..1200 => 1000,
            _ => 5000,
        };
        std::thread::sleep(Duration::from_micros(pause));
        started.elapsed() < LOCKED_MAX
    }))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    let started = builder.spawn(run).map(drop);
    started.map_err(|error| {
        Fault::other(format!("this process gets no more threads ({error}); raise the limit (`ulimit -u`, TasksMax=)"))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::FaultKind;
    use super::*;

    /// An open file in a temporary folder of its own, which is deleted when this is dropped.
    struct Opened(Arc<Database>);

    impl Opened {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("taskq-database-{}", uuid::Uuid::now_v7()));
            fs::create_dir(&folder).expect("the temporary folder can be written");
            let url = format!("sqlite:{}", folder.join("taskq.db").display());
            Self(
                Database::open_alone(&Location::parse(&url).expect("it is one"), FileMode::Owner)
                    .expect("it can be made"),
            )
        }
    }

    impl Drop for Opened {
        fn drop(&mut self) {
            // A test does not fail because of files that are left in the temporary folder.
            drop(fs::remove_dir_all(self.0.path().parent().expect("it is in a folder")));
        }
    }

    #[tokio::test]
    async fn a_change_of_a_file_that_is_deleted_before_the_commit_is_no_success() {
        for end in ["", "-wal", "-shm"] {
            let opened = Opened::new();
            let deleted = format!("{}{end}", opened.0.path().display());
            opened.0.write(|tx| tx.execute("INSERT INTO queues (name) VALUES ('a')", [])).await.expect("it is there");
            let file = deleted.clone();
            let change = opened.0.write(move |tx| {
                fs::remove_file(&file).expect("it is there");
                tx.execute("INSERT INTO queues (name) VALUES ('b')", [])
            });
            let fault = change.await.expect_err("nobody will find it");
            assert_eq!(fault.kind, FaultKind::Gone, "{fault}");
            assert!(fault.text.contains(&format!("{deleted} was deleted")), "{fault}");
            let read = opened.0.read(|connection| connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)));
            assert_eq!(read.await.expect_err("it may be out of date").kind, FaultKind::Gone);
        }
    }

    #[tokio::test]
    async fn one_change_that_fails_takes_none_with_it() {
        let opened = Opened::new();
        let insert =
            |name: &'static str| opened.0.write(move |tx| tx.execute("INSERT INTO queues (name) VALUES (?1)", [name]));
        // The first change keeps the thread busy until the others are queued, so that they share one transaction.
        let (go, wait) = mpsc::channel::<()>();
        let first = opened.0.write(move |_| {
            let _ = wait.recv();
            Ok(())
        });
        let changes = [insert("a"), insert("b"), insert("a"), insert("c")];
        drop(go);
        first.await.expect("it did nothing");
        let outcomes = futures_util::future::join_all(changes).await;
        assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
        let count =
            opened.0.read(|connection| connection.query_row("SELECT count(*) FROM queues", [], |row| row.get(0)));
        assert_eq!(count.await, Ok(3_i64));
    }
}
