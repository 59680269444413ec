//! The tables of a file, compared with those that taskq makes.
//!
//! A file comes from anybody who could write its folder. What SQLite runs for its tables (triggers, views, expressions
//! of indexes and columns) is part of the file, so one that differs from what the migrations make is refused. Tables of
//! other names are left alone: nothing looks at them.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::fault::Fault;

/// A table, index, view or trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaItem {
    /// One of these words.
    pub(super) kind: String,
    pub(super) name: String,
    /// The table that it belongs to.
    pub(super) table: String,
    /// The statement that makes it; SQLite's own indexes have none.
    pub(super) sql: Option<String>,
}

impl SchemaItem {
    /// The statement without the layout, which tools that copy files may change.
    fn statement(&self) -> String {
        self.sql.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The tables and indexes that these migrations make.
pub(super) fn made_by(steps: &[&str]) -> rusqlite::Result<Vec<SchemaItem>> {
    let connection = Connection::open_in_memory()?;
    for step in steps {
        connection.execute_batch(step)?;
    }
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_master")?;
    let rows = statement.query_map([], |row| {
        Ok(SchemaItem { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    })?;
    rows.collect()
}

/// Refuses a file whose tables are not the expected ones.
pub(super) fn compare(path: &Path, found: &[SchemaItem], expected: &[SchemaItem]) -> Result<(), Fault> {
    let expected: BTreeMap<(&str, &str), &SchemaItem> = expected.iter().map(|item| (key(item), item)).collect();
    let path = path.display();
    let refused = |what: String, remedy: String| {
        let text = format!(
            "{path} has {what}, which taskq did not make; nothing of it was run; {remedy}, or name another file"
        );
        Err(Fault::unusable(text))
    };
    for item in found {
        let SchemaItem { kind, name, table, .. } = item;
        match expected.get(&key(item)) {
            Some(known) if known.statement() == item.statement() && known.table == *table => {}
            Some(_) => {
                let remedy = "find out who has changed it, and put a backup in its place".to_owned();
                return refused(format!("another {kind} {name:?}"), remedy);
            }
            None if kind == "table" && !expected.contains_key(&("index", name)) => {}
            None if kind == "index" && !expected.contains_key(&("table", table)) => {}
            None => {
                let drop = format!("DROP {} {}", kind.to_uppercase(), quoted(name));
                let remedy = format!("find out who has put it there, and remove it (`sqlite3 {path}`: {drop:?})");
                return refused(format!("the {kind} {name:?} on {table:?}"), remedy);
            }
        }
    }
    let missing = expected.iter().find(|(key, _)| !found.iter().any(|item| self::key(item) == **key));
    missing.map_or(Ok(()), |((kind, name), _)| {
        let text = format!("{path} has lost its {kind} {name:?}; put a backup in its place, or name another file");
        Err(Fault::unusable(text))
    })
}

fn key(item: &SchemaItem) -> (&str, &str) {
    (&item.kind, &item.name)
}

/// A name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
