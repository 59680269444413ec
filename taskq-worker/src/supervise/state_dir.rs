//! The state folder, in which each supervisor has a folder for what its children run.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
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
        Some(named) => make(named).map_err(|error| unusable(named, &error)),
        None => first_usable(candidates(runtime_folder(), &std::env::temp_dir(), unix::user())),
    }
}

fn make(named: &Path) -> io::Result<PathBuf> {
    check_name(named)?;
    DirBuilder::new().mode(0o700).recursive(true).create(named)?;
    if let Some(warning) = exposure(named, &named.metadata()?, unix::user()) {
        tracing::warn!("{warning}");
    }
    std::path::absolute(named)
}

/// Warns of a folder that others can write: they could say which tasks were lost, and delete what says it.
fn exposure(folder: &Path, about: &Metadata, user: u32) -> Option<String> {
    let (mode, owner, name) = (about.mode() & 0o777, about.uid(), folder.display());
    let told = format!("the state folder {name} (mode {mode:04o}, owner {owner})");
    if owner != user && owner != 0 {
        return Some(format!("{told} belongs to another user; run `chown` on it, or name another with --state-dir"));
    }
    let is_open = mode & 0o022 != 0;
    is_open.then(|| {
        format!("other users can write to {told}; run `chmod go-w {name}`, or name a folder in it, which is made")
    })
}

/// Returns whether a supervisor's folder is complete, and not still being created.
pub(super) fn is_finished(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(UNFINISHED))
}

/// Returns the folder of `XDG_RUNTIME_DIR`, if it is this user's: `sudo` and `su` may leave that of the user who calls
/// them.
fn runtime_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    let is_ours = folder.metadata().is_ok_and(|about| about.is_dir() && about.uid() == unix::user());
    is_ours.then_some(folder)
}

/// Returns the folders that may be the state folder of this user, the best one first.
fn candidates(runtime: Option<PathBuf>, temporary: &Path, user: u32) -> Vec<PathBuf> {
    let of_all = Path::new("/tmp");
    let shared = [temporary, of_all].into_iter().take(if temporary == of_all { 1 } else { 2 });
    let shared = shared.map(|folder| folder.join(format!("taskq-{user}")));
    runtime.map(|folder| folder.join("taskq")).into_iter().chain(shared).collect()
}

/// Returns the first folder that only this user can write: if others could, they could say which tasks were lost.
/// Fails with the error of the first one if there is none.
fn first_usable(candidates: Vec<PathBuf>) -> io::Result<PathBuf> {
    let mut first_error = None;
    for path in candidates {
        match check(&path) {
            Ok(()) => return std::path::absolute(path),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "this folder cannot be the state folder");
                first_error.get_or_insert_with(|| unusable(&path, &error));
            }
        }
    }
    Err(first_error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Refuses a path that cannot be written in a message to a child.
fn check_name(path: &Path) -> io::Result<()> {
    path.to_str().map(drop).ok_or_else(|| io::Error::other("its name is not Unicode (UTF-8)"))
}

fn check(path: &Path) -> io::Result<()> {
    check_name(path)?;
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    let about = path.symlink_metadata()?;
    if !about.is_dir() || about.uid() != unix::user() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a folder that only this user can write"));
    }
    Ok(())
}

fn unusable(path: &Path, error: &io::Error) -> io::Error {
    let path = path.display();
    let remedy = if unix::is_shortage(error) {
        "raise the limit of open files (`ulimit -n`, LimitNOFILE= of systemd)"
    } else {
        "name another with --state-dir"
    };
    io::Error::new(error.kind(), format!("{path} cannot be used for the state of workers: {error}; {remedy}"))
}

/// Creates a supervisor's folder, and locks it. Under another name first, so that it is never seen without its lock.
pub(super) fn make_folder(state_dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    make_locked(state_dir, name).map_err(|error| unusable(state_dir, &error))
}

fn make_locked(state_dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let unfinished = state_dir.join(format!("{UNFINISHED}{name}"));
    DirBuilder::new().mode(0o700).create(&unfinished)?;
    let lock = create(&unfinished.join(LOCK))?;
    lock.lock_shared()?;
    let folder = state_dir.join(name);
    std::fs::rename(&unfinished, &folder)?;
    Ok((folder, lock))
}

/// Creates a file that only this user may use. Fails if there is anything of that name, a symbolic link included.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Lists a folder; returns nothing if it cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

/// Writes a file so that it exists, complete, even after a power cut.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    // What an earlier attempt has left.
    remove(&beside);
    let mut file = create(&beside)?;
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
    fn a_named_folder_that_others_can_write_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let here = std::env::temp_dir().join(format!("taskq-named-{}", std::process::id()));
        make(&here.join("deeper")).expect("the temporary folder can be written");
        let modes = [&here, &here.join("deeper")].map(|folder| folder.metadata().expect("it is there").mode() & 0o777);
        assert_eq!(modes, [0o700, 0o700]);
        for (mode, is_told) in [(0o700, false), (0o755, false), (0o775, true), (0o777, true), (0o1777, true)] {
            std::fs::set_permissions(&here, std::fs::Permissions::from_mode(mode)).expect("it is ours");
            let about = here.metadata().expect("it is there");
            let warning = exposure(&here, &about, about.uid());
            assert_eq!(warning.is_some(), is_told, "{mode:o}: {warning:?}");
            let remedy = format!("chmod go-w {}", here.display());
            assert!(warning.is_none_or(|warning| warning.contains(&remedy)));
            let foreign =
                exposure(&here, &about, about.uid() + 1).is_some_and(|warning| warning.contains("another user"));
            assert_eq!(foreign, about.uid() != 0, "root's folder is nobody else's");
        }
        std::fs::remove_dir_all(&here).expect("it is there");
    }

    #[test]
    fn files_are_this_users_alone_and_no_link_is_followed() {
        let here = std::env::temp_dir().join(format!("taskq-files-{}", std::process::id()));
        let (folder, _lock) = make_folder(&make(&here).expect("it can be made"), "one").expect("it can be made");
        let outside = here.join("outside");
        std::fs::write(&outside, "as it was").expect("the folder can be written");
        std::os::unix::fs::symlink(&outside, folder.join("1.new")).expect("it can be made");
        write_durably(&folder.join("1.loss"), b"a loss").expect("the link is in nobody's way");
        assert_eq!(std::fs::read_to_string(&outside).expect("it is there"), "as it was");
        assert!(create(&folder.join(LOCK)).is_err(), "there is one");
        for name in [LOCK, "1.loss"] {
            let mode = folder.join(name).symlink_metadata().expect("it is there").mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        std::fs::remove_dir_all(&here).expect("it is there");
    }

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

    #[test]
    fn the_next_folder_is_taken_where_the_first_cannot_be_used() {
        let names = |runtime: Option<&str>, temporary: &str| -> Vec<String> {
            let found = candidates(runtime.map(PathBuf::from), Path::new(temporary), 7).into_iter();
            found.map(|path| path.display().to_string()).collect()
        };
        assert_eq!(names(None, "/tmp"), ["/tmp/taskq-7"]);
        assert_eq!(names(Some("/run/user/7"), "/tmp"), ["/run/user/7/taskq", "/tmp/taskq-7"]);
        assert_eq!(names(None, "/no/such"), ["/no/such/taskq-7", "/tmp/taskq-7"]);

        let here = std::env::temp_dir().join(format!("taskq-candidates-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&here).expect("the temporary folder can be written");
        let (file, good) = (here.join("file"), here.join("good"));
        std::fs::write(&file, "").expect("it is ours");
        assert_eq!(first_usable(vec![file.join("taskq"), good.clone()]).expect("the second can be used"), good);
        let error = first_usable(vec![file.join("taskq"), file]).expect_err("neither can be used").to_string();
        assert!(error.contains("file/taskq cannot be used") && error.contains("--state-dir"), "{error}");
        std::fs::remove_dir_all(&here).expect("it is there");
    }

    #[test]
    fn a_folder_that_cannot_be_told_to_a_child_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let wild = std::env::temp_dir().join(std::ffi::OsStr::from_bytes(b"taskq-\xa3"));
        let error = find(Some(&wild)).expect_err("its name is no text").to_string();
        assert!(error.contains("not Unicode") && error.contains("--state-dir") && !wild.exists(), "{error}");
    }

    #[test]
    fn too_few_descriptors_are_no_fault_of_the_folder() {
        let error = unusable(Path::new("/run/taskq"), &io::Error::from_raw_os_error(24)).to_string();
        assert!(error.contains("ulimit -n") && !error.contains("--state-dir"), "{error}");
    }
}
