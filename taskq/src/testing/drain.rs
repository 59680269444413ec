//! Running due calls: a worker without slots, claims and outages.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tokio::sync::{oneshot, watch};

use super::enqueued::Enqueued;
use super::parts::{IN_MEMORY, QueueParts};
use super::report::{End, Report, Run};
use crate::attempt::{self, Admission, Caught, Conclusion, Outcome, Start, Stop, Verdict, conclude};
use crate::backend::{KvExt, ResultBackendExt, Written};
use crate::broker::{DEAD_QUEUE, Delivery};
use crate::client::dead::{RefusedMessage, dead_message};
use crate::client::node::host_name;
use crate::codec::{self, DecodeError};
use crate::definition::{AckMode, Body, Context, Definition, RetryPolicy};
use crate::message::{Envelope, Failure, Record, TaskId, TaskState, TimeLimits};
use crate::remote::Revocation;

/// A drain, with the report of what it has done so far.
pub(super) struct Drain<'a> {
    queue: &'a QueueParts,
    pub(super) report: Report,
    taken: usize,
}

impl<'a> Drain<'a> {
    pub(super) fn of(queue: &'a QueueParts) -> Self {
        Self { queue, report: Report::default(), taken: 0 }
    }

    /// Runs due calls until none is left.
    pub(super) async fn run_what_is_due(&mut self) {
        while let Some(name) = self.queue.broker.first_queue(DEAD_QUEUE) {
            assert!(self.taken < self.queue.runs_max, "{}", self.endless());
            let mut browse = self.queue.client.broker().browse(&name, 1).await.expect(IN_MEMORY);
            // Returned to the queue if this future is dropped half-way. Empty if another drain was faster.
            if let Some(delivery) = browse.deliveries.pop() {
                self.taken += 1;
                self.report.runs.extend(work(self.queue, delivery).await);
            }
            browse.finish().await;
            // A drain of tasks that never wait is interruptible, too.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Runs all calls that are due or become so, until the sender of `ended` is dropped and none is due.
    pub(super) async fn run_until(&mut self, mut ended: oneshot::Receiver<Infallible>) {
        loop {
            // Subscribed first, so that a call that arrives while the drain ends is not missed.
            let mut arrival = pin!(self.queue.broker.arrival());
            arrival.as_mut().enable();
            self.run_what_is_due().await;
            tokio::select! {
                biased;
                _ = &mut ended => break,
                () = arrival => {}
            }
        }
        self.run_what_is_due().await;
    }

    /// Returns the panic message of a drain that does not end.
    fn endless(&self) -> String {
        let mut counts = HashMap::<&str, usize>::new();
        for run in &self.report.runs {
            *counts.entry(&run.task).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(task, count)| (*count, *task));
        let most = most.map(|(task, count)| format!("; {count} of them were of {task}")).unwrap_or_default();
        format!(
            "not drained after {} runs{most}: does it enqueue itself without end, or put itself off for no time? (if so many \
             are meant, see `testing::builder().runs_max(…)`)",
            self.taken
        )
    }
}

/// Handles one message as a worker does. Returns `None` if it was neither run nor ended.
async fn work(queue: &QueueParts, delivery: Delivery) -> Option<Run> {
    let envelope = match codec::decode(&delivery.message) {
        Ok(envelope) => envelope,
        Err(error) => return Some(give_up(queue, delivery, &error).await),
    };
    let Delivery { queue: name, redelivered, acker, .. } = delivery;
    let now = queue.now();
    let grace = queue.client.settings().unknown_task_grace;
    let by_clock = attempt::Now { time: now, store_ahead: None };
    let revocation = revocation(queue, &envelope.id).await;
    let end = match attempt::admit(&envelope, revocation.is_some(), redelivered, &queue.registry, grace, by_clock) {
        // No other process can have a copy, so nothing is claimed.
        Admission::Run(definition) | Admission::Claim(definition) => {
            if definition.options.ack == AckMode::Early {
                acker.ack();
                run(queue, &envelope, definition, &name).await
            } else {
                let end = run(queue, &envelope, definition, &name).await;
                acker.ack();
                end
            }
        }
        Admission::PutOff(delay) => {
            let copy = Envelope { moved: true, ..envelope.clone() };
            queue.publish(&name, codec::encode(copy), Some(delay)).await;
            acker.ack();
            None
        }
        Admission::PutBack(delay) => {
            let put_back = Some(envelope.put_back.unwrap_or_default() + delay);
            let copy = Envelope { moved: true, put_back, ..envelope.clone() };
            queue.publish(&name, codec::encode(copy), Some(delay)).await;
            acker.ack();
            Some(End::PutBack { after: delay })
        }
        Admission::Unknown => {
            let verdict = Verdict::unknown_task(&envelope.task);
            end_without_run(queue, &envelope, &name, &verdict).await;
            acker.ack();
            End::of(&verdict, None)
        }
        Admission::Expired => {
            end_without_run(queue, &envelope, &name, &Verdict::expired()).await;
            acker.ack();
            Some(End::Expired)
        }
        Admission::Revoked => {
            let verdict = Verdict::revoked(revocation.is_some_and(|revocation| revocation.terminate));
            end_without_run(queue, &envelope, &name, &verdict).await;
            acker.ack();
            End::of(&verdict, None)
        }
    };
    end.map(|end| Run::new(Enqueued::of(&envelope, &name, None, now), end))
}

/// The revocation of a task, if it is revoked.
async fn revocation(queue: &QueueParts, id: &TaskId) -> Option<Revocation> {
    queue.client.kv()?.get_json(&Revocation::key(id)).await.expect(IN_MEMORY)
}

/// Runs one attempt, from its start to its settlement. Returns `None` if it was interrupted, by the end of the runtime.
async fn run(queue: &QueueParts, envelope: &Envelope, definition: &'static Definition, name: &Arc<str>) -> Option<End> {
    let policy = RetryPolicy::of(&definition.options);
    let limits = attempt::limits(envelope, &definition.options);
    let (cancel, cancelled) = watch::channel(false);
    let progress = Arc::default();
    let began = queue.now();
    let start = Start {
        definition,
        envelope,
        policy: &policy,
        limits,
        received_bytes_max: queue.client.settings().max_received_bytes,
        sealing_keys: queue.client.sealing_keys(),
        now: began,
        cancelled,
        progress: Arc::clone(&progress),
        state: Arc::clone(&queue.state),
    };
    let outcome = match start.start() {
        Ok((body, context)) => run_body(body, context, limits, &cancel).await,
        Err(outcome) => outcome,
    };
    // A test has one build of its tasks, so arguments that do not fit never will.
    let Conclusion { verdict, value, traceback } = conclude(outcome, &policy, envelope, Duration::ZERO);
    let end = End::of(&verdict, value.as_ref())?;
    let mut records = Vec::new();
    if !attempt::ignores_result(envelope, &definition.options) {
        let last_word = progress.take().map(|progress| {
            let value = serde_json::value::to_raw_value(&progress).expect("numbers and a text can be written as JSON");
            Record { value: Some(value), ..attempt::record_of(envelope, TaskState::Progress) }
        });
        let end = verdict.record(envelope, queue.now()).map(|record| Record { value, traceback, ..record });
        records.extend(last_word.into_iter().chain(end));
    }
    let records = records.into_iter().map(|record| Record { started_at: Some(began), ..record }).collect();
    settle(queue, envelope, name, &verdict, records).await;
    Some(end)
}

/// Runs the body until it ends or its hard limit is over.
async fn run_body(body: Body, context: Context, limits: TimeLimits, cancel: &watch::Sender<bool>) -> Outcome {
    let mut ended = pin!(async {
        match body {
            Body::Async(future) => Some(context.scope(attempt::catch(future)).await),
            Body::Blocking(function) => {
                call_blocking(move || attempt::catch_sync(|| context.sync_scope(function))).await
            }
        }
    });
    let (mut soft, mut hard) = (pin!(sleep(limits.soft)), pin!(sleep(limits.hard)));
    let mut soft_over = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut ended => return match ended {
                Some(ended) => Outcome::of(ended, soft_over),
                None => Outcome::Stopped(Stop::Interrupted, None),
            },
            () = &mut hard => return Outcome::Stopped(Stop::TimeLimit, limits.hard),
            () = &mut soft, if !soft_over => {
                soft_over = true;
                cancel.send_replace(true);
            }
        }
    }
}

/// Calls a function on the blocking pool, as a worker does: it may block on futures, which it could not do inside of
/// one. Returns `None` if the runtime is shutting down.
async fn call_blocking(function: impl FnOnce() -> Caught + Send + 'static) -> Option<Caught> {
    tokio::task::spawn_blocking(function).await.ok()
}

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => future::pending().await,
    }
}

async fn end_without_run(queue: &QueueParts, envelope: &Envelope, name: &Arc<str>, verdict: &Verdict) {
    let stored = envelope.ignore_result != Some(true);
    let records = verdict.record(envelope, queue.now()).filter(|_| stored).into_iter().collect();
    settle(queue, envelope, name, verdict, records).await;
}

/// Writes the records, then publishes the follow-up message. The caller acknowledges.
async fn settle(queue: &QueueParts, envelope: &Envelope, name: &Arc<str>, verdict: &Verdict, records: Vec<Record>) {
    let results = queue.client.results().expect("a testing queue has a result backend");
    let worker = Some(format!("testing@{}", host_name()));
    let records: Vec<_> = records.into_iter().map(|record| Record { worker: worker.clone(), ..record }).collect();
    let written = results.write(&records).await.expect(IN_MEMORY);
    if written.last() == Some(&Written::Kept) {
        // Another call with the same id has ended.
        let stored = results.read_one(&envelope.id).await.expect(IN_MEMORY);
        if verdict.is_superseded_by(stored.as_ref()) {
            return;
        }
    }
    let now = queue.now();
    if let Verdict::Fail { reason, failure } = verdict {
        queue.publish(DEAD_QUEUE, dead_message(envelope, name, *reason, failure, now), None).await;
    } else if let Some((next, delay)) = verdict.next_message(envelope, now) {
        queue.publish(name, codec::encode(next), Some(delay)).await;
    }
}

/// Moves a message that is no call to the dead set.
async fn give_up(queue: &QueueParts, delivery: Delivery, error: &DecodeError) -> Run {
    let now = queue.now();
    let RefusedMessage { envelope, message, record } = RefusedMessage::new(&delivery, &error.clone().into(), now);
    let records: Vec<_> = record.into_iter().collect();
    queue.client.results().expect("a testing queue has a result backend").write(&records).await.expect(IN_MEMORY);
    queue.publish(DEAD_QUEUE, message, None).await;
    let end = End::Failed(Failure::new("taskq", "DecodeError", error.to_string()));
    let run = Run::new(Enqueued::of(&envelope, &delivery.queue, None, now), end);
    delivery.acker.ack();
    run
}
