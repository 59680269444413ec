//! The losses of dead children: what they were running, kept in files until a living child has stored it.
//!
//! Each supervisor has a folder of its own in the state folder, with a file `lock` that it and its children keep
//! locked, shared, as long as they live. A supervisor that gets that lock exclusively knows that all of them are dead,
//! and takes over what they left: the `.flight` files of children whose end no supervisor saw, and the `.loss` files
//! that are not stored yet.

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
use super::link::SupervisorMessage;
use super::state_dir::{self, LOCK, entries, remove, write_durably};
use super::unix::{self, ProcessEnd};
use crate::recorder;
use crate::recorder::flight::{Death, Loss, Recording};

/// The file that says whose losses are in a folder.
const OWNER: &str = "owner";

/// The supervisor to which a folder belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FolderOwner {
    /// The store of its losses. Supervisors whose children have another store leave the folder alone.
    kept_in: String,
    /// The machine's name.
    host: String,
}

/// The longest part of a node's name in the name of a folder, in bytes. It is for people only.
const NODE_BYTES_MAX: usize = 64;

/// The number of losses that a child may have at a time.
const GIVEN_MAX: usize = 16;

/// The losses of a supervisor, and the folder in which they wait to be stored.
#[derive(Debug)]
pub(super) struct LossStore {
    state_dir: PathBuf,
    folder: PathBuf,
    /// The lock of the folder, held while it is open.
    _lock: File,
    host: String,
    adopted: u64,
    owner: Option<FolderOwner>,
    waiting: BTreeMap<String, WaitingLoss>,
}

/// A loss that is not stored yet.
#[derive(Debug)]
struct WaitingLoss {
    loss: Loss,
    given_to: Option<Id>,
}

impl LossStore {
    /// Creates the folder of this supervisor in `state_dir`, or in a folder that only this user can write.
    pub(super) fn open(state_dir: Option<&Path>, node: &str, host: &str) -> io::Result<Self> {
        let state_dir = state_dir::find(state_dir)?;
        let name = format!("{}-{}-{}", short(node), std::process::id(), now_ms());
        let (folder, lock) = state_dir::make_folder(&state_dir, &name)?;
        let host = host.to_owned();
        Ok(Self { state_dir, folder, _lock: lock, host, adopted: 0, owner: None, waiting: BTreeMap::new() })
    }

    /// Returns the file in which a child records what it runs.
    pub(super) fn flight(&self, id: Id) -> PathBuf {
        self.folder.join(format!("{id}.flight"))
    }

    /// Removes the recording of a child that ended as it should.
    pub(super) fn forget(&self, id: Id) {
        remove(&self.flight(id));
    }

    /// Returns what a dead child was running, and keeps it to be stored. If it was running nothing and `was_ready`,
    /// other workers may still wait for tasks that it had claimed and not begun; then its death alone is kept.
    pub(super) fn note(&mut self, id: Id, end: Option<ProcessEnd>, was_ready: bool) -> Option<Recording> {
        let flight = self.flight(id);
        let host = self.host.clone();
        self.keep(&flight, format!("{id}.loss"), end, host, was_ready)
    }

    /// Takes over the losses of dead supervisors with the same store. Does so once per store.
    pub(super) fn adopt(&mut self, kept_in: &str) {
        let owner = FolderOwner { kept_in: kept_in.to_owned(), host: self.host.clone() };
        if self.owner.as_ref() == Some(&owner) {
            return;
        }
        let written = serde_json::to_vec(&owner).map_err(io::Error::from);
        self.owner = Some(owner);
        if let Err(error) = written.and_then(|text| write_durably(&self.folder.join(OWNER), &text)) {
            tracing::warn!(%error, folder = %self.folder.display(), "the state folder cannot be written");
        }
        for folder in entries(&self.state_dir) {
            if self.is_for_us(&folder)
                && let Err(error) = self.take_over(&folder)
            {
                tracing::warn!(%error, folder = %folder.display(), "the losses of a dead worker cannot be taken over");
            }
        }
    }

    fn is_for_us(&self, folder: &Path) -> bool {
        let is_ours = folder.symlink_metadata().is_ok_and(|data| data.is_dir() && data.uid() == unix::user());
        // A supervisor that never wrote this file had no child that was ready, and left no losses.
        let there = owner_of(folder).map(|owner| owner.kept_in);
        let is_kept_there = there.is_none() || there == self.owner.as_ref().map(|owner| owner.kept_in.clone());
        state_dir::is_finished(folder) && is_ours && is_kept_there && folder != self.folder
    }

    fn take_over(&mut self, folder: &Path) -> io::Result<()> {
        let lock = match File::open(folder.join(LOCK)) {
            // Another supervisor has just taken it over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let host = owner_of(folder).map_or_else(|| self.host.clone(), |owner| owner.host);
        for file in entries(folder) {
            self.adopted += 1;
            let name = format!("adopted-{}.loss", self.adopted);
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("flight") => {
                    if let Some(recording) = self.keep(&file, name, None, host.clone(), true) {
                        let lost = describe(&recording);
                        tracing::warn!(pid = recording.pid, "a process whose end no supervisor saw was running {lost}");
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

    /// Turns a recording into a loss, if anything was running or `always`. Its file is removed last.
    fn keep(
        &mut self,
        flight: &Path,
        name: String,
        end: Option<ProcessEnd>,
        host: String,
        always: bool,
    ) -> Option<Recording> {
        let recording = match recorder::read(flight) {
            Ok(recording) => recording,
            // The child died before it began to record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, file = %flight.display(), "the recording of a dead process cannot be read");
                remove(flight);
                return None;
            }
        };
        let (code, signal) = match end {
            Some(ProcessEnd::Code(code)) => (Some(code), None),
            Some(ProcessEnd::Signal(signal)) => (None, Some(signal)),
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
            tracing::error!(%error, "a loss cannot be written to {folder}, and is known only as long as this process lives");
        }
        self.waiting.insert(name, WaitingLoss { loss, given_to: None });
    }

    /// Gives losses to a child that takes work, to be stored.
    pub(super) fn give(&mut self, child: Id) -> Vec<SupervisorMessage> {
        let given = self.waiting.values().filter(|waiting| waiting.given_to == Some(child)).count();
        let room = GIVEN_MAX.saturating_sub(given);
        let free = self.waiting.iter_mut().filter(|(_, waiting)| waiting.given_to.is_none());
        let give = |(file, waiting): (&String, &mut WaitingLoss)| {
            waiting.given_to = Some(child);
            SupervisorMessage::StoreLoss { file: file.clone(), loss: waiting.loss.clone() }
        };
        free.take(room).map(give).collect()
    }

    /// Takes back the losses that a child has not stored, since it is gone.
    pub(super) fn take_back(&mut self, child: Id) {
        for waiting in self.waiting.values_mut() {
            if waiting.given_to == Some(child) {
                waiting.given_to = None;
            }
        }
    }

    /// Removes a loss, since it is stored.
    pub(super) fn stored(&mut self, file: &str) {
        // Any other name is not a file of ours.
        if self.waiting.remove(file).is_some() {
            remove(&self.folder.join(file));
        }
    }

    /// Removes the folder, unless losses are left in it for the next supervisor.
    pub(super) fn close(self) {
        if !self.waiting.is_empty() {
            let (left, folder) = (self.waiting.len(), self.folder.display());
            tracing::warn!("{left} losses are not stored yet; the next worker will store them ({folder})");
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the state folder of this worker is left behind");
        }
    }
}

fn owner_of(folder: &Path) -> Option<FolderOwner> {
    serde_json::from_slice(&std::fs::read(folder.join(OWNER)).ok()?).ok()
}

/// Describes what was running, for the log.
pub(super) fn describe(recording: &Recording) -> String {
    const SHOWN: usize = 10;
    let now = now_ms();
    let flights = recording.flights.iter().take(SHOWN).map(|flight| {
        let seconds = now.saturating_sub(flight.since_ms) as f64 / 1000.0;
        let culprit = if flight.culprit { ", which crashed" } else { "" };
        format!("{}[{}] (for {seconds:.1} s{culprit})", flight.task, flight.id)
    });
    let mut text = flights.collect::<Vec<_>>().join(", ");
    if recording.flights.len() > SHOWN {
        write!(text, " and {} more", recording.flights.len() - SHOWN).expect("a text can be written to");
    }
    text
}

/// Returns the beginning of a node's name, in signs that a file's name may have.
fn short(node: &str) -> String {
    let plain = |sign: char| if sign == '/' || sign.is_control() { '_' } else { sign };
    node[..node.floor_char_boundary(NODE_BYTES_MAX)].chars().map(plain).collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
