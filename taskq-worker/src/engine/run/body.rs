//! Running a task's body until it ends, by itself or because it is stopped.
//!
//! While a body runs it has a slot in the flight recorder, and each thread that is in it carries its mark. Both are
//! given up when the body has ended: settling, which comes then, cannot crash the process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waking, Poll};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use taskq::definition::{Body, RetryPolicy, TaskResult};
use taskq::internal::attempt::{self, Caught, Outcome, ShieldedBody, Start, StateMap, Stop};
use taskq::internal::clock::Clock;
use taskq::{Client, Context};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use super::super::observe::{Moment, Observers};
use super::super::supervision::Supervision;
use super::decoding::Decoding;
use super::poll_watch::Ticks;
use super::running::Run;
use super::threads::PlainThreads;
use crate::recorder::flight::recorded_id;
use crate::recorder::{FlightEntry, Slot};

/// An outcome, and the slot that the body ran in; without a slot if a plain function was stopped and still runs in it.
pub(crate) type Ended = (Outcome, Option<OwnedSemaphorePermit>);

/// The means to make bodies and to run them.
pub(crate) struct Bodies {
    /// The values that tasks ask for by their types.
    pub(crate) state: StateMap,
    /// The supervision of this process, whose recorder notes what runs.
    pub(crate) supervision: Option<Arc<Supervision>>,
    /// The threads of plain functions.
    pub(crate) threads: PlainThreads,
    /// The client, which has the keys of sealed arguments.
    pub(crate) client: Client,
    /// The limits on the bodies that are decoded.
    pub(crate) decoding: Decoding,
    /// The clock of the poll watch, driven by the upkeep.
    pub(crate) ticks: Ticks,
    pub(crate) clock: Clock,
    pub(crate) observers: Observers,
}

/// A body that was made and is to be run.
pub(crate) struct PreparedBody {
    body: Body,
    context: Context,
    /// The slot in the flight recorder: making the body ran the user's code already.
    recorded: Slot,
    /// The time at which the body was made.
    at: DateTime<Utc>,
}

impl Bodies {
    /// Takes a slot in the flight recorder for a run that begins at `now`. In a process that is not supervised, the
    /// slot records nothing.
    fn record(&self, run: &Run, now: DateTime<Utc>) -> Slot {
        let Some(supervision) = &self.supervision else { return Slot::default() };
        supervision.enter(&FlightEntry {
            id: &recorded_id(run.key.id.as_str()),
            task: run.definition.name,
            generation: run.key.generation,
            attempt: run.key.attempt,
            in_quarantine: false,
            since_ms: now.timestamp_millis().max(0) as u64,
        })
    }

    /// Decodes the arguments and makes the body. An attempt that cannot begin has its outcome as error. Decoding a
    /// large message takes long, so it is done on a thread where no other task waits for it.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        run: &Arc<Run>,
        policy: &RetryPolicy,
    ) -> Result<PreparedBody, Outcome> {
        let Some(_room) = self.decoding.room_for(&run.envelope.payload).await else { return self.make(run, policy) };
        let (bodies, of_thread, policy) = (Arc::clone(self), Arc::clone(run), *policy);
        let made = spawn_blocking(move || bodies.make(&of_thread, &policy)).await;
        // The runtime is going down, and nothing was made.
        made.unwrap_or(Err(Outcome::Stopped(Stop::Interrupted, None)))
    }

    /// Decodes the arguments and makes the body. Both run the user's code, so they are in the flight recorder.
    fn make(&self, run: &Run, policy: &RetryPolicy) -> Result<PreparedBody, Outcome> {
        let at = self.clock.now();
        let recorded = self.record(run, at);
        let _mark = recorded.mark();
        let start = Start {
            definition: run.definition,
            envelope: &run.envelope,
            policy,
            limits: run.limits,
            received_bytes_max: self.decoding.bytes_max,
            sealing_keys: self.client.sealing_keys(),
            now: at,
            cancelled: run.cancel.subscribe(),
            progress: Arc::clone(&run.progress),
            state: Arc::clone(&self.state),
        };
        let (body, context) = start.start()?;
        Ok(PreparedBody { body, context, recorded, at })
    }

    /// Runs a body until it ends or is stopped. A plain function that is stopped goes on, and keeps its slot until it
    /// returns.
    pub(crate) async fn run(
        self: &Arc<Self>,
        run: &Arc<Run>,
        prepared: PreparedBody,
        slot: OwnedSemaphorePermit,
    ) -> Ended {
        let PreparedBody { body, context, recorded, at } = prepared;
        match body {
            Body::Async(future) => {
                run.begin(at);
                self.observers.observe(&Moment::Began { subject: run.subject() });
                let flying = Flying { body: attempt::catch(future), recorded, ticks: &self.ticks, run };
                let outcome = run_async(context.scope(flying), run).await;
                self.observers.observe(&Moment::BodyEnded { took: run.end() });
                (outcome, Some(slot))
            }
            Body::Blocking(function) => {
                // The function may have to wait for a thread, and runs only once it has one.
                drop(recorded);
                let (bodies, of_thread) = (Arc::clone(self), Arc::clone(run));
                let call = move || context.sync_scope(function);
                let ended = self.threads.call(move || (bodies.run_blocking(&of_thread, call), slot));
                tokio::select! {
                    biased;
                    ended = ended => match ended {
                        Ok((Some(ended), slot)) => (ended_by_itself(ended, run), Some(slot)),
                        Ok((None, slot)) => (Outcome::Stopped(Stop::Interrupted, None), Some(slot)),
                        // The worker is going down, and the function was never called.
                        Err(_) => (Outcome::Stopped(Stop::Interrupted, None), None),
                    },
                    why = run.stopped() => (stopped(why, run), None),
                }
            }
        }
    }

    /// Calls the function, on its thread; `None` if the run was given up before it had one.
    fn run_blocking(&self, run: &Run, call: impl FnOnce() -> TaskResult) -> Option<Caught> {
        if run.is_concluded() {
            return None;
        }
        let now = self.clock.now();
        run.begin(now);
        self.observers.observe(&Moment::Began { subject: run.subject() });
        let recorded = self.record(run, now);
        let mark = recorded.mark();
        let ended = attempt::catch_sync(call);
        drop(mark);
        drop(recorded);
        self.observers.observe(&Moment::BodyEnded { took: run.end() });
        if run.is_concluded() {
            self.observers.observe(&Moment::EndedLate { subject: run.subject(), frees_thread: true });
        }
        Some(ended)
    }
}

async fn run_async(future: impl Future<Output = Caught>, run: &Run) -> Outcome {
    // Dropping the future is how an async task is stopped: it ends at the await it is at.
    tokio::select! {
        biased;
        ended = future => ended_by_itself(ended, run),
        why = run.stopped() => stopped(why, run),
    }
}

fn ended_by_itself(ended: Caught, run: &Run) -> Outcome {
    Outcome::of(ended, run.is_soft_limit_hit())
}

fn stopped(why: Stop, run: &Run) -> Outcome {
    Outcome::Stopped(why, run.limits.hard)
}

/// An async body that is running. Whenever the user's code runs, be it polled or dropped, this thread carries the
/// body's mark, and the upkeep can see since when.
struct Flying<'a> {
    body: ShieldedBody,
    recorded: Slot,
    ticks: &'a Ticks,
    run: &'a Run,
}

impl Flying<'_> {
    fn touch<R>(&mut self, touch: impl FnOnce(&mut ShieldedBody) -> R) -> R {
        let _mark = self.recorded.mark();
        let _polling = self.run.poll.begin(self.ticks.now());
        touch(&mut self.body)
    }
}

impl Future for Flying<'_> {
    type Output = Caught;

    fn poll(self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<Caught> {
        self.get_mut().touch(|body| body.poll_unpin(waking))
    }
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        if !self.body.is_over() {
            self.touch(ShieldedBody::stop);
        }
    }
}
