//! One child as a process: starting it, reading its link and its first words.

use std::collections::VecDeque;
use std::ffi::OsString;
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
use super::link::{self, Begin, Lines, Listener, News, Order};
use super::notify;
use super::unix::{self, End};

/// How many lines of what a child said at its start are kept.
const WORDS_MAX: usize = 20;

/// The longest line of them, in bytes; longer ones are told in pieces.
const WORD_MAX: usize = 4096;

/// The program of which the children are.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// The flag that tells a child which descriptors are its link and its stderr.
    flag: &'static str,
}

/// What comes from a child.
#[derive(Debug)]
pub(super) enum Heard {
    /// Over the link.
    News(News),
    /// The link is closed.
    Silence,
    /// A line on stderr, before it was ready.
    Word(Vec<u8>),
    /// There will be no more lines.
    NoMoreWords,
}

/// A child as a process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    orders: mpsc::Sender<Order>,
    words: VecDeque<String>,
    /// How it ended, and when that was noticed.
    pub(super) end: Option<(End, Instant)>,
    /// Whether its link and its stderr are still open; what it said last may not have been read.
    link_is_open: bool,
    stderr_is_open: bool,
}

impl Program {
    /// This program, with the arguments it has, and this flag in addition. Resolved now, since a file that is replaced later
    /// is no longer known to the system by its name: by the name it was started with if that is this file, so that a
    /// symbolic link that is set anew leads to the new build.
    pub(crate) fn of_this_process(flag: &'static str) -> io::Result<Self> {
        let file = std::env::current_exe()?;
        let mut arguments = std::env::args_os();
        let named = arguments.next().map(PathBuf::from).filter(|name| name.components().count() > 1);
        let named = named.and_then(|name| std::path::absolute(name).ok()).filter(|name| is_same(name, &file));
        Ok(Self { path: named.unwrap_or(file), arguments: arguments.collect(), flag })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| path.metadata().map(|about| (about.dev(), about.ino()));
    matches!((file(one), file(other)), (Ok(one), Ok(other)) if one == other)
}

impl Process {
    /// Starts a child. What it says goes to `heard`.
    pub(super) fn start(
        program: &Program,
        id: Id,
        begin: Begin,
        heard: &mpsc::Sender<(Id, Heard)>,
    ) -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        // It fits into the socket's buffer, so the child finds it there, and nobody waits.
        ours.write_all(&link::line(&Order::Begin(begin))?)?;
        ours.set_nonblocking(true)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        let descriptors = format!("{}={},{}", program.flag, theirs.as_raw_fd(), stderr.as_raw_fd());
        let arguments = program.arguments.iter().cloned().chain([OsString::from(descriptors)]);
        let inherited = [theirs.as_fd(), stderr.as_fd()];
        let started = unix::start(&program.path, arguments, &notify::VARIABLES, inherited)?;
        let (reading, writing) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let (orders, told) = mpsc::channel(link::ORDERS_MAX);
        // When the child is gone nobody listens, which its end tells, too.
        tokio::spawn(async move { drop(link::speak(writing, told).await) });
        tokio::spawn(read_link(Listener::new(reading), id, heard.clone()));
        let words = pipe::Receiver::from_owned_fd(started.stderr.into())?;
        tokio::spawn(read_words(words, id, heard.clone()));
        let words = VecDeque::new();
        Ok(Self { pid: started.pid, orders, words, end: None, link_is_open: true, stderr_is_open: true })
    }

    /// Tells it something. False if it has not read what it was told before.
    pub(super) fn tell(&self, order: Order) -> bool {
        !matches!(self.orders.try_send(order), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// A line that it said at its start: passed on, and kept.
    pub(super) fn word(&mut self, line: &[u8]) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell where this cannot be written.
        drop(stderr.write_all(line).and_then(|()| stderr.write_all(b"\n")));
        if self.words.len() == WORDS_MAX {
            self.words.pop_front();
        }
        self.words.push_back(String::from_utf8_lossy(line).into_owned());
    }

    pub(super) fn link_is_closed(&mut self) {
        self.link_is_open = false;
    }

    pub(super) fn stderr_is_closed(&mut self) {
        self.stderr_is_open = false;
    }

    /// Whether it may still be heard.
    pub(super) fn may_be_heard(&self) -> bool {
        self.link_is_open || self.stderr_is_open
    }

    /// What it said last before it was ready.
    pub(super) fn last_words(self) -> Vec<String> {
        self.words.into()
    }
}

async fn read_link(mut link: Listener<impl tokio::io::AsyncRead + Unpin>, id: Id, heard: mpsc::Sender<(Id, Heard)>) {
    while let Some(news) = link.next().await {
        if heard.send((id, Heard::News(news))).await.is_err() {
            return;
        }
    }
    // Nobody listens any more once the supervisor ends.
    drop(heard.send((id, Heard::Silence)).await);
}

async fn read_words(mut words: pipe::Receiver, id: Id, heard: mpsc::Sender<(Id, Heard)>) {
    let mut lines = Lines::new(WORD_MAX);
    let mut piece = [0; 4096];
    // An error is an end, too.
    while let Ok(length @ 1..) = words.read(&mut piece).await {
        for line in lines.with(&piece[..length]) {
            if heard.send((id, Heard::Word(line))).await.is_err() {
                return;
            }
        }
    }
    if let Some(rest) = lines.rest() {
        drop(heard.send((id, Heard::Word(rest))).await);
    }
    drop(heard.send((id, Heard::NoMoreWords)).await);
}
