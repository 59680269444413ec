//! The beginning of tests of the embedded broker: a file, a ledger, and the programs that use them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{App, Embedded, Ledger, Notes, Process};

/// A file, and the programs that use it.
#[derive(Debug)]
pub struct SqliteFixture {
    /// The broker and result backend.
    pub file: Embedded,
    /// The effects of the tasks.
    pub ledger: Ledger,
    shop: PathBuf,
    producer: PathBuf,
    notes: PathBuf,
}

impl SqliteFixture {
    /// One with these programs: `env!("CARGO_BIN_EXE_shop")` and `env!("CARGO_BIN_EXE_producer")`.
    pub fn new(shop: impl AsRef<Path>, producer: impl AsRef<Path>) -> Self {
        let (shop, producer, ledger) = (shop.as_ref().to_owned(), producer.as_ref().to_owned(), Ledger::new());
        // Beside the ledger and not beside the file, which may have no room, or be deleted with its folder.
        let notes = PathBuf::from(format!("{}-notes", ledger.path()));
        Self { file: Embedded::new(), ledger, shop, producer, notes }
    }

    /// The worker and its command line.
    pub fn shop(&self) -> App {
        self.file.app(&self.shop)
    }

    /// Starts a worker, and does not wait.
    pub fn worker(&self, concurrency: usize) -> Process {
        self.shop().start(&["worker", "--unsupervised", "-c", &concurrency.to_string(), "-l", "warn"])
    }

    /// A worker that is ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub fn ready_worker(&self, concurrency: usize) -> Process {
        let mut worker = self.worker(concurrency);
        worker.wait_until_ready();
        worker
    }

    /// Starts a producer of so many tasks, which take no time, in batches with a pause after each. Their ids begin with
    /// `prefix`.
    pub fn producer(&self, prefix: &str, count: usize, batch: usize, pause_ms: u64) -> Process {
        let notes = self.notes_path(prefix).display().to_string();
        let [count, batch, pause] = [count.to_string(), batch.to_string(), pause_ms.to_string()];
        let arguments = [&notes, self.ledger.path(), prefix, &count, &batch, &pause];
        self.file.app(&self.producer).start(&arguments)
    }

    /// The notes of the producer of this prefix so far.
    pub fn notes(&self, prefix: &str) -> Notes {
        Notes::read(&self.notes_path(prefix))
    }

    fn notes_path(&self, prefix: &str) -> PathBuf {
        // Where the temporary folder cannot be written, the producer says so.
        drop(fs::create_dir(&self.notes));
        self.notes.join(prefix)
    }

    /// That nothing is left in the file and beside it of those who used it.
    ///
    /// # Panics
    ///
    /// If something is.
    pub fn assert_tidy(&self) {
        for table in ["messages", "ready", "held", "delayed", "leases", "consumers"] {
            assert_eq!(self.file.count(table), 0, "{table}");
        }
        assert_eq!(self.file.leftovers(), Vec::<String>::new());
    }
}

impl Drop for SqliteFixture {
    fn drop(&mut self) {
        // What is left in the temporary folder is no test's concern.
        drop(fs::remove_dir_all(&self.notes));
    }
}
