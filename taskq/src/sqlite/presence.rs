//! Signs of life: how processes see at once that another one has died.
//!
//! A lease in the file says until when somebody's messages are his own. It cannot say that he died a moment ago. The
//! kernel can: it takes a process's locks away when the process ends, however that happens. So whoever has a lease also
//! holds an exclusive lock on a small file of that lease's own, beside the database (`taskq.db-lease-<number>`), and a
//! lease is dead if its file is there and its lock can be had.
//!
//! Why it is done this way:
//!
//! * Not by process ids: they are given out again, and mean nothing to a container with ids of its own. Locks belong to
//!   the file, and everybody who has the file sees them.
//! * On files of their own, and with `flock`: SQLite locks its files with `fcntl`, and a process that closes *any*
//!   descriptor of such a file loses those locks. `flock` belongs to the open file, so it also tells apart two that have
//!   the database open in one process.
//! * Numbers of leases are random and never used again, so a file never means anything but that one lease.
//!
//! Why it cannot go wrong by chance:
//!
//! * *Seen between its making and its locking.* A file is made and locked inside the transaction that writes the lease
//!   down, and a death counts only once it is found again inside a transaction ([`is_dead`] is called there). SQLite lets
//!   one process at a time write, so the second look comes before the file is made or after it is locked. The first look,
//!   outside, may take the lock for a moment; the maker tries again.
//! * *Two see one death.* They look with shared locks, so neither hides it from the other. The second finds no lease to
//!   end and no file to delete.
//! * *A crash in between.* The file is deleted after the commit that ends its lease. A crash before the commit leaves both,
//!   and the next look finds them. A crash after it, or before the lease was ever written, leaves a file that nobody locks;
//!   every consumer that begins lists such files ([`abandoned`]), and they go the same way.
//! * *Somebody deletes the file, or may not open it.* Nothing is known, and the lease's own time counts, 30 s. So it is
//!   where there are no locks, and for a process that was suspended: it keeps its lock, and loses its lease.
//! * *A task forks and does not exec.* The child keeps the lock alive after its parent, and again the lease's time counts.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands between the name of the database and the number of a lease.
const MARK: &str = "-lease-";

/// How often a new file is tried to be locked, 1 ms apart, since somebody may just be looking at it.
const TRIES: u32 = 100;

/// A locked file: the sign that whoever holds it is alive.
#[derive(Debug)]
pub(crate) struct Presence {
    path: PathBuf,
    /// The lock goes with it.
    _file: File,
    /// The lease stands in the database, so others look at this file if this process dies.
    established: bool,
}

impl Presence {
    /// The sign of a lease that is about to be written down; to be called in that transaction. `None` where files cannot be
    /// locked.
    pub(crate) fn show(database: &Path, lease: i64) -> Option<Self> {
        let path = path_of(database, lease);
        let unavailable = |error: &(dyn std::error::Error + 'static)| {
            tracing::debug!(path = %path.display(), error, "no sign of life; the lease alone says who is alive");
        };
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
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

    /// The lease has been written down.
    pub(crate) fn establish(&mut self) {
        self.established = true;
    }

    /// The lease has been ended.
    pub(crate) fn end(mut self) {
        self.established = false;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // If the lease may stand, whoever finds the file unlocked ends it.
        if !self.established {
            delete(&self.path);
        }
    }
}

/// Whether whoever had this lease has died. False if nothing is known.
pub(crate) fn is_dead(database: &Path, lease: i64) -> bool {
    let opened = File::open(path_of(database, lease));
    opened.is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// The leases whose files lie beside the database and are not locked.
pub(crate) fn abandoned(database: &Path) -> Vec<i64> {
    let (Some(folder), Some(name)) = (database.parent(), database.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    // A folder that cannot be listed is no reason not to work.
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

/// The number of a lease, as [`path_of`] writes it.
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

    /// The path of a database in a folder of one test's own, deleted with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("taskq-presence-{}", uuid::Uuid::now_v7()));
            fs::create_dir(&folder).expect("the temporary folder can be written");
            Self(folder.join("taskq.db"))
        }

        fn files(&self) -> usize {
            fs::read_dir(self.0.parent().expect("it is in a folder")).expect("it is there").count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            // What is left in the temporary folder is no test's concern.
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
            // As the end of a process does it.
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
    fn other_files_beside_the_database_stay() {
        let folder = Folder::new();
        for name in ["-wal", "-lease-", "-lease-1", "-lease-00000000000000zz", "2-lease-0000000000000001"] {
            fs::write(format!("{}{name}", folder.0.display()), "").expect("the folder can be written");
        }
        assert!(abandoned(&folder.0).is_empty());
    }
}
