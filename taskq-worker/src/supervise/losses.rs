//! What dead children were running, in files, until a living one has written it down where it belongs.
//!
//! Each supervisor has a folder of its own in the state folder, with a file `lock` that it and its children keep locked, shared,
//! as long as they live. Whoever gets that lock for itself alone knows that all of them are dead, and takes over what they
//! left: the `.flight` files of children whose end nobody saw, and the `.loss` files that nobody has written down.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::group::Id;
use super::link::Order;
use super::state_dir::{self, LOCK, entries, remove, write_durably};
use super::unix::{self, End};
use crate::recorder;
use crate::recorder::flight::{Death, Loss, Recording};

/// The file in which a supervisor says what its children are.
const ABOUT: &str = "about";

/// What a supervisor's children are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// Where their losses are kept. Supervisors whose children keep theirs elsewhere leave the folder alone.
    kept_in: String,
    /// The machine's name.
    host: String,
}

/// How many losses a child is given before it has answered.
const GIVEN_MAX: usize = 16;

/// Losses, and the folder in which they wait.
#[derive(Debug)]
pub(super) struct Losses {
    state_dir: PathBuf,
    folder: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
    host: String,
    adopted: u64,
    about: Option<About>,
    waiting: BTreeMap<String, Waiting>,
}

/// A loss that is not written down yet.
#[derive(Debug)]
struct Waiting {
    loss: Loss,
    given_to: Option<Id>,
}

impl Losses {
    /// Makes this supervisor's folder in `state_dir`, or in a folder for this user that nobody else can write.
    pub(super) fn open(state_dir: Option<&Path>, node: &str, host: &str) -> io::Result<Self> {
        let state_dir = state_dir::find(state_dir)?;
        let name: String = node.chars().map(|sign| if sign == '/' || sign.is_control() { '_' } else { sign }).collect();
        let name = format!("{name}-{}-{}", std::process::id(), now_ms());
        let (folder, lock) = state_dir::make_folder(&state_dir, &name)?;
        let host = host.to_owned();
        Ok(Self { state_dir, folder, _lock: lock, host, adopted: 0, about: None, waiting: BTreeMap::new() })
    }

    /// Where a child records what it runs.
    pub(super) fn flight(&self, id: Id) -> PathBuf {
        self.folder.join(format!("{id}.flight"))
    }

    /// A child ended as it should: it left nothing.
    pub(super) fn forget(&self, id: Id) {
        remove(&self.flight(id));
    }

    /// A child died: gives what it was running, and keeps it to be written down. Where it was running nothing and `was_ready`,
    /// others may still wait for what it had claimed and not begun; then its death alone is kept.
    pub(super) fn note(&mut self, id: Id, end: Option<End>, was_ready: bool) -> Option<Recording> {
        let flight = self.flight(id);
        let host = self.host.clone();
        self.keep(&flight, format!("{id}.loss"), end, host, was_ready)
    }

    /// Takes over what dead supervisors left whose losses are kept at the same place. Does so once.
    pub(super) fn adopt(&mut self, kept_in: &str) {
        let about = About { kept_in: kept_in.to_owned(), host: self.host.clone() };
        if self.about.as_ref() == Some(&about) {
            return;
        }
        let written = serde_json::to_vec(&about).map_err(io::Error::from);
        self.about = Some(about);
        if let Err(error) = written.and_then(|text| write_durably(&self.folder.join(ABOUT), &text)) {
            tracing::warn!(%error, folder = %self.folder.display(), "the state folder cannot be written");
        }
        for folder in entries(&self.state_dir) {
            if self.is_for_us(&folder)
                && let Err(error) = self.take_over(&folder)
            {
                tracing::warn!(%error, folder = %folder.display(), "what a dead worker left cannot be taken over");
            }
        }
    }

    fn is_for_us(&self, folder: &Path) -> bool {
        let is_ours = folder.symlink_metadata().is_ok_and(|about| about.is_dir() && about.uid() == unix::user());
        // A worker that never came so far as to say where has left nothing either.
        let there = about(folder).map(|about| about.kept_in);
        let is_kept_there = there.is_none() || there == self.about.as_ref().map(|about| about.kept_in.clone());
        state_dir::is_finished(folder) && is_ours && is_kept_there && folder != self.folder
    }

    fn take_over(&mut self, folder: &Path) -> io::Result<()> {
        let lock = match File::open(folder.join(LOCK)) {
            // Somebody else has just taken it over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let host = about(folder).map_or_else(|| self.host.clone(), |about| about.host);
        for file in entries(folder) {
            self.adopted += 1;
            let name = format!("adopted-{}.loss", self.adopted);
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("flight") => {
                    if let Some(recording) = self.keep(&file, name, None, host.clone(), true) {
                        let lost = describe(&recording);
                        tracing::warn!(pid = recording.pid, "a process whose end nobody saw was running {lost}");
                    }
                }
                Some("loss") => {
                    let loss = serde_json::from_slice(&std::fs::read(&file)?)?;
                    self.wait(name, loss);
                    remove(&file);
                }
                _ => {}
            }
        }
        std::fs::remove_dir_all(folder)
    }

    /// Makes a loss of a recording, if anything was running or `always`. The file goes last.
    fn keep(&mut self, flight: &Path, name: String, end: Option<End>, host: String, always: bool) -> Option<Recording> {
        let recording = match recorder::read(flight) {
            Ok(recording) => recording,
            // It died before it began to record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, file = %flight.display(), "what a dead process was running cannot be read");
                remove(flight);
                return None;
            }
        };
        let (code, signal) = match end {
            Some(End::Code(code)) => (Some(code), None),
            Some(End::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let death = Death { code, signal, host, at_ms: now_ms() };
        let lost = (!recording.flights.is_empty()).then(|| recording.clone());
        if always || lost.is_some() {
            self.wait(name, Loss { recording, death });
        }
        remove(flight);
        lost
    }

    fn wait(&mut self, name: String, loss: Loss) {
        let written = serde_json::to_vec(&loss).map_err(io::Error::from);
        let written = written.and_then(|text| write_durably(&self.folder.join(&name), &text));
        if let Err(error) = written {
            let folder = self.folder.display();
            tracing::error!(%error, "a loss cannot be kept in {folder}, and is known only as long as this process lives");
        }
        self.waiting.insert(name, Waiting { loss, given_to: None });
    }

    /// What this child, which takes work, is to write down.
    pub(super) fn give(&mut self, child: Id) -> Vec<Order> {
        let given = self.waiting.values().filter(|waiting| waiting.given_to == Some(child)).count();
        let room = GIVEN_MAX.saturating_sub(given);
        let free = self.waiting.iter_mut().filter(|(_, waiting)| waiting.given_to.is_none());
        let give = |(file, waiting): (&String, &mut Waiting)| {
            waiting.given_to = Some(child);
            Order::Report { file: file.clone(), loss: waiting.loss.clone() }
        };
        free.take(room).map(give).collect()
    }

    /// A child is gone; what it has not written down, another one will.
    pub(super) fn take_back(&mut self, child: Id) {
        for waiting in self.waiting.values_mut() {
            if waiting.given_to == Some(child) {
                waiting.given_to = None;
            }
        }
    }

    /// A loss is written down.
    pub(super) fn reported(&mut self, file: &str) {
        // Only what waits is a file of ours.
        if self.waiting.remove(file).is_some() {
            remove(&self.folder.join(file));
        }
    }

    /// The end: the folder goes, unless something in it is left for the next one.
    pub(super) fn close(self) {
        if !self.waiting.is_empty() {
            let (left, folder) = (self.waiting.len(), self.folder.display());
            tracing::warn!("{left} losses are not written down; the next worker does it ({folder})");
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the state folder of this worker is left behind");
        }
    }
}

fn about(folder: &Path) -> Option<About> {
    serde_json::from_slice(&std::fs::read(folder.join(ABOUT)).ok()?).ok()
}

/// What was running, for the log.
pub(super) fn describe(recording: &Recording) -> String {
    const SHOWN: usize = 10;
    let now = now_ms();
    let flights = recording.flights.iter().take(SHOWN).map(|flight| {
        let seconds = now.saturating_sub(flight.since_ms) as f64 / 1000.0;
        let culprit = if flight.culprit { ", which did it" } else { "" };
        format!("{}[{}] (for {seconds:.1} s{culprit})", flight.task, flight.id)
    });
    let mut text = flights.collect::<Vec<_>>().join(", ");
    if recording.flights.len() > SHOWN {
        write!(text, " and {} more", recording.flights.len() - SHOWN).expect("a text can be written to");
    }
    text
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
