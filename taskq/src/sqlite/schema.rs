//! The tables, and the migration of files of earlier versions.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::fault::Fault;
use super::tables::{self, SchemaItem};

/// The application id that marks a file as taskq's: "tskq".
const APPLICATION_ID: i32 = 0x7473_6b71;

/// Migrations: each brings a file from the version of its index to the next. A released step is never changed.
const STEPS: [&str; 1] = [FIRST];

/// The first tables. A message never changes. Its place is given by the one of three tables that has a row for it:
/// `ready`, `delayed` or `held`. So taking and settling rewrite a few bytes, however large the body is.
///
/// A lease is one row, and the rows of all messages taken under it point to it. Renewing it is one change. A process
/// that finds an expired lease deletes it and puts its messages back.
const FIRST: &str = "
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('results', 0);

CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
-- Ids grow as messages arrive, which keeps their order.
CREATE TABLE messages (id INTEGER PRIMARY KEY, properties TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL) STRICT;
-- Smaller ranks first. `returns`: how often it came back.
CREATE TABLE ready (
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, id INTEGER NOT NULL, returns INTEGER NOT NULL,
    PRIMARY KEY (queue, rank, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE delayed (
    due INTEGER NOT NULL, id INTEGER NOT NULL, queue INTEGER NOT NULL, rank INTEGER NOT NULL,
    PRIMARY KEY (due, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE held (
    lease INTEGER NOT NULL, id INTEGER NOT NULL, queue INTEGER NOT NULL, rank INTEGER NOT NULL, returns INTEGER NOT NULL,
    PRIMARY KEY (lease, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (lease INTEGER PRIMARY KEY, until INTEGER NOT NULL) STRICT;
CREATE TABLE consumers (
    lease INTEGER NOT NULL, queue INTEGER NOT NULL, PRIMARY KEY (lease, queue)
) STRICT, WITHOUT ROWID;

-- Every write of a record gets the next number, so what changed since a look is one range.
CREATE TABLE results (
    number INTEGER PRIMARY KEY, task TEXT NOT NULL UNIQUE, writer INTEGER NOT NULL, expires INTEGER, document BLOB NOT NULL
) STRICT;
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, expires INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX kv_expires ON kv (expires) WHERE expires IS NOT NULL;
";

/// Rejects files of other programs and of newer versions, and files whose tables somebody has changed.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), Fault> {
    checked_version(connection, path).map(drop)
}

/// Creates the tables, or migrates them to the current version.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    let failed = |error: rusqlite::Error| Fault::of(path, &error);
    if checked_version(connection, path)? == STEPS.len() {
        return Ok(());
    }
    // The version is read again under the lock, since another process may be migrating the file as well.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let from = checked_version(&transaction, path)?;
    for step in &STEPS[from..] {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", i32::try_from(STEPS.len()).unwrap_or(i32::MAX)).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// The number of migrations that the file has behind it: at most all of them.
fn checked_version(connection: &Connection, path: &Path) -> Result<usize, Fault> {
    let failed = |error: rusqlite::Error| Fault::of(path, &error);
    let (version, found) = look(connection).map_err(failed)?;
    match version {
        Version::Empty => Ok(0),
        Version::Ours(version) if version <= STEPS.len() => {
            let expected = tables::made_by(&STEPS[..version]).map_err(failed)?;
            tables::compare(path, &found, &expected).map(|()| version)
        }
        Version::Ours(newer) => Err(Fault::unusable(format!(
            "{} was written by a newer taskq (format {newer}, this program knows {}); build this program with that \
             version, or name another file",
            path.display(),
            STEPS.len()
        ))),
        Version::Foreign => {
            let text = format!("{} is an SQLite file of another program; name another file", path.display());
            Err(Fault::unusable(text))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Version {
    Empty,
    Ours(usize),
    Foreign,
}

/// The version of a file, and its tables. They are read by one statement, and so from one state of the file: another
/// process may be creating the tables at the same time, and they appear together with the application id.
fn look(connection: &Connection) -> rusqlite::Result<(Version, Vec<SchemaItem>)> {
    const LOOK: &str = "SELECT application_id, user_version, type, name, tbl_name, sql
        FROM pragma_application_id, pragma_user_version LEFT JOIN sqlite_master";
    let mut statement = connection.prepare(LOOK)?;
    let mut rows = statement.query([])?;
    let (mut application_id, mut user_version, mut tables) = (0, 0, Vec::new());
    while let Some(row) = rows.next()? {
        (application_id, user_version) = (row.get(0)?, row.get::<_, i32>(1)?);
        // An empty file has one row, without a table.
        if let Some(kind) = row.get(2)? {
            tables.push(SchemaItem { kind, name: row.get(3)?, table: row.get(4)?, sql: row.get(5)? });
        }
    }
    let version = if application_id == APPLICATION_ID {
        // A version that makes no sense is treated as one that this program does not know.
        Version::Ours(usize::try_from(user_version).unwrap_or(usize::MAX))
    } else if tables.is_empty() && user_version == 0 {
        Version::Empty
    } else {
        Version::Foreign
    };
    Ok((version, tables))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_memory() -> Connection {
        Connection::open_in_memory().expect("memory is there")
    }

    #[test]
    fn preparing_twice_changes_nothing() {
        let mut connection = in_memory();
        prepare(&mut connection, Path::new("a.db")).expect("it is empty");
        assert_eq!(look(&connection).map(|(version, _)| version), Ok(Version::Ours(STEPS.len())));
        prepare(&mut connection, Path::new("a.db")).expect("it is ours");
    }

    #[test]
    fn files_of_others_are_refused() {
        let mut connection = in_memory();
        connection.execute_batch("CREATE TABLE customers (name TEXT)").expect("it is valid");
        let fault = prepare(&mut connection, Path::new("shop.db")).expect_err("it is not ours");
        assert!(fault.text.contains("another program"), "{fault}");
    }

    #[test]
    fn tables_that_somebody_has_changed_are_refused() {
        for (change, words) in [
            ("CREATE TRIGGER evil AFTER INSERT ON messages BEGIN DELETE FROM ready; END", "the trigger \"evil\""),
            ("CREATE TRIGGER evil INSTEAD OF INSERT ON own BEGIN DELETE FROM ready; END", "the "),
            ("CREATE VIEW spy AS SELECT * FROM messages", "the view \"spy\""),
            ("CREATE INDEX costly ON ready (abs(rank))", "the index \"costly\" on \"ready\""),
            ("ALTER TABLE kv ADD COLUMN more TEXT AS (hex(value))", "another table \"kv\""),
            ("DROP TABLE kv; CREATE TABLE kv (key, value, expires)", "another table \"kv\""),
            ("DROP INDEX kv_expires", "lost its index \"kv_expires\""),
            ("DROP TABLE held; CREATE VIEW held AS SELECT * FROM ready", "the view \"held\""),
        ] {
            let mut connection = in_memory();
            prepare(&mut connection, Path::new("a.db")).expect("it is empty");
            connection.execute_batch("CREATE VIEW own AS SELECT 1").expect("it is valid");
            if !change.contains("ON own") {
                connection.execute_batch("DROP VIEW own").expect("it is there");
            }
            connection.execute_batch(change).expect("it is valid");
            let fault = check(&connection, Path::new("a.db")).expect_err(change);
            assert!(fault.text.contains(words) && fault.text.contains("a.db"), "{change}: {fault}");
        }
    }

    #[test]
    fn tables_beside_ours_and_another_layout_are_no_harm() {
        let mut connection = in_memory();
        prepare(&mut connection, Path::new("a.db")).expect("it is empty");
        connection
            .execute_batch("CREATE TABLE lost_and_found (a); CREATE INDEX lost ON lost_and_found (a)")
            .expect("it is valid");
        connection
            .execute_batch(
                "DROP INDEX kv_expires; CREATE INDEX kv_expires\n ON kv (expires)  WHERE expires IS NOT NULL; ANALYZE",
            )
            .expect("it is valid");
        check(&connection, Path::new("a.db")).expect("it is ours");
    }

    #[test]
    fn newer_files_are_refused() {
        let mut connection = in_memory();
        prepare(&mut connection, Path::new("a.db")).expect("it is empty");
        connection.pragma_update(None, "user_version", 99).expect("it is valid");
        let fault = prepare(&mut connection, Path::new("a.db")).expect_err("it is newer");
        assert!(fault.text.contains("newer taskq (format 99"), "{fault}");
    }

    /// A process that reads a file while another one creates the tables sees an empty file or a complete one.
    #[test]
    fn a_file_that_is_being_made_is_not_taken_for_that_of_another_program() {
        let folder = std::env::temp_dir().join(format!("taskq-schema-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        for round in 0..100 {
            let path = folder.join(format!("{round}.db"));
            let open = || {
                let connection = Connection::open(&path).expect("the folder can be written");
                connection.busy_timeout(std::time::Duration::from_secs(60)).expect("it is open");
                connection
            };
            let mut maker = open();
            maker.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).expect("nobody else has it open");
            let watcher = open();
            let made = std::thread::scope(|scope| {
                let making = scope.spawn(|| prepare(&mut maker, &path));
                loop {
                    match look(&watcher).map(|(version, _)| version).expect("it can be read") {
                        Version::Empty => {}
                        found => break assert_eq!(found, Version::Ours(STEPS.len()), "round {round}"),
                    }
                }
                making.join().expect("it does not panic")
            });
            made.expect("it is empty");
        }
        drop(std::fs::remove_dir_all(folder));
    }
}
