//! The state folder, in which each supervisor has a folder for what its children run.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::unix;

/// The file in a supervisor's folder that is locked, shared, as long as the supervisor or a child of it lives.
pub(super) const LOCK: &str = "lock";

/// The prefix of folders that are still being created; they are left alone.
const UNFINISHED: &str = ".new-";

/// Locks the folder of a child's `flight` for as long as the returned file is open. Fails if the supervisor is dead and
/// another one is taking over.
pub(crate) fn hold(flight: &Path) -> io::Result<File> {
    let lock = File::open(flight.with_file_name(LOCK))?;
    lock.try_lock_shared()?;
    Ok(lock)
}

/// Returns the state folder: the named one, or one that only this user can write.
pub(super) fn find(named: Option<&Path>) -> io::Result<PathBuf> {
    match named {
        Some(named) => {
            std::fs::create_dir_all(named).map_err(|error| unusable(named, &error))?;
            std::path::absolute(named)
        }
        None => of_this_user().map_err(|(path, error)| unusable(&path, &error)),
    }
}

/// Returns whether a supervisor's folder is complete, and not still being created.
pub(super) fn is_finished(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(UNFINISHED))
}

/// Returns the folder of this user. Nobody else may write it, or they could say which tasks were lost.
fn of_this_user() -> Result<PathBuf, (PathBuf, io::Error)> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let path = match runtime {
        Some(runtime) => runtime.join("taskq"),
        None => std::env::temp_dir().join(format!("taskq-{}", unix::user())),
    };
    match check(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err((path, error)),
    }
}

fn check(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    let about = path.symlink_metadata()?;
    if !about.is_dir() || about.uid() != unix::user() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a folder that only this user can write"));
    }
    Ok(())
}

fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let path = path.display();
    io::Error::new(
        error.kind(),
        format!("{path} cannot be used for the state of workers: {error}; name another with --state-dir"),
    )
}

/// Creates a supervisor's folder, and locks it. Under another name first, so that it is never seen without its lock.
pub(super) fn make_folder(state_dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    make_locked(state_dir, name).map_err(|error| unusable(state_dir, &error))
}

fn make_locked(state_dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let unfinished = state_dir.join(format!("{UNFINISHED}{name}"));
    DirBuilder::new().mode(0o700).create(&unfinished)?;
    let lock = File::create(unfinished.join(LOCK))?;
    lock.lock_shared()?;
    let folder = state_dir.join(name);
    std::fs::rename(&unfinished, &folder)?;
    Ok((folder, lock))
}

/// Lists a folder; returns nothing if it cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// Writes a file so that it exists, complete, even after a power cut.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a file, if it exists.
pub(super) fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, file = %file.display(), "a file of the state folder cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let here = std::env::temp_dir().join(format!("taskq-state-{}", std::process::id()));
        std::fs::create_dir(&here).expect("the temporary folder can be written");
        std::fs::set_permissions(&here, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(check(&here).is_err());
        std::fs::set_permissions(&here, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
        check(&here).expect("nobody else can write it now");
        let link = here.join("link");
        std::os::unix::fs::symlink("/", &link).expect("it can be made");
        assert!(check(&link).is_err(), "a link may lead anywhere");
        std::fs::remove_dir_all(&here).expect("it is there");
    }
}
