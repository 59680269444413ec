//! What this worker has in its hands: every attempt from its delivery to its acknowledgement.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskq::broker::Acker;
use taskq::internal::attempt::Stop;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::run::{Run, RunKey, lock};

/// How many settled runs are remembered whose acknowledgement may not have arrived.
const SETTLED_MAX: usize = 10_000;

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
    /// How many of the runs are held by a copy of their message, or will soon be.
    held: usize,
    /// A copy went home, or may have: a held queue may still have something in it.
    sent_home: bool,
    /// Deliveries that are being settled without having been run.
    others: usize,
    /// Runs that were told to stop and may still be running; some are no longer among the runs, since they are settled.
    stopping: Vec<Arc<Run>>,
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
        let table = &mut *lock(&self.table);
        if let Some(run) = table.runs.get(key) {
            let mut held = lock(&run.acker);
            return match &*held {
                Some(current) if current.is_current() => Adoption::SecondCopy(acker),
                Some(_) => {
                    *held = Some(acker);
                    table.held -= lock(&run.age).renew(false);
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

    /// Offers the copy by which a run is held. It takes the place of the delivery that the run has, which is acknowledged.
    pub(super) fn take_over(&self, key: &RunKey, acker: Acker) -> Adoption {
        let table = &mut *lock(&self.table);
        let Some(run) = table.runs.get(key) else {
            return if table.settled.remove(key) { Adoption::AlreadySettled(acker) } else { Adoption::Unknown(acker) };
        };
        let mut held = lock(&run.acker);
        let Some(older) = held.take() else { return Adoption::AlreadySettled(acker) };
        *held = Some(acker);
        table.held += 1 - lock(&run.age).renew(true);
        if older.is_current() {
            older.ack();
        }
        Adoption::Adopted
    }

    /// The runs whose delivery is to be replaced by a copy now, as their [`Age`](super::held::Age) says. What has lost its
    /// delivery needs none.
    pub(super) fn due(&self, now: Instant, within: Duration) -> Vec<Arc<Run>> {
        let table = &mut *lock(&self.table);
        let mut due = Vec::new();
        for run in table.runs.values() {
            if !lock(&run.acker).as_ref().is_some_and(Acker::is_current) {
                continue;
            }
            let mut age = lock(&run.age);
            let was_held = age.is_held();
            if age.is_due(now, within) {
                table.held += usize::from(!was_held);
                due.push(Arc::clone(run));
            }
        }
        due
    }

    /// How many runs are held by a copy of their message, or will soon be.
    pub(super) fn held(&self) -> usize {
        lock(&self.table).held
    }

    pub(super) fn insert(&self, run: Arc<Run>) {
        lock(&self.table).runs.insert(run.key.clone(), run);
    }

    /// The run is over: acknowledges its delivery, or remembers that its copy needs no run.
    pub(super) fn acknowledge(&self, run: &Run) {
        let mut table = lock(&self.table);
        let held = run.take_acker();
        let lost = held.as_ref().is_some_and(|acker| !acker.is_current());
        if lost || lock(&run.age).expects_copy() {
            table.remember(run.key.clone());
        }
        if let Some(acker) = held.filter(|_| !lost) {
            acker.ack();
        }
        self.drop_run(&mut table, &run.key);
    }

    /// The run is over, and another one of the same task counts. A copy that comes is not taken for settled: whoever runs
    /// the other one may die.
    pub(super) fn let_go(&self, run: &Run) {
        let mut table = lock(&self.table);
        if let Some(acker) = run.take_acker() {
            acker.ack();
        }
        self.drop_run(&mut table, &run.key);
    }

    /// The run is over without a settlement: its delivery goes back.
    pub(super) fn give_back(&self, run: &Run) {
        let mut table = lock(&self.table);
        if let Some(acker) = run.take_acker() {
            table.sent_home |= lock(&run.age).is_held();
            acker.requeue();
        }
        self.drop_run(&mut table, &run.key);
    }

    /// Notes that a copy may be on its way from a held queue to its home.
    pub(super) fn note_sent_home(&self) {
        lock(&self.table).sent_home = true;
    }

    /// Whether a copy may be on that way.
    pub(super) fn has_sent_home(&self) -> bool {
        lock(&self.table).sent_home
    }

    /// Tells a run to stop, and remembers to look whether it does.
    pub(super) fn stop(&self, run: &Arc<Run>, why: Stop) {
        if run.stop(why) {
            lock(&self.table).stopping.push(Arc::clone(run));
        }
    }

    /// The runs that were told to stop this long ago and either are not concluded or still run. Each is given out once.
    pub(super) fn overdue(&self, after: Duration) -> Vec<(Arc<Run>, Stop)> {
        let mut overdue = Vec::new();
        lock(&self.table).stopping.retain(|run| {
            if run.is_concluded() && !run.is_running() {
                return false;
            }
            let Some((why, _)) = run.stopped_for().filter(|(_, ago)| *ago >= after) else { return true };
            overdue.push((Arc::clone(run), why));
            false
        });
        overdue
    }

    fn drop_run(&self, table: &mut Table, key: &RunKey) {
        if let Some(run) = table.runs.remove(key) {
            table.held -= usize::from(lock(&run.age).is_held());
        }
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
