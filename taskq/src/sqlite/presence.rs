//! Liveness of lease holders: the death of a process is seen by the others at once.
//!
//! A lease in the file says until when its messages belong to its holder. It cannot say that the holder has just died.
//! The kernel can: it releases a process's locks when the process ends, however that happens. So the holder of a lease
//! also holds an exclusive lock on a small file for that lease, next to the database (`taskq.db-lease-<number>`). A
//! lease is dead if its file exists and can be locked.
//!
//! Why it is done this way:
//!
//! * Not by process ids: they are reused, and mean nothing to a container with a process namespace of its own. Locks
//!   belong to the file, and every process that can open the file sees them.
//! * On separate files, and with `flock`: SQLite locks its files with `fcntl`, and a process that closes *any*
//!   descriptor of such a file loses those locks. `flock` belongs to the open file, so it also distinguishes two
//!   instances of the database that are open in one process.
//! * Lease numbers are random and never reused, so a file only ever stands for one lease.
//!
//! Why no live process is taken for a dead one:
//!
//! * *The file is seen between its creation and its locking.* A file is created and locked inside the transaction that
//!   writes the lease, and a death counts only after it has been confirmed inside a transaction ([`is_dead`] is called
//!   there). SQLite lets one process at a time write, so the second check comes before the file is created or after it
//!   is locked. The first check, outside of a transaction, may hold the lock for a moment; the creator tries again.
//! * *Two processes see one death.* They check with shared locks, so neither hides it from the other. The second finds
//!   no lease to end and no file to delete.
//! * *A crash in between.* The file is deleted after the commit that ends its lease. A crash before the commit leaves
//!   both, and the next check finds them. A crash after it, or before the lease was written, leaves an unlocked file;
//!   every consumer lists such files when it starts ([`abandoned`]), and they are deleted in the same way.
//! * *The file is deleted by another program, or cannot be opened.* Nothing is known, and the lease expires after its
//!   own time, 30 s. The same is true where there are no file locks, and of a process that was suspended: it keeps its
//!   lock and loses its lease.
//! * *A task forks and does not exec.* The child keeps the lock after its parent has died, and again the lease has to
//!   expire.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::creation;

/// The part of a lock file's name between the name of the database and the number of the lease.
const MARK: &str = "-lease-";

/// The number of attempts to lock a new file, 1 ms apart, since another process may be checking it just then.
const TRIES: u32 = 100;

/// A locked file: the sign that the holder of a lease is alive.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    /// The open file, which holds the lock.
    _file: File,
    /// The lease is written in the database, so other processes will check this file if this process dies.
    established: bool,
}

impl Presence {
    /// Creates and locks the file of a lease that is about to be written; to be called in that transaction. `None`
    /// where files cannot be locked.
    pub(crate) fn show(database: &Path, lease: i64) -> Option<Self> {
        let path = path_of(database, lease);
        let unavailable = |error: &(dyn std::error::Error + 'static)| {
            tracing::debug!(path = %path.display(), error, "the lock file of a lease cannot be used; only the lease tells whether its holder is alive");
        };
        let file = match creation::create_beside(database, &path) {
            Ok(file) => file,
            Err(error) => {
                unavailable(&error);
                return None;
            }
        };
        if let Err(error) = lock(&file) {
            unavailable(&error);
            delete(&path);
            return None;
        }
        Some(Self { path, _file: file, established: false })
    }

    /// Notes that the lease has been written.
    pub(crate) fn establish(&mut self) {
        self.established = true;
    }

    /// Deletes the file after its lease has ended.
    pub(crate) fn end(mut self) {
        self.established = false;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // If the lease may be in the database, the process that finds the file unlocked ends it.
        if !self.established {
            delete(&self.path);
        }
    }
}

/// Whether the holder of this lease has died. False if nothing is known.
pub(crate) fn is_dead(database: &Path, lease: i64) -> bool {
    let path = path_of(database, lease);
    // A link is not followed, and opening a pipe would wait for its other end.
    let is_file = path.symlink_metadata().is_ok_and(|about| about.is_file());
    is_file && File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// The leases whose files are next to the database and not locked.
pub(crate) fn abandoned(database: &Path) -> Vec<i64> {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    // A folder that cannot be listed does not keep the broker from working.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let prefix = format!("{name}{MARK}");
    let leases = entries.filter_map(|entry| number(entry.file_name().to_str()?.strip_prefix(&prefix)?));
    leases.filter(|lease| is_dead(database, *lease)).collect()
}

/// Deletes the file of a lease that was ended.
pub(super) fn forget(database: &Path, lease: i64) {
    delete(&path_of(database, lease));
}

fn lock(file: &File) -> Result<(), TryLockError> {
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
}

fn path_of(database: &Path, lease: i64) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(format!("{MARK}{:016x}", lease.cast_unsigned()));
    path.into()
}

/// The number of a lease in the form that [`path_of`] writes.
fn number(text: &str) -> Option<i64> {
    let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| is_ours).map(u64::cast_signed)
}

fn delete(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(path = %path.display(), %error, "the file of an ended lease stays behind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path of a database in a temporary folder of its own, which is deleted when this is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("taskq-presence-{}", uuid::Uuid::now_v7()));
            fs::create_dir(&folder).expect("the temporary folder can be written");
            fs::write(folder.join("taskq.db"), "").expect("the folder can be written");
            Self(folder.join("taskq.db"))
        }

        /// The number of files beside the database.
        fn files(&self) -> usize {
            fs::read_dir(self.0.parent().expect("it is in a folder")).expect("it is there").count() - 1
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // A test does not fail because of files that are left in the temporary folder.
            drop(fs::remove_dir_all(self.0.parent().expect("it is in a folder")));
        }
    }

    #[test]
    fn a_lease_is_dead_once_its_lock_is_gone() {
        let folder = Folder::new();
        let database = &folder.0;
        for lease in [1, -1, i64::MIN, i64::MAX] {
            assert!(!is_dead(database, lease), "nothing is known of {lease}");
            let mut presence = Presence::show(database, lease).expect("this file system has locks");
            presence.establish();
            assert!(!is_dead(database, lease), "{lease} lives");
            assert!(abandoned(database).is_empty());
            // The end of a process does the same.
            drop(presence);
            assert!(is_dead(database, lease), "{lease} is dead");
            assert_eq!(abandoned(database), [lease]);
            forget(database, lease);
            forget(database, lease);
            assert!(!is_dead(database, lease) && folder.files() == 0);
        }
    }

    #[test]
    fn what_was_never_written_down_or_was_ended_leaves_nothing() {
        let folder = Folder::new();
        drop(Presence::show(&folder.0, 1).expect("this file system has locks"));
        let mut presence = Presence::show(&folder.0, 2).expect("this file system has locks");
        presence.establish();
        presence.end();
        assert_eq!(folder.files(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn the_file_of_a_lease_is_for_the_users_of_the_database() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new();
        for mode in [0o600, 0o660, 0o644] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).expect("it is ours");
            let presence = Presence::show(&folder.0, 1).expect("this file system has locks");
            let found = fs::metadata(&presence.path).expect("it is there").permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_link_in_the_place_of_a_lease_is_neither_followed_nor_a_dead_one() {
        let folder = Folder::new();
        let path = path_of(&folder.0, 1);
        std::os::unix::fs::symlink(&folder.0, &path).expect("the folder can be written");
        assert!(Presence::show(&folder.0, 1).is_none(), "something is there");
        assert!(!is_dead(&folder.0, 1), "nothing is known of it");
        fs::remove_file(&path).expect("it is there");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("there is mkfifo");
        assert!(made.success() && abandoned(&folder.0).is_empty(), "nobody waits for the other end of a pipe");
    }

    #[test]
    fn other_files_beside_the_database_stay() {
        let folder = Folder::new();
        for name in ["-wal", "-lease-", "-lease-1", "-lease-00000000000000zz", "2-lease-0000000000000001"] {
            fs::write(format!("{}{name}", folder.0.display()), "").expect("the folder can be written");
        }
        assert!(abandoned(&folder.0).is_empty());
    }
}
