//! The settler: takes ends in batches, so that records go out in one pipeline.
//!
//! One pipeline is under way at a time, which keeps what is written about a task in order. While the result backend
//! is away a batch waits; the channel behind it is bounded, attempts wait to hand over, and so the worker stops
//! taking new work instead of dropping results.

use std::sync::Arc;

use futures_util::future::join_all;
use taskq::Client;
use taskq::backend::{SharedResults, Written};
use taskq::message::Record;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::claims::{Claimed, Claims};
use super::super::crash;
use super::super::custody::{InFlight, Standing};
use super::super::observe::{Moment, Observers};
use super::end::{End, Ends, Settles};
use super::retrying::{RETRY_MAX, RETRY_MIN, unless_unusable, until_done};

/// The number of ends that may wait for the settler. With [`BATCH_MAX`] and the broker's batch of acknowledgements this
/// bounds how many attempts may be repeated when a worker dies.
pub(crate) const WAITING_MAX: usize = 64;

/// The number of ends that are written in one pipeline.
const BATCH_MAX: usize = 128;

/// A request to the settler.
pub(crate) enum SettleRequest {
    /// The record of a run that goes on: `STARTED` or `PROGRESS`. May be dropped.
    Note(Box<Record>),
    /// The end of a delivery. Never dropped.
    End(Box<End>),
}

/// Settles the ends of one worker.
pub(crate) struct Settler {
    pub(crate) client: Client,
    pub(crate) results: Option<SharedResults>,
    pub(crate) claims: Option<Claims>,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) ends: Ends,
    pub(crate) observers: Observers,
}

/// The way to the settler. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct SettlerHandle {
    requests: mpsc::Sender<SettleRequest>,
    settler: Arc<Settler>,
}

impl SettlerHandle {
    /// The way to the settler whose requests come through `requests`.
    pub(crate) fn new(requests: mpsc::Sender<SettleRequest>, settler: Arc<Settler>) -> Self {
        Self { requests, settler }
    }

    /// Hands an end to the settler, and waits while it is full. A delivery that was not run and needs no record
    /// passes it by: while the result backend is away, it would grow old behind those that wait for it.
    pub(crate) async fn settle(&self, end: End) {
        if end.records.is_empty() && matches!(end.settles, Settles::Delivery(..)) {
            return Arc::clone(&self.settler).follow_up(end, None).await;
        }
        if self.requests.send(SettleRequest::End(Box::new(end))).await.is_err() {
            // The worker is gone; the delivery was not acknowledged and comes back.
            tracing::debug!("an attempt ended after its worker had closed");
        }
    }

    /// Hands the record of a run that goes on to the settler, so that it cannot overtake the end. If the settler is
    /// busy with ends, the record is dropped.
    pub(crate) fn note(&self, record: Record) {
        if self.requests.try_send(SettleRequest::Note(Box::new(record))).is_err() {
            self.settler.observers.observe(&Moment::ProgressDropped { count: 1 });
        }
    }
}

impl Settler {
    /// Settles until it is aborted, and everything that it has under way with it.
    pub(crate) async fn run(self: Arc<Self>, mut requests: mpsc::Receiver<SettleRequest>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // Confirms are waited for side by side; how many is bounded by the prefetch, since none is acknowledged.
        let mut follow_ups = JoinSet::new();
        while requests.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.settle_batch(batch.drain(..), &mut follow_ups).await;
            while follow_ups.try_join_next().is_some() {}
        }
    }

    async fn settle_batch(self: &Arc<Self>, batch: impl Iterator<Item = SettleRequest>, follow_ups: &mut JoinSet<()>) {
        let (mut notes, mut ends) = (Vec::new(), Vec::new());
        for request in batch {
            match request {
                SettleRequest::Note(record) => notes.push(*record),
                SettleRequest::End(end) => ends.push(*end),
            }
        }
        crash::point("settle.begun");
        let mut ends = self.without_losers(ends).await;
        let mut written = self.write(notes, ends.iter().map(|(end, _)| end)).await;
        self.replace_refused(&mut ends, &mut written).await;
        crash::point("settle.recorded");
        let mut done = Vec::new();
        for ((end, is_claimed), written) in ends.into_iter().zip(written) {
            let concedes = written == Some(Written::Kept) && end.concession.is_some();
            if end.follows.is_empty() && !is_claimed && !concedes {
                done.push(end.settles);
            } else {
                follow_ups.spawn(Arc::clone(self).follow_up(end, written));
            }
        }
        self.acknowledge(done);
    }

    /// Leaves out runs that lost their claim, or their delivery to another worker that has claimed the task since: that
    /// worker's run counts. Says of the others whether they are under a claim.
    async fn without_losers(&self, ends: Vec<End>) -> Vec<(End, bool)> {
        let runs = ends.iter().filter_map(|end| match &end.settles {
            Settles::Run(run) => Some(&**run),
            Settles::Delivery(..) => None,
        });
        let mut standings = self.in_flight.standings(runs).into_iter();
        let checks = ends.into_iter().map(|end| {
            let standing = match &end.settles {
                Settles::Run(_) => standings.next().expect("every run has a standing"),
                Settles::Delivery(..) => Standing::Holding,
            };
            self.check(end, standing)
        });
        join_all(checks).await.into_iter().flatten().collect()
    }

    /// The end, and whether it is under a claim; `None` if another worker's run counts.
    async fn check(&self, end: End, standing: Standing) -> Option<(End, bool)> {
        let Settles::Run(run) = &end.settles else { return Some((end, false)) };
        let Some(claims) = &self.claims else { return Some((end, false)) };
        let (counts, is_claimed) = match standing {
            Standing::Holding => (true, false),
            Standing::Claimed(claim) => {
                let renewed = until_done(&self.observers, "renewing a claim", || claims.renew(&claim)).await;
                let is_ours = match renewed {
                    // A lease that ran out, or that the store lost, and that nobody took is taken again.
                    Ok(false) => {
                        until_done(&self.observers, "taking a claim again", || claims.take_again(&claim)).await
                    }
                    other => other,
                };
                (unless_unusable(&self.observers, &run.key.id, is_ours).unwrap_or(true), true)
            }
            Standing::Lost => {
                let make = || claims.make(&run.envelope, run.nonce);
                let made = until_done(&self.observers, "claiming a task whose delivery was lost", make).await;
                // A claim that cannot be read is nobody's: this run counts.
                match unless_unusable(&self.observers, &run.key.id, made) {
                    None => (true, false),
                    Some(Claimed::Ours(claim)) => {
                        self.in_flight.set_claim(run, claim);
                        (true, true)
                    }
                    Some(Claimed::Finished(_) | Claimed::Overtaken | Claimed::Elsewhere) => (false, false),
                }
            }
        };
        if counts {
            return Some((end, is_claimed));
        }
        self.observers.observe(&Moment::TakenOver { subject: run.subject() });
        self.in_flight.dismiss(run);
        None
    }

    /// Replaces the ends whose records the result backend does not take, and writes the records of those that replace
    /// them.
    async fn replace_refused(&self, ends: &mut [(End, bool)], written: &mut [Option<Written>]) {
        let mut replaced = Vec::new();
        for (at, ((end, _), written)) in ends.iter_mut().zip(written.iter_mut()).enumerate() {
            let Some(Written::Refused { why }) = written else { continue };
            if let Some(record) = end.records.last() {
                self.observers.observe(&Moment::RecordRefused { id: &record.id, why });
            }
            if self.ends.replace_refused(end, why) {
                replaced.push(at);
            }
            *written = None;
        }
        if replaced.is_empty() {
            return;
        }
        let instead = self.write(Vec::new(), replaced.iter().map(|&at| &ends[at].0)).await;
        for (&at, instead) in replaced.iter().zip(instead) {
            match instead {
                // Nothing at all can be stored about this task; the dead set says why.
                Some(Written::Refused { why }) => {
                    let (end, _) = &mut ends[at];
                    if let Some(record) = end.records.pop() {
                        self.observers.observe(&Moment::RecordRefused { id: &record.id, why: &why });
                    }
                }
                other => written[at] = other,
            }
        }
    }

    /// Writes the records of a batch, however long that takes, and says for each end what became of its last record.
    async fn write<'a>(
        &self,
        notes: Vec<Record>,
        ends: impl ExactSizeIterator<Item = &'a End>,
    ) -> Vec<Option<Written>> {
        self.write_records(notes, ends.map(|end| end.records.as_slice())).await
    }

    /// Writes one record, however long that takes. If it is refused, observers are told.
    pub(super) async fn write_one(&self, record: Option<Record>) {
        let Some(record) = record else { return };
        let written = self.write_records(Vec::new(), std::iter::once(std::slice::from_ref(&record))).await;
        if let Some(Some(Written::Refused { why })) = written.first() {
            self.observers.observe(&Moment::RecordRefused { id: &record.id, why });
        }
    }

    async fn write_records<'a>(
        &self,
        notes: Vec<Record>,
        ends: impl ExactSizeIterator<Item = &'a [Record]>,
    ) -> Vec<Option<Written>> {
        let count = ends.len();
        let Some(results) = &self.results else { return vec![None; count] };
        let mut records = notes;
        let mut droppable = records.len();
        let mut last_of_end = Vec::with_capacity(count);
        for end in ends {
            records.extend_from_slice(end);
            last_of_end.push((!end.is_empty()).then(|| records.len() - 1));
        }
        if records.is_empty() {
            return vec![None; count];
        }
        let mut delay = RETRY_MIN;
        let mut written = loop {
            match results.write(&records).await {
                Ok(written) => break written,
                Err(error) => {
                    if droppable > 0 {
                        // The records of runs that go on are not worth waiting for.
                        self.observers.observe(&Moment::ProgressDropped { count: droppable as u64 });
                        records.drain(..droppable);
                        for index in last_of_end.iter_mut().flatten() {
                            *index -= droppable;
                        }
                        droppable = 0;
                        if records.is_empty() {
                            return vec![None; count];
                        }
                    }
                    self.observers.observe(&Moment::RecordsWait { count: records.len(), error: &error });
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_MAX);
                }
            }
        };
        self.observers.observe(&Moment::RecordsWritten);
        let refused = written[..droppable].iter().filter(|written| matches!(written, Written::Refused { .. })).count();
        if refused > 0 {
            self.observers.observe(&Moment::ProgressDropped { count: refused as u64 });
        }
        let mut outcome = |index: usize| std::mem::replace(&mut written[index], Written::Kept);
        last_of_end.into_iter().map(|index| index.map(&mut outcome)).collect()
    }

    /// Acknowledges, under one lock.
    pub(super) fn acknowledge(&self, done: Vec<Settles>) {
        let count = done.len();
        let mut runs = Vec::with_capacity(count);
        for settles in done {
            match settles {
                Settles::Run(run) => runs.push(run),
                Settles::Delivery(acker, _guard) => acker.ack(),
            }
        }
        self.in_flight.acknowledge_all(runs.iter().map(|run| &**run));
        for _ in 0..count {
            crash::point("settle.acknowledged");
        }
    }
}
