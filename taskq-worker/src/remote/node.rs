//! A worker as one node, and the questions to its processes.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use taskq::TaskId;

use super::state::ProcessState;

/// A question to every process of a worker. It may go to a process of another build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub(crate) enum NodeQuestion {
    /// The state of the process.
    State,
    /// The few figures of the process that are told every other second.
    Figures,
    /// The wish for events of tasks, or the end of it.
    WantEvents {
        /// Whether they are wanted.
        wanted: bool,
    },
    /// The revocation of tasks.
    Revoke {
        /// The tasks.
        ids: Vec<TaskId>,
        /// Whether a body that does not listen is ended with its process.
        terminate: bool,
    },
}

/// The answer of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum NodeAnswer {
    /// The state of the process.
    State(Box<ProcessState>),
    /// The few figures.
    Figures {
        /// The number of attempts that have ended.
        done: u64,
        /// The number of runs in hand.
        running: u64,
    },
    /// Whether the wish was known.
    WantEvents {
        /// Whether it was.
        known: bool,
    },
    /// The number of runs in hand that a revocation meets.
    Revoked {
        /// The number.
        runs: usize,
    },
}

/// A worker as one node.
pub(crate) trait Node: Send + Sync {
    /// Asks every process. One that does not answer in time is left out.
    fn ask(&self, question: NodeQuestion) -> BoxFuture<'_, Vec<NodeAnswer>>;
}
