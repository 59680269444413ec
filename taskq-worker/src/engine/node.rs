//! The worker as a node of remote control, or as one process of it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use taskq::TaskId;

use super::control::WorkerControl;
use super::snapshot::{RunSnapshot, WorkerHeartbeat, WorkerSnapshot};
use crate::remote::{Node, NodeAnswer, NodeQuestion, ProcessState, RunState};

impl Node for WorkerControl {
    fn ask(&self, question: NodeQuestion) -> BoxFuture<'_, Vec<NodeAnswer>> {
        async move {
            match question {
                NodeQuestion::State => {
                    let Some(snapshot) = self.snapshot().await else { return Vec::new() };
                    let state = state_of(snapshot, self.revoked().await);
                    vec![NodeAnswer::State(Box::new(state))]
                }
                NodeQuestion::Figures => {
                    let WorkerHeartbeat { done, running, .. } = self.heartbeat().await;
                    vec![NodeAnswer::Figures { done, running: running.into() }]
                }
                NodeQuestion::WantEvents { wanted } => {
                    vec![NodeAnswer::WantEvents { known: self.want_events(wanted).await }]
                }
                NodeQuestion::Revoke { ids, terminate } => {
                    vec![NodeAnswer::Revoked { runs: self.revoke(ids, terminate).await }]
                }
            }
        }
        .boxed()
    }
}

fn state_of(snapshot: WorkerSnapshot, revoked: Vec<TaskId>) -> ProcessState {
    ProcessState {
        pid: std::process::id(),
        uptime: snapshot.uptime.as_secs(),
        concurrency: snapshot.concurrency,
        prefetch: snapshot.prefetch.into(),
        done: snapshot.done,
        queues: snapshot.queues,
        tasks: snapshot.tasks,
        revoked,
        runs: snapshot.runs.into_iter().map(run_state_of).collect(),
    }
}

fn run_state_of(run: RunSnapshot) -> RunState {
    RunState {
        id: run.id,
        task: run.task,
        queue: run.queue,
        priority: run.priority,
        arguments: run.arguments,
        began_ms: run.began_at.map(|at| at.timestamp_millis()),
        is_running: run.running_for.is_some(),
    }
}
