//! The reading thread: it answers queries and polls for changes by other processes.

#![expect(clippy::disallowed_types, reason = "sleeps on a thread of its own, which no clock of a runtime governs")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fault::Fault;
use super::identity::Identity;
use super::observer::{Observer, Observers};

/// The interval between polls for commits of other processes, while an observer is interested. A poll costs a few
/// microseconds; the interval is the longest delay before a task of another process is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The interval between checks of what SQLite does not report: whether the file still exists and other processes are
/// alive.
const SLOW_POLL_EVERY: Duration = Duration::from_millis(500);

/// Bounds of the pause after a failed poll.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A query to be answered. In place of a connection it may be given the reason why there is none.
pub(super) trait Ask: FnOnce(Result<&Connection, Fault>) + Send {}

impl<F: FnOnce(Result<&Connection, Fault>) + Send> Ask for F {}

/// A request to the reading thread.
pub(super) enum Question {
    /// A query to be answered from the file.
    Ask(Box<dyn Ask>),
    /// A notice that an observer has become interested.
    Look,
}

/// The state of the reading thread.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    pub(super) identity: Identity,
    pub(super) observers: Arc<Observers>,
}

impl Reader {
    /// Runs until all senders are gone.
    pub(super) fn run(self, questions: &Receiver<Question>) {
        let mut seen_version = None;
        let mut next_look = Instant::now();
        let mut next_slow_poll = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            let question = if self.interested().next().is_some() {
                questions.recv_timeout(next_look.saturating_duration_since(Instant::now()))
            } else {
                questions.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match question {
                // The content of a deleted file may be long out of date.
                Ok(Question::Ask(answer)) => answer(self.identity.check(&self.path).map(|()| &self.connection)),
                Ok(Question::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Polling also takes place between queries that never pause.
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_EVERY;
                let mut seen = self.look(&mut seen_version);
                if Instant::now() >= next_slow_poll {
                    next_slow_poll = Instant::now() + SLOW_POLL_EVERY;
                    seen = seen.and_then(|()| self.slow_poll());
                }
                match seen {
                    Ok(()) => pause = PAUSE_MIN,
                    Err(error) => {
                        let fault = Fault::of(&self.path, &error);
                        tracing::error!(%fault, "cannot see what other processes do; looking again in {pause:?}");
                        self.interested().for_each(|observer| observer.poll_failed());
                        next_look = Instant::now() + pause;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        }
    }

    fn interested(&self) -> impl Iterator<Item = Arc<dyn Observer>> {
        self.observers.all().into_iter().filter(|observer| observer.is_interested())
    }

    fn slow_poll(&self) -> rusqlite::Result<()> {
        let gone = self.identity.check(&self.path).is_err();
        for observer in self.interested() {
            if gone {
                observer.file_gone();
            } else {
                observer.slow_poll(&self.connection)?;
            }
        }
        Ok(())
    }

    fn look(&self, seen_version: &mut Option<i64>) -> rusqlite::Result<()> {
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        let changed = *seen_version != Some(version);
        for observer in self.interested() {
            observer.look(&self.connection, changed)?;
        }
        // The version is noted last, so that a change whose poll failed is polled again.
        *seen_version = Some(version);
        Ok(())
    }
}
