//! What this worker has in its hands: every attempt from its delivery to its acknowledgement.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use taskq::TaskId;
use taskq::attempt::Stop;
use taskq::broker::Acker;
use taskq::message::{Envelope, TimeLimits};
use taskq::task::{Definition, ProgressCell};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::claim::Claim;

/// How many settled runs are remembered whose acknowledgement may not have arrived.
const SETTLED_MAX: usize = 10_000;

/// Tells runs apart: messages with the same key are copies of one run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RunKey {
    pub(super) id: TaskId,
    pub(super) generation: u32,
    pub(super) attempt: u32,
    pub(super) snoozes: u32,
}

impl RunKey {
    pub(super) fn of(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id.clone(),
            generation: envelope.generation,
            attempt: envelope.attempt,
            snoozes: envelope.snoozes,
        }
    }
}

/// An attempt that this worker is running, or has run and not yet settled.
pub(super) struct Run {
    pub(super) key: RunKey,
    pub(super) definition: &'static Definition,
    pub(super) queue: Arc<str>,
    /// How long it may run.
    pub(super) limits: TimeLimits,
    /// Whether a result is stored at all.
    pub(super) stores_result: bool,
    /// Tells the task to stop.
    pub(super) cancel: watch::Sender<bool>,
    /// The latest progress.
    pub(super) progress: Arc<ProgressCell>,
    /// When the body began: limits count from here.
    began: OnceLock<Began>,
    /// The body has ended.
    ended: AtomicBool,
    /// The soft limit is over; an error after this is put down to it.
    pub(super) soft_limit_hit: AtomicBool,
    /// `STARTED` has been written, or something later.
    pub(super) noted: AtomicBool,
    stop: Mutex<Option<Stop>>,
    stop_signal: Notify,
    /// Taken by whoever settles. Replaced if the connection was lost and the message came again.
    acker: Mutex<Option<Acker>>,
    claim: Mutex<Option<Claim>>,
}

/// When a body began.
struct Began {
    instant: Instant,
    at: DateTime<Utc>,
}

/// Everything a [`Run`] is made of that differs from run to run.
pub(super) struct NewRun {
    pub(super) key: RunKey,
    pub(super) definition: &'static Definition,
    pub(super) queue: Arc<str>,
    pub(super) acker: Acker,
    pub(super) limits: TimeLimits,
    pub(super) stores_result: bool,
}

impl Run {
    pub(super) fn new(new: NewRun) -> Self {
        Self {
            key: new.key,
            definition: new.definition,
            queue: new.queue,
            limits: new.limits,
            stores_result: new.stores_result,
            cancel: watch::Sender::new(false),
            progress: Arc::default(),
            began: OnceLock::new(),
            ended: AtomicBool::new(false),
            soft_limit_hit: AtomicBool::new(false),
            noted: AtomicBool::new(false),
            stop: Mutex::default(),
            stop_signal: Notify::new(),
            acker: Mutex::new(Some(new.acker)),
            claim: Mutex::default(),
        }
    }

    /// Notes that the body begins.
    pub(super) fn begin(&self, at: DateTime<Utc>) {
        // An attempt begins once; a second call would change nothing.
        self.began.get_or_init(|| Began { instant: Instant::now(), at });
    }

    /// Notes that the body has ended, and says how long it took.
    pub(super) fn end(&self) -> Duration {
        self.ended.store(true, Ordering::Release);
        self.began.get().map_or(Duration::ZERO, |began| began.instant.elapsed())
    }

    /// When the body began, in wall-clock time.
    pub(super) fn began_at(&self) -> Option<DateTime<Utc>> {
        self.began.get().map(|began| began.at)
    }

    /// For how long the body has been running; `None` before it begins and after it has ended.
    pub(super) fn running_for(&self) -> Option<Duration> {
        let began = self.began.get()?;
        (!self.ended.load(Ordering::Acquire)).then(|| began.instant.elapsed())
    }

    /// Stops the attempt at its next await.
    pub(super) fn stop(&self, why: Stop) {
        lock(&self.stop).get_or_insert(why);
        self.stop_signal.notify_one();
    }

    /// Completes when the attempt is to be stopped.
    pub(super) async fn stopped(&self) -> Stop {
        loop {
            self.stop_signal.notified().await;
            if let Some(why) = *lock(&self.stop) {
                return why;
            }
        }
    }

    /// The acker, for settling. A second call gives `None`.
    pub(super) fn take_acker(&self) -> Option<Acker> {
        lock(&self.acker).take()
    }

    /// Whether settling now would have an effect: nobody else can have been given the message meanwhile.
    pub(super) fn holds_delivery(&self) -> bool {
        lock(&self.acker).as_ref().is_none_or(Acker::is_current)
    }

    pub(super) fn claim(&self) -> Option<Claim> {
        lock(&self.claim).clone()
    }

    pub(super) fn set_claim(&self, claim: Claim) {
        *lock(&self.claim) = Some(claim);
    }
}

/// What became of a delivery that was offered to the runs in hand.
#[derive(Debug)]
pub(super) enum Adoption {
    /// The run it belongs to is still going on and had lost its delivery: it has a new one now.
    Adopted,
    /// Its run is settled, only the acknowledgement got lost.
    AlreadySettled(Acker),
    /// Its run is going on with a delivery of its own: this is a second copy.
    SecondCopy(Acker),
    /// No run of ours.
    Unknown(Acker),
}

/// All runs in hand.
#[derive(Default)]
pub(super) struct InFlight {
    table: Mutex<Table>,
    emptied: Notify,
}

#[derive(Default)]
struct Table {
    runs: HashMap<RunKey, Arc<Run>>,
    settled: HashSet<RunKey>,
    settled_order: VecDeque<RunKey>,
    /// Deliveries that are being settled without having been run.
    others: usize,
}

/// A delivery that is being settled without having been run; counted while it lives.
pub(super) struct Hold(Arc<InFlight>);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = lock(&self.0.table);
        table.others -= 1;
        self.0.tell_if_empty(&table);
    }
}

impl InFlight {
    /// Offers a delivery that may be a copy to the runs in hand.
    pub(super) fn adopt(&self, key: &RunKey, acker: Acker) -> Adoption {
        let mut table = lock(&self.table);
        if let Some(run) = table.runs.get(key) {
            let mut held = lock(&run.acker);
            return match &*held {
                Some(current) if current.is_current() => Adoption::SecondCopy(acker),
                Some(_) => {
                    *held = Some(acker);
                    Adoption::Adopted
                }
                // It has just been settled with the old one.
                None => Adoption::AlreadySettled(acker),
            };
        }
        if table.settled.remove(key) {
            return Adoption::AlreadySettled(acker);
        }
        Adoption::Unknown(acker)
    }

    pub(super) fn insert(&self, run: Arc<Run>) {
        lock(&self.table).runs.insert(run.key.clone(), run);
    }

    /// The run is over: acknowledges its delivery, or remembers that its copy needs no run.
    pub(super) fn acknowledge(&self, run: &Run) {
        let mut table = lock(&self.table);
        let held = run.take_acker();
        let lost = held.as_ref().is_some_and(|acker| !acker.is_current());
        if lost {
            table.remember(run.key.clone());
        } else if let Some(acker) = held {
            acker.ack();
        }
        self.drop_run(&mut table, &run.key);
    }

    /// The run is over without a settlement: its delivery goes back.
    pub(super) fn give_back(&self, run: &Run) {
        if let Some(acker) = run.take_acker() {
            acker.requeue();
        }
        self.drop_run(&mut lock(&self.table), &run.key);
    }

    fn drop_run(&self, table: &mut Table, key: &RunKey) {
        table.runs.remove(key);
        self.tell_if_empty(table);
    }

    fn tell_if_empty(&self, table: &Table) {
        if table.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Counts a delivery that is settled without being run.
    pub(super) fn hold(self: &Arc<Self>) -> Hold {
        lock(&self.table).others += 1;
        Hold(Arc::clone(self))
    }

    /// A look at every run.
    pub(super) fn runs(&self) -> Vec<Arc<Run>> {
        lock(&self.table).runs.values().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.table).is_empty()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.table).runs.len()
    }

    /// Completes when nothing is in hand.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Registering comes before looking, so that no wake-up is missed.
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Table {
    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.others == 0
    }

    fn remember(&mut self, key: RunKey) {
        if self.settled.insert(key.clone()) {
            self.settled_order.push_back(key);
        }
        while self.settled_order.len() > SETTLED_MAX {
            if let Some(oldest) = self.settled_order.pop_front() {
                self.settled.remove(&oldest);
            }
        }
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
