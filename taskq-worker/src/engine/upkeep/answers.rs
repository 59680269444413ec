//! Answers to questions about the worker, and the revocation of tasks.

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use taskq::TaskId;
use taskq::internal::revocations::KEPT_FOR;
use taskq::message::Payload;
use taskq::remote::Revocation;
use tokio::time::Instant;

use super::super::custody::InFlight;
use super::super::limits::Revocations;
use super::super::observe::{Moment, Observers};
use super::super::run::Run;
use super::super::snapshot::{Question, RunSnapshot, WorkerHeartbeat, WorkerSnapshot};
use crate::remote::EventBuffer;

/// The largest arguments that are shown, in bytes as they were sent.
const ARGUMENTS_BYTES_MAX: usize = 4096;

/// The answerer, with the facts that do not change while the worker runs.
pub(crate) struct Answers {
    pub(crate) node: Arc<str>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) observers: Observers,
    pub(crate) events: Arc<EventBuffer>,
    pub(crate) began: Instant,
    pub(crate) queues: Vec<String>,
    pub(crate) tasks: Vec<String>,
}

/// The figures of the moment.
pub(super) struct WorkerFigures {
    pub(super) concurrency: usize,
    pub(super) prefetch: u16,
    pub(super) done: u64,
    pub(super) problem: Option<String>,
}

impl Answers {
    /// Answers a question. An asker that is gone needs no answer.
    pub(super) fn give(&self, question: Question, figures: WorkerFigures) {
        let in_flight = &self.in_flight;
        let all = |runs: Vec<Arc<Run>>| runs.iter().map(|run| snapshot_of(run)).collect();
        let WorkerFigures { concurrency, prefetch, done, problem } = figures;
        match question {
            Question::Snapshot(answer) => drop(answer.send(WorkerSnapshot {
                node: self.node.to_string(),
                concurrency,
                prefetch,
                done,
                uptime: self.began.elapsed(),
                queues: self.queues.clone(),
                tasks: self.tasks.clone(),
                runs: all(in_flight.runs()),
                problem,
            })),
            Question::RunsOf(id, answer) => drop(answer.send(all(in_flight.runs_of(&id)))),
            Question::Revoke(ids, revocation, answer) => drop(answer.send(self.revoke(ids, revocation))),
            Question::WantEvents(wanted, answer) => drop(answer.send(self.events.want(wanted))),
            Question::Revoked(answer) => drop(answer.send(self.revocations.ids())),
            Question::Heartbeat(answer) => {
                let running = u32::try_from(in_flight.len()).unwrap_or(u32::MAX);
                drop(answer.send(WorkerHeartbeat { done, running, problem }));
            }
        }
    }

    /// Revokes tasks, and returns the number of runs in hand that this meets.
    fn revoke(&self, ids: Vec<TaskId>, revocation: Revocation) -> usize {
        let mut met = 0;
        for id in ids {
            // Noted first: a run that is being entered is found by one side or the other.
            self.revocations.add(&id, revocation, KEPT_FOR);
            for run in self.in_flight.runs_of(&id) {
                run.revoke(revocation.terminate);
                met += 1;
            }
            if revocation.terminate {
                for run in self.in_flight.take_lingering(&id) {
                    self.observers.observe(&Moment::Stuck { subject: run.subject() });
                    met += 1;
                }
            }
        }
        met
    }
}

fn snapshot_of(run: &Run) -> RunSnapshot {
    RunSnapshot {
        id: run.key.id.clone(),
        task: run.definition.name.to_owned(),
        attempt: run.key.attempt,
        queue: run.queue.to_string(),
        priority: run.envelope.priority,
        arguments: arguments(&run.envelope.payload),
        began_at: run.began_at(),
        running_for: run.running_for(),
    }
}

/// The arguments of a message, where that is no effort.
fn arguments(payload: &Payload) -> Option<(Vec<Value>, Map<String, Value>)> {
    let is_plain = payload.content_type == "application/json" && payload.compression.is_none();
    if !is_plain || payload.body.len() > ARGUMENTS_BYTES_MAX {
        return None;
    }
    let (args, kwargs, _) = serde_json::from_slice::<(_, _, IgnoredAny)>(&payload.body).ok()?;
    Some((args, kwargs))
}
