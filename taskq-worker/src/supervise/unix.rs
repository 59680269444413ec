//! Processes as the system sees them: starting, ending and observing them. Together with the recorder and the inherited
//! signals this is the only place that uses Unix directly, and that contains `unsafe`.

#![allow(unsafe_code, reason = "inheriting descriptors and preparing a child have no safe form")]

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::process::{Pid, Signal, WaitOptions};

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// An exit with this code.
    Code(i32),
    /// The end by this signal.
    Signal(i32),
}

/// A process that was started as a child.
#[derive(Debug)]
pub(super) struct SpawnedProcess {
    /// The process id.
    pub(super) pid: u32,
    /// The child's stderr, until the child replaces it by the worker's.
    pub(super) stderr: ChildStderr,
}

/// Starts `program` as a child that dies with this process, in a process group of its own, so that a Ctrl-C reaches
/// only this process. The child inherits the two descriptors under their numbers and the stdout of this process, but no
/// stdin: a background process that reads a terminal is stopped. Of the variables of this process it does not get those
/// that are hidden, and in addition it gets those that are added.
pub(super) fn start(
    program: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    (hidden, added): (&[&str], &[(&str, OsString)]),
    inherited: [BorrowedFd<'_>; 2],
) -> io::Result<SpawnedProcess> {
    let parent = rustix::process::getpid();
    let inherited = inherited.map(|descriptor| std::os::fd::AsRawFd::as_raw_fd(&descriptor));
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::null()).stderr(Stdio::piped());
    for variable in hidden {
        command.env_remove(variable);
    }
    command.envs(added.iter().map(|(name, value)| (name, value)));
    let prepare = move || {
        die_with_parent()?;
        if rustix::process::getppid() != Some(parent) {
            // The parent died between the fork and the line above: nothing would ever end this child.
            return Err(rustix::io::Errno::SRCH.into());
        }
        for descriptor in inherited {
            // SAFETY: the caller holds both open until this process was started, and this is a copy of that process.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: it makes a few system calls and neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.spawn()?;
    let stderr = child.stderr.take().expect("a pipe was asked for");
    // The end of the child is noticed by `reap`, together with the ends of orphans.
    Ok(SpawnedProcess { pid: child.id(), stderr })
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Does nothing: on other systems the child notices the parent's death by the end of the link.
#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> io::Result<()> {
    Ok(())
}

/// Takes ownership of a descriptor that the parent left open under this number. Programs that tasks start do not
/// inherit it.
pub(crate) fn inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: whether it is open is asked before it is owned, and nothing else in this process knows its number: it
    // comes from the parent, over the command line, and is taken once.
    let owned = unsafe {
        fcntl_getfd(BorrowedFd::borrow_raw(descriptor))?;
        OwnedFd::from_raw_fd(descriptor)
    };
    fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Makes `stderr` the stderr of this process.
pub(crate) fn put_stderr(stderr: &OwnedFd) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stderr(stderr)?)
}

/// A stream that this process writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputStream {
    Stdout,
    Stderr,
}

impl fmt::Display for OutputStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Makes the null device a stream of this process.
pub(crate) fn discard(stream: OutputStream) -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    match stream {
        OutputStream::Stdout => Ok(rustix::stdio::dup2_stdout(&null)?),
        OutputStream::Stderr => Ok(rustix::stdio::dup2_stderr(&null)?),
    }
}

/// Returns those of the streams that nobody reads. A file is always read.
pub(crate) fn unread_now(streams: &[OutputStream]) -> io::Result<Vec<OutputStream>> {
    unread_within(streams, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))
}

/// Waits until nobody reads one of the streams any more. Blocks.
pub(crate) fn wait_until_unread(streams: &[OutputStream]) -> io::Result<Vec<OutputStream>> {
    unread_within(streams, None)
}

fn unread_within(streams: &[OutputStream], limit: Option<&rustix::event::Timespec>) -> io::Result<Vec<OutputStream>> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let descriptors = streams.iter().map(|stream| match stream {
        OutputStream::Stdout => stdout.as_fd(),
        OutputStream::Stderr => stderr.as_fd(),
    });
    let unread = have_no_reader(&descriptors.collect::<Vec<_>>(), limit)?;
    Ok(streams.iter().zip(unread).filter(|(_, is_unread)| *is_unread).map(|(stream, _)| *stream).collect())
}

/// Tells of each descriptor whether what is written to it reaches nobody. Waits for that up to the limit.
fn have_no_reader(descriptors: &[BorrowedFd<'_>], limit: Option<&rustix::event::Timespec>) -> io::Result<Vec<bool>> {
    // Nothing is asked for but what is always told: that the other end is gone.
    let asked = descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::empty()));
    let mut asked: Vec<PollFd<'_>> = asked.collect();
    loop {
        match rustix::event::poll(&mut asked, limit) {
            Err(rustix::io::Errno::INTR) => {}
            answered => {
                answered?;
                let is_gone = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP);
                return Ok(asked.iter().map(is_gone).collect());
            }
        }
    }
}

/// Makes this process the parent of orphans among its descendants, so that [`reap`] can collect them.
#[cfg(target_os = "linux")]
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(())
}

/// Returns the next process that has ended, if there is one: a child, or an orphan that came to this process.
pub(super) fn reap() -> Option<(u32, ProcessEnd)> {
    // An error means that there are no children at all.
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok()??;
    let end = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ProcessEnd::Code(code),
        (None, signal) => ProcessEnd::Signal(signal.unwrap_or_default()),
    };
    Some((pid.as_raw_nonzero().get().unsigned_abs(), end))
}

/// Kills a child, if it has not ended, and every process that it started and that stayed in its process group.
pub(super) fn kill(pid: u32) {
    let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // An error means that no process is left.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// Returns whether a process is stopped, by a signal or by a debugger; `false` where the system does not tell.
pub(super) fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| matches!(state_of(&stat), Some('T' | 't')))
}

/// Returns the state in `/proc/PID/stat`. The name before it is in parentheses, and may contain parentheses itself.
fn state_of(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Returns the resident memory of a process in bytes; `None` where the system does not tell.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Frees the memory of the code and constants that this process needed for its start, which is most of what it
/// occupies. Pages that are needed again are read again, from the file or from the memory that children share.
#[cfg(target_os = "linux")]
pub(super) fn forget_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(code_of) {
        // SAFETY: these pages are mapped from a file, private, and never were writable, so they hold what the file
        // holds, and come back as they were. Nobody changes the file: the system refuses that for a program that runs,
        // and a library that was changed would be as broken without this.
        let forgotten = unsafe {
            rustix::mm::madvise(start as *mut std::ffi::c_void, end - start, rustix::mm::Advice::LinuxDontNeed)
        };
        if let Err(error) = forgotten {
            tracing::debug!(%error, "the code of the start stays in memory");
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn forget_code() {}

/// Returns the address range of a file's code or constants, from a line of `/proc/PID/maps`; `None` if the line is
/// about something else. The constants are at the beginning of the file. Further down there may be data that was
/// written to before it was made read-only.
#[cfg(target_os = "linux")]
fn code_of(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (rights, offset) = (fields.next()?, number(fields.next()?)?);
    let was_never_written = rights == "r-xp" || (rights == "r--p" && offset == 0);
    let is_of_a_file = fields.nth(2)?.starts_with('/');
    Some((number(start)?, number(end)?)).filter(|_| was_never_written && is_of_a_file)
}

/// Returns whether an error says that this process, or the system, has no more descriptors.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns the effective user of this process.
pub(super) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the monotonic time, which service managers compare, in microseconds.
pub(super) fn monotonic_us() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

/// Returns the name of a signal that ends processes.
fn signal_name(signal: i32) -> Option<&'static str> {
    let names = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::HUP, "SIGHUP"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::SYS, "SIGSYS"),
    ];
    names.into_iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert_eq!(state_of("12 (app) T 1 12"), Some('T'));
        assert_eq!(state_of("12 (a) R) S 1 12"), Some('S'));
        assert_eq!(state_of("12"), None);
    }

    #[test]
    fn ends_are_named() {
        assert_eq!(ProcessEnd::Code(101).to_string(), "exit code 101");
        assert_eq!(ProcessEnd::Signal(6).to_string(), "signal 6 (SIGABRT)");
        assert_eq!(ProcessEnd::Signal(40).to_string(), "signal 40");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_is_not_stopped() {
        assert!(memory_of(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert!(!is_stopped(std::process::id()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn code_is_told_from_data() {
        assert_eq!(code_of("1000-3000 r-xp 00000000 fe:00 12    /bin/app"), Some((0x1000, 0x3000)));
        assert_eq!(code_of("1000-3000 r-xp 00000000 fe:00 12    /bin/app (deleted)"), Some((0x1000, 0x3000)));
        assert_eq!(code_of("1000-3000 r--p 00000000 fe:00 12    /bin/app"), Some((0x1000, 0x3000)));
        for other in [
            "1000-3000 r--p 00002000 fe:00 12    /bin/app",
            "1000-3000 r--p 00000000 00:00 0     [vvar]",
            "1000-3000 rwxp 00000000 fe:00 12    /bin/app",
            "1000-3000 r-xp 00000000 00:00 0     [vdso]",
            "1000-3000 rw-p 00000000 00:00 0",
        ] {
            assert_eq!(code_of(other), None, "{other}");
        }
        // This program goes on without.
        forget_code();
        assert_eq!(state_of("12 (app) T 1 12"), Some('T'));
    }

    #[test]
    fn a_pipe_or_socket_without_a_reader_is_told_from_others() {
        use std::os::unix::net::UnixStream;
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let (reading, pipe) = io::pipe().expect("the system grants a pipe");
        let (theirs, socket) = UnixStream::pair().expect("the system grants a socket");
        // As for the journal of systemd, from which nothing is read.
        socket.shutdown(std::net::Shutdown::Read).expect("it is open");
        let file = std::fs::OpenOptions::new().write(true).open("/dev/null").expect("it is there");
        let streams = [pipe.as_fd(), socket.as_fd(), file.as_fd()];
        assert_eq!(have_no_reader(&streams, Some(&at_once)).expect("it is known"), [false, false, false]);
        drop(reading);
        assert_eq!(have_no_reader(&streams, None).expect("it is known"), [true, false, false]);
        drop(theirs);
        assert_eq!(have_no_reader(&streams, None).expect("it is known"), [true, true, false]);
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_refused() {
        assert!(inherited(2).is_err());
        assert!(inherited(9_999).is_err());
    }
}
