//! A child as a process: starts it, and reads its link and the first lines of its stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::group::Id;
use super::last_words::LastWords;
use super::link::{self, ChildMessage, Hello, Lines, Listener, SupervisorMessage};
use super::notify;
use super::unix::{self, ProcessEnd};

/// The longest line from the start of a child, in bytes; longer ones are split.
const START_LINE_BYTES_MAX: usize = 4096;

/// The program that children run, with its arguments.
#[derive(Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// Variables that children have in addition to those of this process. They may hold passwords.
    variables: Vec<(&'static str, OsString)>,
    /// The flag that names the descriptors of the link and of stderr to a child.
    flag: &'static str,
}

/// An event of a child, other than its end.
#[derive(Debug)]
pub(super) enum ChildEvent {
    /// A message over the link.
    Message(ChildMessage),
    /// The end of the link.
    LinkClosed,
    /// A line on stderr, before the child was ready.
    StderrLine(Vec<u8>),
    /// The end of the lines on stderr.
    StderrClosed,
}

/// A process that was started as a child, with its link and its stderr.
#[derive(Debug)]
pub(super) struct ChildProcess {
    pub(super) pid: u32,
    messages: mpsc::Sender<SupervisorMessage>,
    last_words: LastWords,
    /// How the process ended, and when that was noticed.
    pub(super) end: Option<(ProcessEnd, Instant)>,
    /// Whether the link and stderr are still open: the last messages may not have been read.
    link_is_open: bool,
    stderr_is_open: bool,
}

impl Program {
    /// Returns the program of this process with these arguments and variables, and `flag` for the descriptors.
    ///
    /// The path is resolved now, since the system does not know the name of a file any more once it was replaced. If
    /// the name by which the process was started leads to that file, it is used, so that a symbolic link that is
    /// changed later leads to the new build.
    pub(crate) fn of_this_process(
        flag: &'static str,
        arguments: Vec<OsString>,
        variables: Vec<(&'static str, OsString)>,
    ) -> io::Result<Self> {
        let file = std::env::current_exe()?;
        let named = std::env::args_os().next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let named = named.and_then(|name| std::path::absolute(name).ok()).filter(|name| is_same(name, &file));
        Ok(Self { path: named.unwrap_or(file), arguments, variables, flag })
    }

    /// Returns the path of the program.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("path", &self.path).field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.metadata().map(|about| (about.dev(), about.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

impl ChildProcess {
    /// Starts a child. Its events go to `events`.
    pub(super) fn start(
        program: &Program,
        id: Id,
        hello: Hello,
        events: &mpsc::Sender<(Id, ChildEvent)>,
    ) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        // The line fits into the socket's buffer: the child finds it there, and this write does not wait.
        ours.write_all(&link::line(&SupervisorMessage::Hello(hello))?)?;
        ours.set_nonblocking(true)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let descriptors = format!("{}={},{}", program.flag, theirs.as_raw_fd(), stderr.as_raw_fd());
        let arguments = program.arguments.iter().cloned().chain([OsString::from(descriptors)]);
        let inherited = [theirs.as_fd(), stderr.as_fd()];
        let spawned = unix::start(&program.path, arguments, (&notify::VARIABLES, &program.variables), inherited)?;
        let (reading, writing) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let (messages, told) = mpsc::channel(link::MESSAGES_MAX);
        // Fails when the child is gone, which its end tells as well.
        tokio::spawn(async move { drop(link::speak(writing, told).await) });
        tokio::spawn(read_link(Listener::new(reading), id, events.clone()));
        let stderr_pipe = pipe::Receiver::from_owned_fd(spawned.stderr.into())?;
        tokio::spawn(read_start_lines(stderr_pipe, id, events.clone()));
        let last_words = LastWords::default();
        Ok(Self { pid: spawned.pid, messages, last_words, end: None, link_is_open: true, stderr_is_open: true })
    }

    /// Sends a message to the child. Returns `false` if too many earlier ones have not been read.
    pub(super) fn tell(&self, message: SupervisorMessage) -> bool {
        !matches!(self.messages.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Writes a line of the child's start to stderr, in the form that `form` gives it, and keeps it.
    pub(super) fn keep_start_line(&mut self, line: &[u8], form: fn(&[u8]) -> Cow<'_, [u8]>) {
        let mut stderr = io::stderr().lock();
        // If this cannot be written, an error message cannot be either.
        drop(stderr.write_all(&form(line)).and_then(|()| stderr.write_all(b"\n")));
        self.last_words.keep(line);
    }

    pub(super) fn link_is_closed(&mut self) {
        self.link_is_open = false;
    }

    pub(super) fn stderr_is_closed(&mut self) {
        self.stderr_is_open = false;
    }

    /// Returns whether further events may come.
    pub(super) fn has_open_pipes(&self) -> bool {
        self.link_is_open || self.stderr_is_open
    }

    /// Returns what the child wrote before it was ready.
    pub(super) fn into_last_words(self) -> LastWords {
        self.last_words
    }
}

async fn read_link(
    mut link: Listener<impl tokio::io::AsyncRead + Unpin>,
    id: Id,
    events: mpsc::Sender<(Id, ChildEvent)>,
) {
    while let Some(message) = link.next().await {
        if events.send((id, ChildEvent::Message(message))).await.is_err() {
            return;
        }
    }
    // Fails once the supervisor ends.
    drop(events.send((id, ChildEvent::LinkClosed)).await);
}

async fn read_start_lines(mut stderr: pipe::Receiver, id: Id, events: mpsc::Sender<(Id, ChildEvent)>) {
    let mut lines = Lines::new(START_LINE_BYTES_MAX);
    let mut piece = [0; 4096];
    // An error is an end as well.
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        for line in lines.with(&piece[..length]) {
            if events.send((id, ChildEvent::StderrLine(line))).await.is_err() {
                return;
            }
        }
    }
    if let Some(rest) = lines.rest() {
        drop(events.send((id, ChildEvent::StderrLine(rest))).await);
    }
    drop(events.send((id, ChildEvent::StderrClosed)).await);
}
