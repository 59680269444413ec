//! The users of a database file and of its companions.
//!
//! SQLite gives the log and the shared memory beside a database the mode of the database, which is therefore made with
//! the right mode before SQLite opens it. A file that exists keeps its mode, since others may depend on it, and is
//! warned of.

use std::io::ErrorKind;
use std::path::Path;

use super::creation;
use super::fault::Fault;
use super::files::{ENDS, with_end};
use crate::access::{self, FileMode, Permissions};

/// Creates the file, empty, if there is none.
pub(super) fn create(path: &Path, mode: FileMode) -> Result<(), Fault> {
    let error = match creation::create(path, mode.bits()) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AlreadyExists if path.symlink_metadata().is_ok_and(|about| about.is_symlink()) => {
            let text = format!("{} is a symbolic link to a file that is not there; name that file", path.display());
            Err(Fault::unusable(text))
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Err(Fault::full(path)),
        // If there is no file either, SQLite's own error says what is wrong.
        _ => Ok(()),
    }
}

/// Warns of those of the files that more users may use than `mode` says, or that belong to another user.
pub(crate) fn exposure(path: &Path, mode: FileMode) -> Vec<String> {
    let files = ENDS.map(|end| with_end(path, end));
    let found = files.iter().filter_map(|file| Some((file.as_path(), Permissions::of(file)?)));
    judge(&found.collect::<Vec<_>>(), access::user(), mode)
}

fn judge(files: &[(&Path, Permissions)], user: Option<u32>, mode: FileMode) -> Vec<String> {
    let chosen = |is_chosen: &dyn Fn(Permissions) -> bool| {
        let chosen = files.iter().filter(|(_, permissions)| is_chosen(*permissions));
        let (about, names): (Vec<_>, Vec<_>) =
            chosen.map(|(path, permissions)| (permissions.describe(path), path.display().to_string())).unzip();
        (!names.is_empty()).then(|| (about.join(", "), names.join(" ")))
    };
    let open = chosen(&|permissions| permissions.exceed(mode.bits())).map(|(about, names)| {
        let group = match mode {
            FileMode::Owner => ", or say file_mode = \"0660\" if their group is meant to use them",
            FileMode::Group => "",
        };
        format!(
            "other users may use {about}: they can read the arguments of tasks, and stop all writing by a lock; run \
             `chmod {} {names}`{group}",
            mode.text()
        )
    });
    // A group's files belong to whichever member has made them.
    let is_foreign = |permissions: Permissions| mode == FileMode::Owner && permissions.are_of_another(user);
    let foreign = chosen(&is_foreign).map(|(about, names)| {
        format!(
            "{about}: another user owns what this process stores, and can change its tasks; run `chown` on {names}, or \
             name a file of this user"
        )
    });
    open.into_iter().chain(foreign).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_that_is_there_is_left_as_it_is_and_warned_of() {
        let folder = std::env::temp_dir().join(format!("taskq-companions-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).expect("the temporary folder can be written");
        let path = folder.join("taskq.db");
        create(&path, FileMode::Owner).expect("the folder can be written");
        assert_eq!(exposure(&path, FileMode::Owner), [] as [&str; 0]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        create(&path, FileMode::Owner).expect("it is there");
        let warnings = exposure(&path, FileMode::Owner);
        let words = ["(mode 0644, owner ", &format!("`chmod 0600 {}`", path.display()), "file_mode = \"0660\""];
        assert!(warnings.len() == 1 && words.iter().all(|word| warnings[0].contains(word)), "{warnings:?}");

        let log = with_end(&path, "-wal");
        fs::write(&log, "").expect("the folder can be written");
        for (path, mode) in [(&path, 0o660), (&log, 0o666)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        let warnings = exposure(&path, FileMode::Group);
        assert!(
            warnings.len() == 1 && warnings[0].contains(&format!("`chmod 0660 {}`", log.display())),
            "{warnings:?}"
        );

        let link = folder.join("link.db");
        symlink(folder.join("elsewhere.db"), &link).expect("the folder can be written");
        let fault = create(&link, FileMode::Owner).expect_err("it leads nowhere");
        assert!(fault.text.contains("symbolic link") && !folder.join("elsewhere.db").exists(), "{fault}");
        drop(fs::remove_dir_all(folder));
    }

    #[test]
    fn a_file_of_another_user_is_warned_of() {
        let path = Path::new("/srv/taskq.db");
        // The root folder is root's, and belongs to nobody else.
        let permissions = Permissions::of(Path::new("/proc/self")).expect("there is a process");
        let own = access::user().expect("there is one");
        let foreign = judge(&[(path, permissions)], Some(own + 1), FileMode::Owner);
        let is_told = foreign.iter().any(|warning| warning.contains("run `chown` on /srv/taskq.db"));
        // Root's files are not another user's.
        assert_eq!(is_told, own != 0, "{foreign:?}");
    }
}
