//! One consumption: what it took and has not settled, how much more it may take, and what is to be done next.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream};
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::driver::{Outcome, Turn};
use super::lease::Lease;
use super::statements::{self, Taken};
use crate::broker::{Acker, ConsumptionControl, Delivery, Settlement, Settler};
use crate::sqlite::{Database, News, Observer, now_ms};

/// At so many settlements they are written, or when the oldest has waited for [`LINGER`]: what is settled and not yet
/// written is done again if the process dies.
const SETTLED_MAX: usize = 64;
const LINGER: Duration = Duration::from_millis(1);

/// How many messages of one queue are taken in one transaction.
const TAKEN_MAX: usize = 1000;

/// Takes messages from some queues, and settles them.
pub(super) struct Reader {
    pub(super) database: Arc<Database>,
    state: Mutex<State>,
    stream: AtomicWaker,
    /// Tells the driver that there may be something to do.
    pub(super) driver: Notify,
    finished: watch::Sender<bool>,
}

struct State {
    phase: Phase,
    lease: Arc<Lease>,
    /// The lease stands in the file.
    leased: bool,
    prefetch: usize,
    queues: Vec<Queue>,
    /// What was taken under the lease and not settled, with the place of its queue.
    unsettled: HashMap<i64, usize>,
    settled: Settled,
    settled_since: Option<Instant>,
    /// Something in the file is due: delayed messages, or leases that ran out.
    restore: bool,
    /// When that will be, as far as was seen.
    next_restore: i64,
    /// The stop is written down.
    unregistered: bool,
    /// The file did what it was asked the last time.
    works: bool,
    /// The queue to read from next, so that a full one cannot starve the others.
    next: usize,
}

/// What was settled and is yet to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    /// To be forgotten.
    pub(super) done: Vec<i64>,
    /// To be put back.
    pub(super) returned: Vec<i64>,
    /// To be put back as if nobody had had it.
    pub(super) unread: Vec<i64>,
}

struct Queue {
    number: i64,
    name: Arc<str>,
    unread: VecDeque<Taken>,
    /// How many are unread or unsettled.
    out: usize,
    /// Counts the times when something was said to be ready.
    arrivals: u64,
    /// After which of them it was found empty.
    empty_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Taking,
    /// Takes nothing any more.
    Stopped,
    /// Gives everything back; what was taken cannot be settled any more.
    Closed,
}

/// What is to be done next.
pub(super) enum Step {
    /// Nothing, until there is news or this moment has come.
    Wait(Option<Instant>),
    /// Something in the file.
    Turn(Turn),
}

impl Reader {
    pub(super) fn new(database: Arc<Database>, queues: Vec<(i64, Arc<str>)>, prefetch: usize) -> Arc<Self> {
        let queues = queues.into_iter().map(|(number, name)| Queue::new(number, name)).collect();
        Arc::new_cyclic(|reader| Self {
            database,
            state: Mutex::new(State {
                phase: Phase::Taking,
                lease: Arc::new(Lease::new(Weak::clone(reader))),
                leased: false,
                prefetch,
                queues,
                unsettled: HashMap::new(),
                settled: Settled::default(),
                settled_since: None,
                restore: true,
                next_restore: i64::MAX,
                unregistered: false,
                works: true,
                next: 0,
            }),
            stream: AtomicWaker::new(),
            driver: Notify::new(),
            finished: watch::Sender::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        super::lock(&self.state)
    }

    /// What is to be done now. `renew`: the lease has to be renewed.
    pub(super) fn plan(&self, renew: bool) -> Step {
        let mut state = self.lock();
        let takes = state.phase == Phase::Taking;
        let leaves = !takes && !state.unregistered;
        let overdue = state.settled_since.is_some_and(|since| since.elapsed() >= LINGER);
        let pressing = state.settled.len() >= SETTLED_MAX || !state.settled.unread.is_empty();
        let hungry = takes && state.queues.iter().any(|queue| queue.is_hungry(state.prefetch));
        let restores = takes && state.restore;
        if state.phase != Phase::Closed && !(renew || leaves || overdue || pressing || hungry || restores) {
            return Step::Wait(state.settled_since.map(|since| since + LINGER));
        }
        state.settled_since = None;
        let begins = !state.leased;
        let queues = state.queues.iter().map(|queue| queue.number).collect();
        let take = state.queues.iter().enumerate().filter(|_| takes).filter_map(|(at, queue)| {
            let room = queue.room(state.prefetch);
            (queue.is_promising() && room > 0).then_some((at, queue.number, room.min(TAKEN_MAX), queue.arrivals))
        });
        let take = take.collect();
        Step::Turn(Turn {
            lease: state.lease.number,
            begins,
            restore: std::mem::take(&mut state.restore) && takes,
            registered: queues,
            settled: std::mem::take(&mut state.settled),
            leaves,
            ends: state.phase == Phase::Closed,
            take,
        })
    }

    /// Takes note of what a turn came to.
    pub(super) fn carried_out(self: &Arc<Self>, turn: &Turn, outcome: Outcome) {
        let mut state = self.lock();
        state.works = true;
        let Outcome::Done { until, taken } = outcome else {
            tracing::warn!("the lease ran out before it could be renewed; its messages went to others");
            return state.begin_anew(Lease::new(Arc::downgrade(self)));
        };
        state.lease.renewed(until);
        state.leased = true;
        state.unregistered |= turn.leaves;
        for (&(at, _, wanted, arrivals), taken) in turn.take.iter().zip(taken) {
            let takes = state.phase == Phase::Taking;
            let State { queues, unsettled, settled, .. } = &mut *state;
            let queue = &mut queues[at];
            // A turn may also end early because the bodies are large, and then it says nothing about the queue.
            if taken.is_empty() || (taken.len() < wanted && !statements::are_large(&taken)) {
                queue.empty_after = arrivals;
            }
            for message in taken {
                if takes {
                    unsettled.insert(message.id, at);
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

    /// Takes back what a turn was to do, since it could not.
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

    /// The next message that was taken.
    pub(super) fn next(&self) -> Option<Delivery> {
        let (queue, taken, lease) = {
            let mut state = self.lock();
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
        let Taken { id, returns, message } = taken;
        Some(Delivery {
            queue,
            message: message.read(),
            redelivered: returns > 0,
            delivery_count: Some(returns),
            acker: Acker::new(lease as Arc<dyn Settler>, id.cast_unsigned()),
        })
    }

    /// Takes note of a settlement of what was taken under `lease`.
    pub(super) fn settle(&self, lease: i64, id: i64, settlement: Settlement) {
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
        // In between the driver has an alarm set.
        if count == 1 || count == SETTLED_MAX || hungry {
            self.driver.notify_one();
        }
    }

    fn set_prefetch(&self, prefetch: usize) {
        self.lock().prefetch = prefetch;
        self.driver.notify_one();
    }

    /// Takes nothing any more, and gives back what nobody has read.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Taking {
            state.phase = Phase::Stopped;
            let State { queues, unsettled, settled, .. } = &mut *state;
            for queue in queues {
                for message in queue.unread.drain(..) {
                    queue.out -= 1;
                    unsettled.remove(&message.id);
                    settled.unread.push(message.id);
                }
            }
        }
        drop(state);
        self.stream.wake();
        self.driver.notify_one();
    }

    /// Gives everything back that was not settled.
    pub(super) fn close(&self) {
        self.stop();
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.unsettled.clear();
        drop(state);
        self.driver.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Closed
    }

    pub(super) fn finish(&self) {
        self.finished.send_replace(true);
    }

    /// Waits until everything is given back.
    pub(super) async fn finished(&self) {
        // Fails only if the sender is gone, and that is in `self`.
        drop(self.finished.subscribe().wait_for(|finished| *finished).await);
    }
}

impl State {
    /// Begins with another lease: what was taken under the old one is others' by now.
    fn begin_anew(&mut self, lease: Lease) {
        self.lease.lose();
        self.lease = Arc::new(lease);
        self.leased = false;
        self.unsettled.clear();
        self.settled = Settled::default();
        self.settled_since = None;
        for queue in &mut self.queues {
            queue.unread.clear();
            queue.out = 0;
            queue.arrivals += 1;
        }
    }
}

impl Queue {
    fn new(number: i64, name: Arc<str>) -> Self {
        // Whether anything is in it is not known yet.
        Self { number, name, unread: VecDeque::new(), out: 0, arrivals: 1, empty_after: 0 }
    }

    /// Whether something may be ready.
    fn is_promising(&self) -> bool {
        self.arrivals != self.empty_after
    }

    /// How many more may be taken. As in AMQP, a prefetch of zero is no bound.
    fn room(&self, prefetch: usize) -> usize {
        if prefetch == 0 { TAKEN_MAX } else { prefetch.saturating_sub(self.out) }
    }

    /// Whether somebody may wait for a message that is there. While something is unread, taking more can wait for
    /// the next settlements.
    fn is_hungry(&self, prefetch: usize) -> bool {
        self.is_promising() && self.unread.is_empty() && self.room(prefetch) > 0
    }
}

impl Settled {
    fn len(&self) -> usize {
        self.done.len() + self.returned.len() + self.unread.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn append(&mut self, later: &mut Self) {
        self.done.append(&mut later.done);
        self.returned.append(&mut later.returned);
        self.unread.append(&mut later.unread);
    }
}

impl Observer for Reader {
    fn committed(&self, news: &News) {
        let mut state = self.lock();
        let prefetch = state.prefetch;
        let mut hungry = false;
        for queue in state.queues.iter_mut().filter(|queue| news.queues.contains(&queue.number)) {
            queue.arrivals += 1;
            hungry |= queue.is_hungry(prefetch);
        }
        drop(state);
        if hungry {
            self.driver.notify_one();
        }
    }

    fn is_interested(&self) -> bool {
        self.lock().phase == Phase::Taking
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
            // Seen again with the change that the restoring makes.
            state.next_restore = i64::MAX;
            state.restore = true;
            self.driver.notify_one();
        }
        Ok(())
    }
}

/// Keeps a reader open: once the stream and the control are both gone, what was not settled goes back. Ackers do not
/// keep it open.
pub(super) struct Hold(pub(super) Arc<Reader>);

impl ConsumptionControl for Hold {
    fn set_prefetch(&self, prefetch: u16) {
        self.0.set_prefetch(prefetch.into());
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn is_live(&self) -> bool {
        let state = self.0.lock();
        state.phase == Phase::Taking && state.works
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close();
        self.0.finished().boxed()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The messages of a reader.
pub(super) struct Deliveries(pub(super) Arc<Hold>);

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let reader = &self.0.0;
        if let Some(delivery) = reader.next() {
            return Poll::Ready(Some(delivery));
        }
        // Registered first and looked at again, so that a message which came in between is not slept through.
        reader.stream.register(context.waker());
        match reader.next() {
            Some(delivery) => Poll::Ready(Some(delivery)),
            None if reader.is_interested() => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}
