//! The processes that keep a database file locked.
//!
//! SQLite locks single bytes of the database and, in this journal mode, of the shared memory beside it. Every process
//! that uses the file holds some of them all the time, so only those count that keep others from writing. A shared lock
//! counts where SQLite wants an exclusive one: the right to read is enough to take it.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use super::files::{ENDS, with_end};

/// The bytes of the shared memory whose lock a writer, a checkpoint or a recovery needs for itself.
const WRITING: RangeInclusive<u64> = 120..=122;

/// The bytes of the shared memory that readers, and the first process that opens it, lock for a moment or share.
const READING: RangeInclusive<u64> = 123..=128;

/// The bytes of the database that a process locks which wants it for itself.
const WANTING: RangeInclusive<u64> = 0x4000_0000..=0x4000_0001;

/// The bytes of the database that every process shares which uses it.
const USING: RangeInclusive<u64> = 0x4000_0002..=0x4000_01ff;

/// A line of `/proc/locks`: a lock that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeldLock<'a> {
    /// The process; `None` if the lock belongs to an open file, and not to a process.
    process: Option<u32>,
    is_exclusive: bool,
    /// Device and inode of the file, as they are written there.
    file: &'a str,
    first: u64,
    last: u64,
}

/// The remedy for a locked file: the processes that keep it so, or how they are found.
pub(super) fn remedy(path: &Path) -> String {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    for end in ENDS {
        let file = with_end(path, end);
        let Some(number) = number_of(&file) else { continue };
        for process in blockers(&locks, &number, end) {
            let told = format!("{}, by a lock on {}", describe(process), file.display());
            if !found.contains(&told) {
                found.push(told);
            }
        }
    }
    if found.is_empty() {
        let files = ENDS.map(|end| with_end(path, end).display().to_string()).join(" ");
        return format!("find it as root with `fuser -v {files}`, and end it if it hangs");
    }
    format!("it is {}; end it if it hangs", found.join(", and "))
}

/// The processes that keep others from writing, by a lock on the file with this number and suffix.
fn blockers(locks: &str, number: &str, end: &str) -> Vec<Option<u32>> {
    let held = locks.lines().filter_map(parse).filter(|lock| lock.file == number);
    held.filter(|lock| lock.blocks(end)).map(|lock| lock.process).collect()
}

/// Reads a line such as `3: POSIX  ADVISORY  WRITE 812 fe:00:1234 120 120`. `None` for a lock of another kind, and for
/// a process that waits for one.
fn parse(line: &str) -> Option<HeldLock<'_>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, kind @ ("POSIX" | "OFDLCK"), _, access, process, file, first, last] = fields[..] else { return None };
    // Locks of open files have the process number -1.
    let process = process.parse().ok().filter(|_| kind == "POSIX");
    let last = if last == "EOF" { u64::MAX } else { last.parse().ok()? };
    Some(HeldLock { process, is_exclusive: access == "WRITE", file, first: first.parse().ok()?, last })
}

impl HeldLock<'_> {
    fn blocks(&self, end: &str) -> bool {
        let overlaps = |bytes: RangeInclusive<u64>| self.first <= *bytes.end() && self.last >= *bytes.start();
        match end {
            "" => overlaps(WANTING) || (self.is_exclusive && overlaps(USING)),
            "-shm" => overlaps(WRITING) || (self.is_exclusive && overlaps(READING)),
            _ => false,
        }
    }
}

/// The device and inode of a file, as `/proc/locks` has them.
#[cfg(target_os = "linux")]
fn number_of(path: &Path) -> Option<String> {
    use std::os::linux::fs::MetadataExt;
    let about = fs::metadata(path).ok()?;
    let device = about.st_dev();
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    Some(format!("{major:02x}:{minor:02x}:{}", about.st_ino()))
}

#[cfg(not(target_os = "linux"))]
fn number_of(_path: &Path) -> Option<String> {
    None
}

/// The process with its name and user, as far as the system tells them.
fn describe(process: Option<u32>) -> String {
    let Some(process) = process else { return "a process that the system does not name".to_owned() };
    if process == std::process::id() {
        return format!("this very process ({process})");
    }
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    let user = user_of(process).map(|user| format!(", of user {user}")).unwrap_or_default();
    // A process chooses its name, and may choose line breaks.
    format!("the process {process} ({:?}{user})", name.trim_end())
}

#[cfg(unix)]
fn user_of(process: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(format!("/proc/{process}")).ok().map(|about| about.uid())
}

#[cfg(not(unix))]
fn user_of(_process: u32) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_locks_that_keep_others_from_writing_count() {
        let locks = "\
            1: POSIX  ADVISORY  READ 11 fe:00:7 1073741826 1073742335\n\
            2: POSIX  ADVISORY  READ 12 fe:00:8 128 128\n\
            3: POSIX  ADVISORY  READ 13 fe:00:8 124 124\n\
            4: FLOCK  ADVISORY  WRITE 14 fe:00:8 0 EOF\n\
            5: POSIX  ADVISORY  WRITE 15 fe:00:9 0 EOF\n\
            6: POSIX  ADVISORY  READ 16 fe:00:8 120 120\n\
            6: -> POSIX  ADVISORY  WRITE 17 fe:00:8 120 120\n\
            7: OFDLCK ADVISORY  READ -1 fe:00:8 0 EOF\n\
            8: POSIX  ADVISORY  WRITE 18 fe:00:8 123 123\n\
            9: POSIX  ADVISORY  WRITE 19 fe:00:7 1073741826 1073742335\n\
            nonsense\n";
        assert_eq!(blockers(locks, "fe:00:8", "-shm"), [Some(16), None, Some(18)]);
        assert_eq!(blockers(locks, "fe:00:7", ""), [Some(19)]);
        assert_eq!(blockers(locks, "fe:00:9", "-wal"), []);
    }

    #[test]
    fn without_a_holder_all_three_files_are_named() {
        let text = remedy(Path::new("/no/such/taskq.db"));
        assert!(text.contains("fuser -v /no/such/taskq.db /no/such/taskq.db-wal /no/such/taskq.db-shm"), "{text}");
    }
}
