//! `--watch`: replaces the running program by its new build.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::delegate::exec;
use super::exit::Exit;
use super::failure::Failure;
use super::handed_over::HandedOver;

/// The pause between two looks at the file. A build counts as complete when two looks agree.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The file that this process was started from.
#[derive(Debug, Clone)]
pub(super) struct Executable {
    path: PathBuf,
    /// The stamp of the file when this process started.
    started_from: Option<Stamp>,
}

/// The properties by which builds are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
}

impl Executable {
    /// The file of this process. Asked for at the start: once the file is replaced, the system no longer tells its
    /// name.
    pub(super) fn of_this_process() -> Result<Self, Failure> {
        let path = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::CannotStart, format!("--watch cannot find this program: {error}")))?;
        Ok(Self::at(path))
    }

    /// Returns this file with its present stamp.
    pub(super) fn at(path: PathBuf) -> Self {
        let started_from = stamp(&path);
        Self { path, started_from }
    }

    /// Returns the file with its present stamp.
    pub(super) fn anew(self) -> Self {
        Self::at(self.path)
    }

    /// Waits until another build is there, complete.
    pub(super) async fn replaced(&self) {
        let mut earlier = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamp(&self.path);
            if is_new_build(self.started_from, earlier, now) {
                return;
            }
            earlier = now;
        }
    }

    /// Becomes the new build, with the arguments of this process. Returns only if that is not possible.
    pub(super) fn take_over(&self) -> Failure {
        let HandedOver { arguments, variables } = HandedOver::of_this_process();
        let error = exec(Command::new(&self.path).args(arguments).envs(variables));
        Failure::new(Exit::CannotStart, format!("the new build {} cannot be started: {error}", self.path.display()))
    }
}

/// Returns whether the file differs from the one that this process `started_from` and is complete: it exists, and is as
/// at the earlier look.
fn is_new_build(started_from: Option<Stamp>, earlier: Option<Stamp>, now: Option<Stamp>) -> bool {
    now.is_some() && now != started_from && now == earlier
}

/// Returns the stamp of a file; `None` if it does not exist or cannot be read, since a build is under way.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok()?, length: metadata.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_build_is_taken_once_it_is_complete() {
        let build = |length| Some(Stamp { modified: SystemTime::UNIX_EPOCH, length });
        let (old, half, new) = (build(1), build(2), build(3));
        for (earlier, now, is_new) in [
            (old, old, false),
            (old, None, false),
            (None, None, false),
            (None, half, false),
            (half, new, false),
            (new, new, true),
            (old, new, false),
        ] {
            assert_eq!(is_new_build(old, earlier, now), is_new, "{earlier:?} {now:?}");
        }
    }

    #[test]
    fn a_file_that_is_written_anew_is_another() {
        let path = std::env::temp_dir().join(format!("taskq-reload-{}", taskq::TaskId::new()));
        assert_eq!(stamp(&path), None);
        std::fs::write(&path, "one").expect("the temporary folder can be written");
        let one = stamp(&path);
        std::fs::write(&path, "another").expect("it can be written");
        assert_ne!(stamp(&path), one);
        std::fs::remove_file(&path).expect("it is there");
    }
}
