//! The link between supervisor and child: a pair of sockets, and JSON, one document a line.
//!
//! After a new build has been rolled out, the supervisor is of an older build than its children. So whatever one side does
//! not understand it passes over, and new fields need a default.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::recorder::flight::Loss;

/// What the supervisor tells a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// What the child is; the first line.
    Begin(Begin),
    /// Take no new work, finish what has begun, and end.
    Drain,
    /// Take no new work, finish what has begun however long that takes, and end: somebody else waits for the place.
    MakeRoom,
    /// Do not wait any longer: give back what still runs.
    Cancel,
    /// Write down that this was lost, then say so.
    Report {
        /// By what the answer names it.
        file: String,
        /// What was lost.
        loss: Loss,
    },
}

/// What a child is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Its node name, where it is not what the command line says.
    pub(crate) node: Option<String>,
    /// Where it records what it is running. Next to it is the file `lock`, which a child keeps locked, shared, as long as
    /// it lives.
    pub(crate) flight: PathBuf,
    /// Whether nobody was started before it.
    #[serde(default)]
    pub(crate) is_first: bool,
    /// The queue of suspects that it runs one by one, if it is for that.
    pub(crate) alone: Option<String>,
}

/// What a child tells the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub(crate) enum News {
    /// It takes work.
    Ready {
        /// What the worker says of itself when it is ready.
        ready: Value,
        /// Where losses are kept: who keeps them elsewhere does not report them for us.
        kept_in: String,
    },
    /// It is alive; once a second.
    Beat {
        /// How many attempts have ended.
        done: u64,
        /// How many are running.
        running: u32,
        /// Whether it takes messages from every queue, and its servers can be reached.
        live: bool,
        /// If it does not, what it meets.
        #[serde(default)]
        trouble: Option<String>,
    },
    /// A task is past its hard limit and cannot be stopped; somebody has to take this child's place.
    Stuck {
        /// The task's name.
        task: String,
        /// Its id.
        id: String,
    },
    /// Suspects wait in these queues for a process that runs one at a time.
    AloneWanted {
        /// The queues.
        queues: Vec<String>,
    },
    /// A loss is written down.
    Reported {
        /// Which.
        file: String,
    },
    /// It has ended in good order and will exit.
    Ended {
        /// What it did: numbers by name.
        summary: Value,
        /// How many tasks were interrupted and given back.
        interrupted: u64,
    },
}

/// The longest line. What is longer is cut, and passed over as no JSON.
const LINE_MAX: usize = 4 << 20;

/// How many orders may wait for a child that does not read.
pub(super) const ORDERS_MAX: usize = 64;

/// Lines out of whatever pieces they come in.
#[derive(Debug)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    max: usize,
}

impl Lines {
    /// None yet. A line that is longer than `max` bytes comes in pieces.
    pub(crate) fn new(max: usize) -> Self {
        Self { begun: Vec::new(), max }
    }

    /// The lines that are whole with this piece, without their ends.
    pub(crate) fn with(&mut self, mut piece: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        while !piece.is_empty() {
            let room = self.max - self.begun.len();
            let end = piece.iter().take(room).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or_else(|| room.min(piece.len()));
            self.begun.extend_from_slice(&piece[..taken]);
            if end.is_some() || self.begun.len() == self.max {
                whole.push(std::mem::take(&mut self.begun));
            }
            piece = &piece[taken + usize::from(end.is_some())..];
        }
        whole
    }

    /// What was left without an end.
    pub(crate) fn rest(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

/// Reads what the other side says.
#[derive(Debug)]
pub(crate) struct Listener<R> {
    socket: R,
    lines: Lines,
    whole: VecDeque<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Listener<R> {
    /// Listens at this end of the link.
    pub(crate) fn new(socket: R) -> Self {
        Self { socket, lines: Lines::new(LINE_MAX), whole: VecDeque::new() }
    }

    /// The next that is understood; nothing once the other side is gone. May be dropped while it waits.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            while let Some(line) = self.whole.pop_front() {
                match serde_json::from_slice(&line) {
                    Ok(message) => return Some(message),
                    Err(error) => tracing::debug!(%error, "the other side of the link is of another build"),
                }
            }
            let mut piece = [0; 4096];
            // An error is an end, too.
            let length = self.socket.read(&mut piece).await.ok().filter(|length| *length > 0)?;
            self.whole.extend(self.lines.with(&piece[..length]));
        }
    }
}

/// Writes what is to be said until nobody says anything any more, or nobody listens.
pub(crate) async fn speak<T: Serialize>(
    mut socket: impl AsyncWrite + Unpin,
    mut said: mpsc::Receiver<T>,
) -> io::Result<()> {
    while let Some(message) = said.recv().await {
        socket.write_all(&line(&message)?).await?;
    }
    Ok(())
}

/// A message as it goes over the link.
pub(crate) fn line<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_any_pieces() {
        for size in 1..12 {
            let mut lines = Lines::new(5);
            let whole: Vec<_> = b"one\n\ntoolong\nend".chunks(size).flat_map(|piece| lines.with(piece)).collect();
            let texts: Vec<_> = whole.iter().map(|line| str::from_utf8(line).expect("it is text")).collect();
            assert_eq!(texts, ["one", "", "toolo", "ng"], "in pieces of {size}");
            assert_eq!(lines.rest().as_deref(), Some(&b"end"[..]));
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for news in [
            News::Beat { done: 7, running: 1, live: false, trouble: Some("is tired".into()) },
            News::Stuck { task: "a\nb".into(), id: "7".into() },
            News::Ended { summary: serde_json::json!({"succeeded": 3}), interrupted: 0 },
        ] {
            let line = line(&news).expect("it can be written");
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<News>(&line).expect("it can be read"), news);
        }
        let begin = Begin { node: None, flight: "/tmp/1.flight".into(), is_first: true, alone: Some("q".into()) };
        let line = line(&Order::Begin(begin.clone())).expect("it can be written");
        assert_eq!(serde_json::from_slice::<Order>(&line).expect("it can be read"), Order::Begin(begin));
    }

    #[tokio::test]
    async fn what_is_not_understood_is_passed_over() {
        let text = b"{\"news\":\"later\"}\nnonsense\n{\"news\":\"reported\",\"file\":\"1\",\"more\":2}\n";
        let mut listener = Listener::new(&text[..]);
        assert_eq!(listener.next().await, Some(News::Reported { file: "1".into() }));
        assert_eq!(listener.next::<News>().await, None);
    }
}
