//! The link between supervisor and child: a pair of sockets, and JSON, one document a line.
//!
//! After a rolling restart with a new build, the supervisor is of an older build than its children. Each side therefore
//! ignores messages that it does not know, and new fields need a default.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::recorder::flight::Loss;

/// A message from the supervisor to a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(crate) enum SupervisorMessage {
    /// The identity of the child; the first line.
    Hello(Hello),
    /// Take no new work, finish what has begun, and end.
    Drain,
    /// Take no new work, finish what has begun however long that takes, and end: another quarantine queue is waiting.
    YieldTurn,
    /// Stop waiting: give back what still runs.
    Cancel,
    /// Listen to remote control, and answer for the whole worker. Told to one child at a time.
    Speak,
    /// A question of the child that answers for the worker, to be answered with [`ChildMessage::Answer`].
    Question {
        /// The number of the question.
        number: u64,
        /// The question.
        question: Value,
    },
    /// The answer of one child to a question of this one.
    Answer {
        /// The number of the question.
        number: u64,
        /// The answer. `None` if there will be none.
        answer: Option<Value>,
    },
    /// The number of answers to a question of this child that are to come.
    Asked {
        /// The number of the question.
        number: u64,
        /// The number of children that were asked.
        children: usize,
    },
    /// Store this loss, then answer with [`ChildMessage::LossStored`].
    StoreLoss {
        /// The name by which the answer refers to the loss.
        file: String,
        /// The loss.
        loss: Loss,
    },
}

/// The identity of a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The node name, where it differs from that of the command line.
    pub(crate) node: Option<String>,
    /// The node name of the whole worker, for which one of its processes answers remote control.
    #[serde(default)]
    pub(crate) worker: Option<String>,
    /// The file in which the child records what it is running. Beside it is the file `lock`, which the child keeps
    /// locked, shared, as long as it lives.
    pub(crate) flight: PathBuf,
    /// Whether this is the first child of the supervisor.
    #[serde(default)]
    pub(crate) is_first: bool,
    /// The quarantine queue whose tasks the child runs one at a time, if it is for that.
    pub(crate) quarantine: Option<String>,
}

/// A message from a child to the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(crate) enum ChildMessage {
    /// The child takes work.
    Ready {
        /// The properties of the worker, as it announces them when it is ready.
        ready: Value,
        /// The store of losses. Children with another store do not store our losses.
        kept_in: String,
    },
    /// The child is alive; sent once a second.
    Heartbeat {
        /// The number of attempts that have ended.
        done: u64,
        /// The number of attempts that are running.
        running: u32,
        /// Whether the child takes messages from every queue and reaches its servers.
        live: bool,
        /// The problem that it has, if it is not live.
        #[serde(default)]
        problem: Option<String>,
    },
    /// A task is past its hard limit and cannot be stopped: the child has to be replaced.
    Stuck {
        /// The name of the task.
        task: String,
        /// The id of the task.
        id: String,
    },
    /// Tasks wait in these quarantine queues for a process that runs one at a time.
    QuarantineWanted {
        /// The queues.
        queues: Vec<String>,
    },
    /// A question to every child of this supervisor.
    Question {
        /// The number by which the child knows the answers.
        number: u64,
        /// The question.
        question: Value,
    },
    /// The answer to a question.
    Answer {
        /// The number of the question.
        number: u64,
        /// The answer. `None` if there is none.
        answer: Option<Value>,
    },
    /// A loss is stored.
    LossStored {
        /// The name of the loss in [`SupervisorMessage::StoreLoss`].
        file: String,
    },
    /// The child has ended in good order and is about to exit.
    Ended {
        /// The numbers of its attempts by outcome.
        summary: Value,
        /// The number of tasks that were interrupted and given back.
        interrupted: u64,
    },
}

/// The longest line. A longer one is cut, and ignored since its parts are no JSON.
const LINE_MAX: usize = 4 << 20;

/// The number of messages that may wait for a child that does not read.
pub(super) const MESSAGES_MAX: usize = 64;

/// Splits a stream of bytes into lines, however it is cut into pieces.
#[derive(Debug)]
pub(crate) struct Lines {
    begun: Vec<u8>,
    max: usize,
}

impl Lines {
    /// Starts at the beginning of a line. A line that is longer than `max` bytes is returned in pieces.
    pub(crate) fn new(max: usize) -> Self {
        Self { begun: Vec::new(), max }
    }

    /// Returns the lines that this piece completes, without line ends.
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

    /// Returns the last line, if it has no end.
    pub(crate) fn rest(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

/// Reads the messages of the other side.
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

    /// Waits for the next known message; returns `None` once the other side is gone. Cancel safe.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            while let Some(line) = self.whole.pop_front() {
                match serde_json::from_slice(&line) {
                    Ok(message) => return Some(message),
                    Err(error) => {
                        tracing::debug!(%error, "a message is ignored: the other side of the link is of another build");
                    }
                }
            }
            let mut piece = [0; 4096];
            // An error is an end, too.
            let length = self.socket.read(&mut piece).await.ok().filter(|length| *length > 0)?;
            self.whole.extend(self.lines.with(&piece[..length]));
        }
    }
}

/// Writes messages until there are no more senders, or the other side is gone.
pub(crate) async fn speak<T: Serialize>(
    mut socket: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<T>,
) -> io::Result<()> {
    while let Some(message) = messages.recv().await {
        socket.write_all(&line(&message)?).await?;
    }
    Ok(())
}

/// Encodes a message as a line of the link.
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
            ChildMessage::Heartbeat { done: 7, running: 1, live: false, problem: Some("is tired".into()) },
            ChildMessage::Stuck { task: "a\nb".into(), id: "7".into() },
            ChildMessage::Ended { summary: serde_json::json!({"succeeded": 3}), interrupted: 0 },
        ] {
            let line = line(&news).expect("it can be written");
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<ChildMessage>(&line).expect("it can be read"), news);
        }
        let hello = Hello {
            node: None,
            worker: None,
            flight: "/tmp/1.flight".into(),
            is_first: true,
            quarantine: Some("q".into()),
        };
        let line = line(&SupervisorMessage::Hello(hello.clone())).expect("it can be written");
        assert_eq!(
            serde_json::from_slice::<SupervisorMessage>(&line).expect("it can be read"),
            SupervisorMessage::Hello(hello)
        );
    }

    #[tokio::test]
    async fn what_is_not_understood_is_passed_over() {
        let text = b"{\"message\":\"later\"}\nnonsense\n{\"message\":\"loss_stored\",\"file\":\"1\",\"more\":2}\n";
        let mut listener = Listener::new(&text[..]);
        assert_eq!(listener.next().await, Some(ChildMessage::LossStored { file: "1".into() }));
        assert_eq!(listener.next::<ChildMessage>().await, None);
    }
}
