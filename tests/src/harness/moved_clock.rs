//! A clock that is moved under a running program.

use std::path::PathBuf;
use std::process::Command;

use super::{App, Folder};

/// The clock on the wall of the programs that are started with it, and of no others.
#[derive(Debug)]
pub struct MovedClock {
    folder: Folder,
}

impl MovedClock {
    /// A clock that is right so far. `None`, with a line that says so, where there is no C compiler to build what moves
    /// it.
    ///
    /// # Panics
    ///
    /// If the compiler fails; if there is none and `TASKQ_TEST_REQUIRE_SERVERS=1`, so that nothing is skipped where
    /// everything must run.
    pub fn new() -> Option<Self> {
        let clock = Self { folder: Folder::new("clock") };
        clock.put(0);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/harness/moved_clock.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(clock.library()).arg(source).status();
        match built {
            Ok(status) => assert!(status.success(), "{source} cannot be compiled"),
            Err(error) => {
                let must_run = std::env::var("TASKQ_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
                assert!(!must_run, "no C compiler, which moves the clock: {error}");
                eprintln!("skipped: no C compiler, which moves the clock: {error}");
                return None;
            }
        }
        Some(clock)
    }

    /// The program, going by this clock.
    #[must_use]
    pub fn of(&self, app: &App) -> App {
        let text = |path: PathBuf| path.to_str().expect("the temporary folder has a Unicode path").to_owned();
        app.clone().env("LD_PRELOAD", &text(self.library())).env("MOVED_CLOCK", &text(self.offset()))
    }

    /// Makes it differ from the right time by so many seconds.
    ///
    /// # Panics
    ///
    /// If the temporary folder cannot be written.
    pub fn put(&self, seconds: i64) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, seconds.to_string()).expect("the folder can be written");
        std::fs::rename(new, self.offset()).expect("it can be renamed");
    }

    /// By how many seconds it differs.
    ///
    /// # Panics
    ///
    /// If the temporary folder cannot be read.
    pub fn seconds(&self) -> i64 {
        let text = std::fs::read_to_string(self.offset()).expect("it was written");
        text.parse().expect("it is a number")
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("moved_clock.so")
    }

    fn offset(&self) -> PathBuf {
        self.folder.path().join("seconds")
    }
}
