//! The thread that reads, and looks whether other processes have changed anything.

#![expect(clippy::disallowed_types, reason = "sleeps on a thread of its own, which no clock of a runtime governs")]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::fault::Fault;
use super::identity::Identity;
use super::observer::{Observer, Observers};

/// How often is looked whether another process has committed anything, while somebody waits for that. A look costs a few
/// microseconds; this is how late a task of another process may be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often is looked at what SQLite does not tell: whether the file is still there, and whether other processes are.
const SLOW_POLL_EVERY: Duration = Duration::from_millis(500);

/// Bounds of the pause after looking failed.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is to be answered; instead of a connection it may be given the reason why there is none.
pub(super) trait Ask: FnOnce(Result<&Connection, Fault>) + Send {}

impl<F: FnOnce(Result<&Connection, Fault>) + Send> Ask for F {}

/// Something for the reading thread.
pub(super) enum Question {
    /// To be answered from the file.
    Ask(Box<dyn Ask>),
    /// An observer has become interested.
    Look,
}

/// What the reading thread owns.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    pub(super) identity: Identity,
    pub(super) observers: Arc<Observers>,
}

impl Reader {
    /// Works until nobody is left who could ask.
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
                // What is read from a file that was deleted may be long out of date.
                Ok(Question::Ask(answer)) => answer(self.identity.check(&self.path).map(|()| &self.connection)),
                Ok(Question::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Also between questions that come without end.
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
        // Only now: a change that could not be looked at is looked at again.
        *seen_version = Some(version);
        Ok(())
    }
}
