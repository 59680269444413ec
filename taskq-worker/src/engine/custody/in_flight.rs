//! The table of everything that this worker has in hand: each run from its delivery to its acknowledgement.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taskq::TaskId;
use taskq::broker::Acker;
use taskq::internal::attempt::Stop;
use taskq::message::RunKey;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::claims::Claim;
use super::super::lock::lock;
use super::super::run::Run;
use super::entry::{ClaimState, EntriesOfTask, Entry};
use super::settled::RecentlySettled;

/// The outcome of offering a delivery to the runs in hand.
#[derive(Debug)]
pub(crate) enum Adoption {
    /// The delivery's run is going on and had lost its delivery, or had asked for this copy: it has this one now.
    Adopted,
    /// The delivery's run is settled, and only the acknowledgement got lost.
    AlreadySettled(Acker),
    /// The delivery's run is going on with a delivery of its own.
    SecondCopy(Acker),
    /// No run in hand has this key.
    Unknown(Acker),
}

/// How a run stands towards its message.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Under a claim.
    Claimed(Claim),
    /// With a delivery that no other worker can have been given meanwhile, and no claim.
    Holding,
    /// Without either: the message may be with another worker.
    Lost,
}

/// All runs in hand.
#[derive(Default)]
pub(crate) struct InFlight {
    table: Mutex<Table>,
    emptied: Notify,
}

#[derive(Default)]
struct Table {
    runs: HashMap<TaskId, EntriesOfTask>,
    /// The number of runs.
    count: usize,
    settled: RecentlySettled,
    /// The number of runs whose delivery is a copy, or will soon be.
    renewed: usize,
    /// Whether a copy went back to its queue of origin, or may have: a renewal queue may still have something in it.
    returned_to_origin: bool,
    /// The number of deliveries that are being settled without having been run.
    unrun: usize,
    /// Runs that were told to stop and may still be running; some are settled and no longer among the runs.
    stopping: Vec<Arc<Run>>,
    /// Runs that were ended from outside while their bodies went on.
    lingering: Vec<Arc<Run>>,
}

/// A delivery that is being settled without having been run. It is counted among what is in hand until this is dropped.
pub(crate) struct UnrunGuard(Arc<InFlight>);

impl Drop for UnrunGuard {
    fn drop(&mut self) {
        let mut table = lock(&self.0.table);
        table.unrun -= 1;
        self.0.tell_if_empty(&table);
    }
}

impl InFlight {
    /// Enters a run with its delivery.
    pub(crate) fn enter(&self, run: Arc<Run>, delivery: Acker) {
        lock(&self.table).enter(Entry::new(run, delivery));
    }

    /// Offers a delivery that came from its queue to the runs in hand.
    pub(crate) fn adopt(&self, key: &RunKey, delivery: Acker) -> Adoption {
        let table = &mut *lock(&self.table);
        let Some(entry) = find_key(&mut table.runs, key) else { return table.adopt_settled(key, delivery) };
        match &entry.delivery {
            Some(current) if current.is_current() => Adoption::SecondCopy(delivery),
            Some(_) => {
                entry.delivery = Some(delivery);
                table.renewed -= usize::from(entry.age.is_renewed());
                entry.age.restart(false);
                Adoption::Adopted
            }
            // Acknowledged early.
            None => Adoption::AlreadySettled(delivery),
        }
    }

    /// Offers a copy by which a run renews its delivery. It takes the place of the delivery that the run has, which is
    /// acknowledged.
    pub(crate) fn take_over(&self, key: &RunKey, copy: Acker) -> Adoption {
        let table = &mut *lock(&self.table);
        let Some(entry) = find_key(&mut table.runs, key) else { return table.adopt_settled(key, copy) };
        let Some(older) = entry.delivery.take() else { return Adoption::AlreadySettled(copy) };
        entry.delivery = Some(copy);
        table.renewed += usize::from(!entry.age.is_renewed());
        entry.age.restart(true);
        if older.is_current() {
            older.ack();
        }
        Adoption::Adopted
    }

    /// The runs whose delivery is to be renewed at `now`, where the broker wants deliveries of a queue settled `within`
    /// some time. A run that has lost its delivery has none to renew.
    pub(crate) fn due_for_renewal(&self, now: Instant, mut within: impl FnMut(&str) -> Duration) -> Vec<Arc<Run>> {
        let table = &mut *lock(&self.table);
        let mut due = Vec::new();
        for entry in table.runs.values_mut().flat_map(EntriesOfTask::iter_mut) {
            if !entry.delivery.as_ref().is_some_and(Acker::is_current) {
                continue;
            }
            let was_renewed = entry.age.is_renewed();
            if entry.age.is_due(now, within(&entry.run.queue)) {
                table.renewed += usize::from(!was_renewed);
                due.push(Arc::clone(&entry.run));
            }
        }
        due
    }

    /// The number of runs whose delivery is a copy, or will soon be.
    pub(crate) fn renewed(&self) -> usize {
        lock(&self.table).renewed
    }

    /// Acknowledges the delivery of a run that is about to begin, for tasks with `ack = "early"`.
    pub(crate) fn acknowledge_early(&self, run: &Run) {
        if let Some(delivery) = lock(&self.table).find(run).and_then(|entry| entry.delivery.take()) {
            delivery.ack();
        }
    }

    /// Acknowledges the deliveries of runs that are over, under one lock. A run whose acknowledgement may not arrive is
    /// remembered, so that its message needs no run when it comes again.
    pub(crate) fn acknowledge_all<'a>(&self, runs: impl IntoIterator<Item = &'a Run>) {
        let mut table = lock(&self.table);
        for run in runs {
            if let Some(entry) = table.remove(run) {
                table.acknowledge(entry);
            }
        }
        self.tell_if_empty(&table);
    }

    /// Acknowledges a run that is over, if it holds its delivery and has no claim. Returns `false` if it has to go
    /// through the settler.
    pub(crate) fn acknowledge_if_simple(&self, run: &Run) -> bool {
        let mut table = lock(&self.table);
        let is_simple = |entry: &mut Entry| entry.claim().is_none() && entry.holds_delivery();
        if !table.find(run).is_some_and(is_simple) {
            return false;
        }
        if let Some(entry) = table.remove(run) {
            table.acknowledge(entry);
        }
        self.tell_if_empty(&table);
        true
    }

    /// Drops a run that is over and of whose task another run counts. A copy that comes is not taken for settled: the
    /// worker of the other run may die.
    pub(crate) fn dismiss(&self, run: &Run) {
        let mut table = lock(&self.table);
        if let Some(delivery) = table.remove(run).and_then(|entry| entry.delivery) {
            delivery.ack();
        }
        self.tell_if_empty(&table);
    }

    /// Gives the delivery of a run back to the broker, without a settlement.
    pub(crate) fn give_back(&self, run: &Run) {
        let mut table = lock(&self.table);
        if let Some(entry) = table.remove(run)
            && let Some(delivery) = entry.delivery
        {
            table.returned_to_origin |= entry.age.is_renewed();
            delivery.requeue();
        }
        self.tell_if_empty(&table);
    }

    /// Notes that a copy may be on its way from a renewal queue to its queue of origin.
    pub(crate) fn note_returned_to_origin(&self) {
        lock(&self.table).returned_to_origin = true;
    }

    /// Whether a copy may be on its way from a renewal queue to its queue of origin.
    pub(crate) fn has_returned_to_origin(&self) -> bool {
        lock(&self.table).returned_to_origin
    }

    /// Puts a run under a claim.
    pub(crate) fn set_claim(&self, run: &Run, claim: Claim) {
        if let Some(entry) = lock(&self.table).find(run) {
            entry.claim = ClaimState::Held(claim);
        }
    }

    /// The claim of a run.
    pub(crate) fn claim_of(&self, run: &Run) -> Option<Claim> {
        lock(&self.table).find(run)?.claim().cloned()
    }

    /// Takes the claim away from a run, for giving it up: settling must not take the lease again.
    pub(crate) fn take_claim(&self, run: &Run) -> Option<Claim> {
        match std::mem::take(&mut lock(&self.table).find(run)?.claim) {
            ClaimState::Held(claim) => Some(claim),
            ClaimState::None | ClaimState::Claiming => None,
        }
    }

    /// The claims of all runs, to be renewed.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let table = lock(&self.table);
        table.entries().filter_map(Entry::claim).cloned().collect()
    }

    /// Marks a run as being claimed. Returns `false` if it has a claim, or if one is being made already; otherwise
    /// [`claim_made`](Self::claim_made) has to follow.
    #[must_use]
    pub(crate) fn begin_claim(&self, run: &Run) -> bool {
        let mut table = lock(&self.table);
        let Some(entry) = table.find(run) else { return false };
        let is_free = matches!(entry.claim, ClaimState::None);
        if is_free {
            entry.claim = ClaimState::Claiming;
        }
        is_free
    }

    /// The running runs that have lost their delivery and have no claim. Each is marked as being claimed, so that it
    /// is given out once until [`claim_made`](Self::claim_made).
    pub(crate) fn begin_claims_of_lost(&self) -> Vec<Arc<Run>> {
        let mut table = lock(&self.table);
        let mut lost = Vec::new();
        for entry in table.runs.values_mut().flat_map(EntriesOfTask::iter_mut) {
            if matches!(entry.claim, ClaimState::None) && !entry.holds_delivery() && entry.run.is_running() {
                entry.claim = ClaimState::Claiming;
                lost.push(Arc::clone(&entry.run));
            }
        }
        lost
    }

    /// Ends the marking as being claimed, with the claim if there is one.
    pub(crate) fn claim_made(&self, run: &Run, claim: Option<Claim>) {
        if let Some(entry) = lock(&self.table).find(run)
            && matches!(entry.claim, ClaimState::Claiming)
        {
            entry.claim = claim.map_or(ClaimState::None, ClaimState::Held);
        }
    }

    /// How each of these runs stands, under one lock.
    pub(crate) fn standings<'a>(&self, runs: impl IntoIterator<Item = &'a Run>) -> Vec<Standing> {
        let mut table = lock(&self.table);
        let standing = |run| match table.find(run) {
            Some(entry) => match entry.claim() {
                Some(claim) => Standing::Claimed(claim.clone()),
                None if entry.holds_delivery() => Standing::Holding,
                None => Standing::Lost,
            },
            None => Standing::Lost,
        };
        runs.into_iter().map(standing).collect()
    }

    /// Tells a run to stop, and remembers to look whether it does.
    pub(crate) fn stop(&self, run: &Arc<Run>, why: Stop) {
        if run.stop(why) {
            lock(&self.table).stopping.push(Arc::clone(run));
        }
    }

    /// The runs that were told to stop at least `after` ago and are not concluded or still run. Each is given out once.
    pub(crate) fn overdue(&self, after: Duration) -> Vec<(Arc<Run>, Stop)> {
        let mut overdue = Vec::new();
        let table = &mut *lock(&self.table);
        table.stopping.retain(|run| {
            if run.is_concluded() && !run.is_running() {
                return false;
            }
            let Some((why, _)) = run.stopped_for().filter(|(_, ago)| *ago >= after) else { return true };
            overdue.push((Arc::clone(run), why));
            false
        });
        table.lingering.retain(|run| run.is_running());
        table.lingering.extend(overdue.iter().map(|(run, _)| Arc::clone(run)));
        overdue
    }

    /// The runs of one task that were ended from outside while their bodies go on. Each is given out once.
    pub(crate) fn take_lingering(&self, id: &TaskId) -> Vec<Arc<Run>> {
        let of_task = |run: &mut Arc<Run>| run.key.id == *id;
        let mut lingering: Vec<_> = lock(&self.table).lingering.extract_if(.., of_task).collect();
        lingering.retain(|run| run.is_running());
        lingering
    }

    /// Counts a delivery that is settled without being run.
    pub(crate) fn guard_unrun(self: &Arc<Self>) -> UnrunGuard {
        lock(&self.table).unrun += 1;
        UnrunGuard(Arc::clone(self))
    }

    /// All runs.
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        lock(&self.table).entries().map(|entry| Arc::clone(&entry.run)).collect()
    }

    /// The runs of one task.
    pub(crate) fn runs_of(&self, id: &TaskId) -> Vec<Arc<Run>> {
        let table = lock(&self.table);
        table.runs.get(id).into_iter().flat_map(EntriesOfTask::iter).map(|entry| Arc::clone(&entry.run)).collect()
    }

    /// Whether nothing is in hand: neither a run nor a delivery that is settled without one.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.table).is_empty()
    }

    /// The number of runs.
    pub(crate) fn len(&self) -> usize {
        lock(&self.table).count
    }

    /// Completes when nothing is in hand.
    pub(crate) async fn empty(&self) {
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

    fn tell_if_empty(&self, table: &Table) {
        if table.is_empty() {
            self.emptied.notify_waiters();
        }
    }
}

/// The entry of the run with this key.
fn find_key<'a>(runs: &'a mut HashMap<TaskId, EntriesOfTask>, key: &RunKey) -> Option<&'a mut Entry> {
    runs.get_mut(&key.id)?.iter_mut().find(|entry| entry.run.key == *key)
}

/// Whether this is the entry of this very run. A run that was given back may come again under its key, as another run.
fn is_entry_of(entry: &Entry, run: &Run) -> bool {
    Arc::as_ptr(&entry.run) == std::ptr::from_ref(run)
}

impl Table {
    fn is_empty(&self) -> bool {
        self.count == 0 && self.unrun == 0
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.runs.values().flat_map(EntriesOfTask::iter)
    }

    fn enter(&mut self, entry: Entry) {
        self.count += 1;
        match self.runs.entry(entry.run.key.id.clone()) {
            Place::Vacant(place) => {
                place.insert(EntriesOfTask { first: entry, others: Vec::new() });
            }
            Place::Occupied(place) => place.into_mut().others.push(entry),
        }
    }

    /// The entry of this very run.
    fn find(&mut self, run: &Run) -> Option<&mut Entry> {
        self.runs.get_mut(&run.key.id)?.iter_mut().find(|entry| is_entry_of(entry, run))
    }

    fn remove(&mut self, run: &Run) -> Option<Entry> {
        let Place::Occupied(mut place) = self.runs.entry(run.key.id.clone()) else { return None };
        let entries = place.get_mut();
        let entry = if is_entry_of(&entries.first, run) {
            match entries.others.pop() {
                Some(other) => std::mem::replace(&mut entries.first, other),
                None => place.remove().first,
            }
        } else {
            let at = entries.others.iter().position(|entry| is_entry_of(entry, run))?;
            entries.others.swap_remove(at)
        };
        self.count -= 1;
        self.renewed -= usize::from(entry.age.is_renewed());
        Some(entry)
    }

    /// Settles the delivery of a run that is over and was removed.
    fn acknowledge(&mut self, entry: Entry) {
        let lost = entry.delivery.as_ref().is_some_and(|delivery| !delivery.is_current());
        if lost || entry.age.expects_copy() {
            self.settled.remember(entry.run.key.clone());
        }
        if let Some(delivery) = entry.delivery.filter(|_| !lost) {
            delivery.ack();
        }
    }

    fn adopt_settled(&mut self, key: &RunKey, delivery: Acker) -> Adoption {
        if self.settled.take(key) { Adoption::AlreadySettled(delivery) } else { Adoption::Unknown(delivery) }
    }
}
