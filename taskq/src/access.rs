//! The users of files: modes of files that are made, and warnings of files that more users may use than is right.
//! Files are made by the room `sqlite`.

use std::path::Path;

/// The users who may use the files that taskq makes. Nobody else may: a user who can read a database file can stop all
/// writing by a lock, so there is no mode that lets others only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileMode {
    /// The user who makes them: `0600`.
    #[default]
    Owner,
    /// That user, and the members of the file's group: `0660`.
    Group,
}

impl FileMode {
    /// Reads a mode as it is written in settings.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "0600" | "600" => Some(Self::Owner),
            "0660" | "660" => Some(Self::Group),
            _ => None,
        }
    }

    /// Returns the mode as it is written in settings.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Owner => "0600",
            Self::Group => "0660",
        }
    }

    /// Returns the permissions that users have.
    #[cfg(feature = "sqlite")]
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// The permissions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions {
    /// The permissions of its owner, its group and all others.
    pub(crate) mode: u32,
    owner: u32,
}

impl Permissions {
    /// Returns those of the file at `path`; `None` if it is not there, or the system has none.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let about = path.metadata().ok()?;
        Some(Self { mode: about.mode() & 0o777, owner: about.uid() })
    }

    #[cfg(not(unix))]
    pub(crate) fn of(_path: &Path) -> Option<Self> {
        None
    }

    /// Returns whether they let more users in than `allowed` does.
    pub(crate) fn exceed(self, allowed: u32) -> bool {
        self.mode & 0o077 & !allowed != 0
    }

    /// Returns whether the owner is somebody else than `user` and root.
    pub(crate) fn are_of_another(self, user: Option<u32>) -> bool {
        user.is_some_and(|user| self.owner != user && self.owner != 0)
    }

    /// Describes them, for a warning about the file at `path`.
    pub(crate) fn describe(self, path: &Path) -> String {
        let Self { mode, owner } = self;
        format!("{} (mode {mode:04o}, owner {owner})", path.display())
    }
}

/// Returns the user of this process, where the system tells.
pub(crate) fn user() -> Option<u32> {
    Permissions::of(Path::new("/proc/self")).map(|permissions| permissions.owner)
}

/// Logs a warning, once in the life of this process.
pub(crate) fn warn_once(warning: &str) {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};
    static GIVEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.to_owned()) {
        tracing::warn!("{warning}");
    }
}

#[cfg(all(test, unix, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn files_that_others_may_use_are_told_from_those_they_may_not() {
        for (mode, allowed, exceed) in [
            (0o600, FileMode::Owner, false),
            (0o700, FileMode::Owner, false),
            (0o640, FileMode::Owner, true),
            (0o602, FileMode::Owner, true),
            (0o660, FileMode::Owner, true),
            (0o660, FileMode::Group, false),
            (0o640, FileMode::Group, false),
            (0o664, FileMode::Group, true),
        ] {
            let found = Permissions { mode, owner: 7 }.exceed(allowed.bits());
            assert_eq!(found, exceed, "{mode:o} for {}", allowed.text());
        }
        let of = |owner| Permissions { mode: 0o600, owner };
        let foreign = [of(7), of(8), of(0)].map(|permissions| permissions.are_of_another(Some(7)));
        assert_eq!(foreign, [false, true, false]);
        assert!(!of(8).are_of_another(None), "nothing is known");
    }
}
