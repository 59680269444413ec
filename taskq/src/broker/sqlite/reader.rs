//! One consumption: its unsettled messages, its room for more, and its next turn.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::consumed_queue::{ConsumedQueue, TAKEN_MAX};
use super::lease::{Lease, SettleInbox};
use super::reader_state::{Phase, ReaderState};
use super::statements::{self, TakenMessage};
use super::turn::{Turn, TurnOutcome, Want};
use crate::broker::reading::PullReader;
use crate::broker::{Acker, Delivery, Settlement, Settler};
use crate::sqlite::{Committed, Database, Observer, lock, now_ms, presence};

/// The number of settlements at which they are written, unless the oldest has waited for [`LINGER`] before. Tasks
/// whose settlement is not yet written run again if the process dies.
const SETTLED_MAX: usize = 64;
const LINGER: Duration = Duration::from_millis(1);

/// Takes messages from some queues, and settles them.
pub(super) struct SqliteReader {
    pub(super) database: Arc<Database>,
    state: Mutex<ReaderState>,
    stream: AtomicWaker,
    /// Notifies the driver that there may be something to do.
    pub(super) driver: Notify,
    finished: watch::Sender<bool>,
}

/// The next step of a reader's driver.
pub(super) enum Step {
    /// Wait until something changes or this moment comes.
    Wait(Option<Instant>),
    /// Carry out a turn in the file.
    Turn(Turn),
}

impl SqliteReader {
    pub(super) fn new(database: Arc<Database>, queues: Vec<(i64, Arc<str>)>, prefetch: usize) -> Arc<Self> {
        let queues = queues.into_iter().map(|(number, name)| ConsumedQueue::new(number, name)).collect();
        Arc::new_cyclic(|reader| Self {
            database,
            state: Mutex::new(ReaderState::new(Lease::new(Weak::<Self>::clone(reader)), queues, prefetch)),
            stream: AtomicWaker::new(),
            driver: Notify::new(),
            finished: watch::Sender::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReaderState> {
        lock(&self.state)
    }

    /// Decides the next step. `renew`: the lease has to be renewed.
    pub(super) fn plan(&self, renew: bool) -> Step {
        let mut state = self.lock();
        let takes = state.phase == Phase::Taking;
        let leaves = !takes && !state.unregistered;
        let overdue = state.settled_since.is_some_and(|since| since.elapsed() >= LINGER);
        let pressing = state.settled.len() >= SETTLED_MAX || !state.settled.unread.is_empty();
        let hungry = state.takes() && state.queues.iter().any(|queue| queue.is_hungry(state.prefetch));
        let restores = takes && (state.restore || !state.dead.is_empty());
        if state.phase != Phase::Closed && !(renew || leaves || overdue || pressing || hungry || restores) {
            return Step::Wait(state.settled_since.map(|since| since + LINGER));
        }
        state.settled_since = None;
        let begins = !state.leased;
        let queues = state.queues.iter().map(|queue| queue.number).collect();
        let take = state.queues.iter().enumerate().filter(|_| state.takes()).filter_map(|(at, queue)| {
            let room = queue.room(state.prefetch);
            (queue.is_promising() && room > 0).then(|| Want {
                at,
                queue: queue.number,
                limit: room.min(TAKEN_MAX),
                arrivals: queue.arrivals,
            })
        });
        let take = take.collect();
        Step::Turn(Turn {
            lease: Arc::clone(&state.lease),
            begins,
            restore: std::mem::take(&mut state.restore) && takes,
            dead: if takes { std::mem::take(&mut state.dead) } else { Vec::new() },
            registered: queues,
            settled: std::mem::take(&mut state.settled),
            leaves,
            ends: state.phase == Phase::Closed,
            take,
        })
    }

    /// Applies the outcome of a turn.
    pub(super) fn carried_out(self: &Arc<Self>, turn: &Turn, outcome: TurnOutcome) {
        let mut state = self.lock();
        state.works = true;
        let TurnOutcome::Done { until, taken } = outcome else {
            tracing::warn!("the lease ran out before it could be renewed; its messages went to others");
            return state.begin_anew(Lease::new(Arc::<Self>::downgrade(self)));
        };
        state.lease.renewed(until);
        state.leased = true;
        state.unregistered |= turn.leaves;
        for (want, taken) in turn.take.iter().zip(taken) {
            let takes = state.takes();
            let ReaderState { queues, unsettled, settled, .. } = &mut *state;
            let queue = &mut queues[want.at];
            // A turn may also end early because the bodies are large; then nothing is known about the rest of the
            // queue.
            if taken.is_empty() || (taken.len() < want.limit && !statements::are_large(&taken)) {
                queue.empty_after = want.arrivals;
            }
            for message in taken {
                if takes {
                    unsettled.insert(message.id, want.at);
                    queue.out += 1;
                    queue.unread.push_back(message);
                } else {
                    settled.unread.push(message.id);
                }
            }
        }
        drop(state);
        self.stream.wake();
    }

    /// Takes back the work of a turn that failed.
    pub(super) fn failed(&self, turn: &Turn) {
        let mut state = self.lock();
        state.works = false;
        state.restore |= turn.restore;
        let mut settled = turn.settled.clone();
        settled.append(&mut state.settled);
        state.settled = settled;
        if !state.settled.is_empty() {
            state.settled_since = Some(Instant::now());
        }
    }

    pub(super) fn finish(&self) {
        self.lock().lease.release();
        self.finished.send_replace(true);
    }
}

impl SettleInbox for SqliteReader {
    fn settle(&self, lease: i64, id: i64, settlement: Settlement) {
        let mut state = self.lock();
        if state.phase == Phase::Closed || state.lease.number != lease {
            return;
        }
        let Some(at) = state.unsettled.remove(&id) else { return };
        match settlement {
            Settlement::Ack => state.settled.done.push(id),
            Settlement::Requeue => state.settled.returned.push(id),
        }
        let count = state.settled.len();
        state.settled_since.get_or_insert_with(Instant::now);
        let prefetch = state.prefetch;
        let queue = &mut state.queues[at];
        queue.out -= 1;
        let hungry = queue.is_hungry(prefetch);
        drop(state);
        // For the settlements in between, the driver has a timer running.
        if count == 1 || count == SETTLED_MAX || hungry {
            self.driver.notify_one();
        }
    }

    fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Closed
    }
}

impl PullReader for SqliteReader {
    fn next(self: &Arc<Self>) -> Option<Delivery> {
        let (queue, taken, lease) = {
            let mut state = self.lock();
            if std::mem::take(&mut state.suspended) {
                self.driver.notify_one();
            }
            let count = state.queues.len();
            let first = state.next;
            let at =
                (0..count).map(|offset| (first + offset) % count).find(|&at| !state.queues[at].unread.is_empty())?;
            state.next = at + 1;
            let (prefetch, lease) = (state.prefetch, Arc::clone(&state.lease));
            let queue = &mut state.queues[at];
            let taken = queue.unread.pop_front()?;
            if queue.is_hungry(prefetch) {
                self.driver.notify_one();
            }
            (Arc::clone(&queue.name), taken, lease)
        };
        let TakenMessage { id, returns, message } = taken;
        Some(Delivery {
            queue,
            message: message.read(),
            redelivered: returns > 0,
            delivery_count: Some(returns),
            acker: Acker::new(lease as Arc<dyn Settler>, id.cast_unsigned()),
        })
    }

    fn takes(&self) -> bool {
        self.lock().phase == Phase::Taking
    }

    fn waker(&self) -> &AtomicWaker {
        &self.stream
    }

    fn set_prefetch(&self, prefetch: usize) {
        self.lock().prefetch = prefetch;
        self.driver.notify_one();
    }

    fn give_back_unread(&self) {
        let mut state = self.lock();
        if state.phase != Phase::Taking || state.queues.iter().all(|queue| queue.unread.is_empty()) {
            return;
        }
        state.suspended = true;
        state.give_back_unread();
        drop(state);
        self.driver.notify_one();
    }

    fn stop(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Taking {
            state.phase = Phase::Stopped;
            state.give_back_unread();
        }
        drop(state);
        self.stream.wake();
        self.driver.notify_one();
    }

    /// Whether the last access to the file succeeded.
    fn is_live(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Taking && state.works
    }

    fn close(&self) {
        self.stop();
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.unsettled.clear();
        drop(state);
        self.driver.notify_one();
    }

    fn finished(&self) -> BoxFuture<'_, ()> {
        let mut finished = self.finished.subscribe();
        // Waiting fails only if the sender is gone, and `self` owns it.
        async move { drop(finished.wait_for(|finished| *finished).await) }.boxed()
    }
}

impl Observer for SqliteReader {
    fn committed(&self, committed: &Committed) {
        let mut state = self.lock();
        let prefetch = state.prefetch;
        let mut hungry = false;
        for queue in state.queues.iter_mut().filter(|queue| committed.queues.contains(&queue.number)) {
            queue.arrivals += 1;
            hungry |= queue.is_hungry(prefetch);
        }
        drop(state);
        if hungry {
            self.driver.notify_one();
        }
    }

    fn is_interested(&self) -> bool {
        self.takes()
    }

    fn look(&self, connection: &Connection, changed: bool) -> rusqlite::Result<()> {
        if changed {
            let unpromising: Vec<(usize, i64)> = {
                let state = self.lock();
                let queues = state.queues.iter().enumerate().filter(|(_, queue)| !queue.is_promising());
                queues.map(|(at, queue)| (at, queue.number)).collect()
            };
            for (at, number) in unpromising {
                if statements::has_ready(connection, number)? {
                    self.lock().queues[at].arrivals += 1;
                    self.driver.notify_one();
                }
            }
            let next_restore = statements::next_restore(connection)?;
            self.lock().next_restore = next_restore;
        }
        let mut state = self.lock();
        if state.next_restore <= now_ms() {
            // The restoring changes the file, so the next time is then read again.
            state.next_restore = i64::MAX;
            state.restore = true;
            self.driver.notify_one();
        }
        Ok(())
    }

    fn slow_poll(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (own, swept) = {
            let mut state = self.lock();
            (state.lease.number, std::mem::replace(&mut state.swept, true))
        };
        let file = self.database.path();
        let others = statements::leases(connection)?.into_iter().filter(|lease| *lease != own);
        let mut dead: Vec<i64> = others.filter(|lease| presence::is_dead(file, *lease)).collect();
        if !swept {
            dead.extend(presence::abandoned(file));
        }
        if !dead.is_empty() {
            self.lock().dead = dead;
            self.driver.notify_one();
        }
        Ok(())
    }

    fn poll_failed(&self) {
        // Whether messages are ready is found out by trying to take them.
        self.lock().queues.iter_mut().for_each(|queue| queue.arrivals += 1);
        self.driver.notify_one();
    }

    fn file_gone(&self) {
        // The driver notices the fault by itself, and logs it.
        self.lock().restore = true;
        self.driver.notify_one();
    }
}
