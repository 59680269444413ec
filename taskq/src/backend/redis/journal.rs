//! The writes of the last half minute, to be made again on another server.
//!
//! Replication is asynchronous: a replica that is promoted lacks the last writes, and a primary that was replaced takes
//! writes for some seconds that are thrown away when it becomes a replica. So each process keeps what it has written of
//! late, within bounds, and makes those writes again when a connection leads to another server. That is harmless where
//! they were not lost: the first terminal record of a generation wins, and a fact is written only over the value that
//! it had replaced.
//!
//! A fact that has a time to live is a lease, a claim or a unique key; it is also written where nothing is stored. One
//! without is not: it may have been deleted by another process, and must not come back.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// The time for which writes are kept. An old primary is left within 16 s: Sentinel makes it a replica about 11 s after
/// a planned failover, and the next ping shows that.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30);

/// The maximum number of writes that are kept, and their maximum size in bytes. Beyond them the oldest go.
const ENTRIES_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;

/// The size in bytes of an entry without its key and value, roughly.
const ENTRY_BYTES: usize = 160;

/// A write that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Write {
    /// A record was stored under the key of its task.
    Record(RecordWrite),
    /// A value was stored in Kv.
    Fact(FactWrite),
    /// A key was deleted: earlier writes of it are void.
    Deletion {
        /// The key in Redis.
        key: String,
    },
}

/// A record that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordWrite {
    pub(super) key: String,
    pub(super) document: Bytes,
    pub(super) generation: u32,
    pub(super) attempt: u32,
    pub(super) is_terminal: bool,
    pub(super) ttl_ms: Option<u64>,
}

/// A value that was stored in Kv.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FactWrite {
    pub(super) key: String,
    pub(super) value: Bytes,
    /// The value that it replaced; `None` if there was none.
    pub(super) expected: Option<Bytes>,
    pub(super) ttl_ms: Option<u64>,
}

impl Write {
    fn key(&self) -> &str {
        match self {
            Self::Record(RecordWrite { key, .. }) | Self::Fact(FactWrite { key, .. }) | Self::Deletion { key } => key,
        }
    }

    fn size(&self) -> usize {
        let values = match self {
            Self::Record(record) => record.document.len(),
            Self::Fact(fact) => fact.value.len() + fact.expected.as_ref().map_or(0, Bytes::len),
            Self::Deletion { .. } => 0,
        };
        ENTRY_BYTES + self.key().len() + values
    }

    /// The write with what is left of its time to live after `age`; `None` if nothing is left.
    fn aged(&self, age: Duration) -> Option<Self> {
        let mut write = self.clone();
        if let Self::Record(RecordWrite { ttl_ms: Some(ttl_ms), .. })
        | Self::Fact(FactWrite { ttl_ms: Some(ttl_ms), .. }) = &mut write
        {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            *ttl_ms = ttl_ms.checked_sub(age_ms).filter(|left| *left > 0)?;
        }
        Some(write)
    }
}

/// A write, when it was made, and the number of the connection over which it was made.
#[derive(Debug)]
struct JournalEntry {
    at: Instant,
    connection: u64,
    write: Write,
}

/// The writes that another server may lack.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Missing {
    /// The newest record of each task, oldest first.
    pub(super) records: Vec<RecordWrite>,
    /// The facts, oldest first.
    pub(super) facts: Vec<FactWrite>,
    /// Whether some are not kept any more, since there was no room for them.
    pub(super) is_incomplete: bool,
    /// The number of the last entry among these.
    last: u64,
}

/// The writes of late.
#[derive(Debug, Default)]
struct LateWrites {
    entries: VecDeque<JournalEntry>,
    bytes: usize,
    /// The number of entries that went before the first of `entries`.
    gone: u64,
    /// The time of the newest entry that went for lack of room.
    given_up: Option<Instant>,
}

/// The writes of late of one process, shared by all who write.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<LateWrites>);

impl Journal {
    fn entries(&self) -> MutexGuard<'_, LateWrites> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds writes that were made over this connection, or a later one.
    pub(super) fn add(&self, connection: u64, writes: impl IntoIterator<Item = Write>) {
        let now = Instant::now();
        self.entries().add(now, connection, writes);
    }

    /// Forgets what is older than [`KEPT_FOR`]. Called while the server is well: during an outage nothing grows old.
    pub(super) fn prune(&self) {
        let now = Instant::now();
        self.entries().prune(now);
    }

    /// The writes that were made before this connection, oldest first; `None` if there are none.
    pub(super) fn missing_since(&self, connection: u64) -> Option<Missing> {
        let now = Instant::now();
        self.entries().missing_since(connection, now)
    }

    /// Notes that the writes were made again over this connection.
    pub(super) fn made_again(&self, missing: &Missing, connection: u64) {
        self.entries().made_again(missing.last, connection);
    }
}

impl LateWrites {
    fn add(&mut self, now: Instant, connection: u64, writes: impl IntoIterator<Item = Write>) {
        self.prune(now);
        for write in writes {
            self.bytes += write.size();
            self.entries.push_back(JournalEntry { at: now, connection, write });
        }
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            self.given_up = self.drop_first().or(self.given_up);
        }
    }

    /// Drops the oldest entry, and returns its time.
    fn drop_first(&mut self) -> Option<Instant> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.write.size();
        self.gone += 1;
        Some(entry.at)
    }

    fn prune(&mut self, now: Instant) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > KEPT_FOR;
        while self.entries.front().is_some_and(|entry| is_old(entry.at)) {
            self.drop_first();
        }
        self.given_up = self.given_up.filter(|at| !is_old(*at));
        if self.entries.is_empty() {
            // The memory of a burst is not kept.
            self.entries.shrink_to(64);
        }
    }

    fn missing_since(&self, connection: u64, now: Instant) -> Option<Missing> {
        let mut missing = Missing { is_incomplete: self.given_up.is_some(), ..Missing::default() };
        missing.last = self.gone + self.entries.len() as u64;
        let (mut deleted, mut recorded) = (HashSet::new(), HashSet::new());
        let mut found = false;
        for JournalEntry { at, connection: made_over, write } in self.entries.iter().rev() {
            if let Write::Deletion { key } = write {
                deleted.insert(key.as_str());
            }
            if *made_over >= connection || deleted.contains(write.key()) {
                continue;
            }
            found = true;
            match write.aged(now.saturating_duration_since(*at)) {
                Some(Write::Record(record)) if recorded.insert(write.key()) => missing.records.push(record),
                Some(Write::Fact(fact)) => missing.facts.push(fact),
                _ => {}
            }
        }
        missing.records.reverse();
        missing.facts.reverse();
        found.then_some(missing)
    }

    fn made_again(&mut self, last: u64, connection: u64) {
        let count = usize::try_from(last.saturating_sub(self.gone)).unwrap_or(usize::MAX);
        for entry in self.entries.iter_mut().take(count) {
            entry.connection = entry.connection.max(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, attempt: u32, is_terminal: bool) -> Write {
        let (key, document) = (key.to_owned(), Bytes::from(format!("{key} {attempt}")));
        Write::Record(RecordWrite { key, document, generation: 0, attempt, is_terminal, ttl_ms: Some(86_400_000) })
    }

    fn fact(key: &str, value: &'static str, expected: Option<&'static str>, ttl_ms: Option<u64>) -> Write {
        let (value, expected) = (Bytes::from(value), expected.map(Bytes::from));
        Write::Fact(FactWrite { key: key.to_owned(), value, expected, ttl_ms })
    }

    fn keys(missing: &Missing) -> (Vec<&str>, Vec<&str>) {
        let records = missing.records.iter().map(|record| record.key.as_str()).collect();
        (records, missing.facts.iter().map(|fact| fact.key.as_str()).collect())
    }

    #[test]
    fn the_newest_record_of_each_task_is_missing_and_every_fact() {
        let (mut entries, now) = (LateWrites::default(), Instant::now());
        entries.add(now, 1, [record("a", 0, false), record("b", 0, true), record("a", 1, true)]);
        entries.add(now, 1, [fact("l", "1", None, Some(9)), fact("l", "2", Some("1"), Some(9))]);
        let missing = entries.missing_since(2, now).expect("all are older");
        assert_eq!(keys(&missing), (vec!["b", "a"], vec!["l", "l"]));
        assert_eq!(missing.records[1].attempt, 1);
        assert!(!missing.is_incomplete);
        assert!(entries.missing_since(1, now).is_none(), "they were made on this server");
    }

    #[test]
    fn what_was_deleted_stays_so() {
        let (mut entries, now) = (LateWrites::default(), Instant::now());
        let deletion = Write::Deletion { key: "l".to_owned() };
        entries.add(now, 1, [fact("l", "1", None, Some(9)), deletion, fact("m", "1", None, Some(9))]);
        assert_eq!(keys(&entries.missing_since(2, now).expect("one is left")).1, ["m"]);
        entries.add(now, 1, [fact("l", "3", None, Some(9))]);
        assert_eq!(keys(&entries.missing_since(2, now).expect("it came again")).1, ["m", "l"]);
    }

    #[test]
    fn what_was_made_again_is_not_missing_and_what_came_meanwhile_is() {
        let (mut entries, now) = (LateWrites::default(), Instant::now());
        entries.add(now, 1, [record("a", 0, true)]);
        let missing = entries.missing_since(2, now).expect("it is older");
        // The answer of the old server came late.
        entries.add(now, 1, [record("b", 0, true)]);
        entries.made_again(missing.last, 2);
        assert_eq!(keys(&entries.missing_since(2, now).expect("one is left")).0, ["b"]);
    }

    #[test]
    fn a_lease_that_has_run_out_is_not_taken_again() {
        let (mut entries, now) = (LateWrites::default(), Instant::now());
        entries.add(
            now,
            1,
            [fact("l", "1", None, Some(5000)), fact("m", "1", None, Some(20_000)), fact("n", "1", None, None)],
        );
        let missing = entries.missing_since(2, now + Duration::from_secs(8)).expect("two are left");
        assert_eq!(keys(&missing).1, ["m", "n"]);
        assert_eq!(missing.facts[0].ttl_ms, Some(12_000));
    }

    #[test]
    fn time_and_room_are_bounded() {
        let (mut entries, now) = (LateWrites::default(), Instant::now());
        entries.add(now, 1, [record("a", 0, true)]);
        entries.prune(now + KEPT_FOR);
        assert!(entries.missing_since(2, now).is_some(), "it is kept for that long");
        entries.prune(now + KEPT_FOR + Duration::from_secs(1));
        assert!(entries.missing_since(2, now).is_none());
        assert_eq!(entries.bytes, 0);
        entries.add(now, 1, (0..=ENTRIES_MAX).map(|number| record(&number.to_string(), 0, true)));
        let missing = entries.missing_since(2, now).expect("there are many");
        assert_eq!((missing.records.len(), missing.is_incomplete), (ENTRIES_MAX, true));
        assert_eq!(missing.records[0].key, "1", "the oldest went");
        let large =
            Write::Record(RecordWrite { document: Bytes::from(vec![0; BYTES_MAX]), ..missing.records[0].clone() });
        entries.add(now, 1, [large]);
        assert_eq!((entries.entries.len(), entries.bytes), (0, 0), "it is larger than everything that is kept");
    }
}
