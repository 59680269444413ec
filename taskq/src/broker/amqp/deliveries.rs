//! The stream of a consumption, which reads lapin's consumers on the reader's own thread.
//!
//! There is no queue and no task between lapin and the reader; such a hop would cost more than all the rest. So the
//! AMQP consumers lie under a lock, which the reader takes for each message and the consumer task takes to replace
//! them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command::Command;
use super::convert;
use super::settle::ChannelSettler;
use super::staleness::BufferAge;
use crate::broker::{Acker, Delivery, Settlement, Settler};

/// The number of taken messages of a consumer of which the settled ones are looked for, at least.
const TAKEN_LOOK_MIN: usize = 64;

/// The maximum number of consecutive messages from one queue while other queues may have some.
const RUN_MAX: u32 = 16;

/// The state that the reader and the consumer task of a consumption share.
pub(super) struct Sources {
    state: Mutex<SourcesState>,
    waker: AtomicWaker,
    phase: AtomicU8,
    /// All queues are being consumed from.
    pub(super) complete: AtomicBool,
}

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const ENDED: u8 = 2;

#[derive(Default)]
struct SourcesState {
    slots: Vec<Slot>,
    next: usize,
    run: u32,
    /// The reader is idle and waits for messages.
    waits: bool,
    /// The error with which the broker ended a consumer.
    fault: Option<lapin::Error>,
}

/// The AMQP consumers of one queue.
struct Slot {
    queue: Arc<str>,
    /// Cancelled consumers with unread messages, which are older than those of the current one.
    draining: VecDeque<Source>,
    current: Option<Source>,
    /// The consumer that the broker has ended.
    ended: Option<Source>,
    /// The queue has no consumer until the reader polls for messages.
    is_suspended: bool,
    /// The window of the next consumer is limited to the room that is left.
    is_capped: bool,
}

struct Source {
    consumer: lapin::Consumer,
    settler: Arc<ChannelSettler>,
    /// The maximum number of buffered messages; 0 is no limit.
    window: u16,
    buffer_age: BufferAge,
    taken: Taken,
    /// An item that was taken from lapin's consumer to see whether it has one.
    peeked: Option<Given>,
}

/// The deliveries of one consumer that were taken and may be unsettled.
struct Taken {
    tags: Vec<u64>,
    /// The number of tags at which the settled ones are removed.
    look_at: usize,
}

impl Taken {
    fn none() -> Self {
        Self { tags: Vec::new(), look_at: TAKEN_LOOK_MIN }
    }

    fn add(&mut self, tag: u64, settler: &ChannelSettler) {
        self.tags.push(tag);
        if self.tags.len() >= self.look_at {
            settler.retain_unsettled(&mut self.tags);
            self.look_at = (2 * self.tags.len()).max(TAKEN_LOOK_MIN);
        }
    }
}

/// A consumer that the broker has ended.
pub(super) struct EndedConsumer {
    pub(super) queue: Arc<str>,
    pub(super) tag: ShortString,
    /// The deliveries that it holds, which are not settled.
    pub(super) held: Vec<u64>,
}

/// An item of lapin's consumer: a message, an error, or the end.
type Given = Option<Result<lapin::message::Delivery, lapin::Error>>;

impl Sources {
    /// Makes the sources of these queues, without consumers at first.
    pub(super) fn new(queues: &[Arc<str>]) -> Arc<Self> {
        let slot = |queue: &Arc<str>| Slot {
            queue: Arc::clone(queue),
            draining: VecDeque::new(),
            current: None,
            ended: None,
            is_suspended: false,
            is_capped: false,
        };
        Arc::new(Self {
            state: Mutex::new(SourcesState { slots: queues.iter().map(slot).collect(), ..SourcesState::default() }),
            waker: AtomicWaker::new(),
            phase: AtomicU8::new(RUNNING),
            complete: AtomicBool::new(false),
        })
    }

    /// The queues that have no consumer and should have one.
    pub(super) fn vacant(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        let vacant = state.slots.iter().filter(|slot| slot.current.is_none() && !slot.is_suspended);
        vacant.map(|slot| Arc::clone(&slot.queue)).collect()
    }

    /// Whether the window of this queue's next consumer is limited to the room that the unsettled messages leave: the
    /// reader was away for long, and most likely runs long tasks.
    pub(super) fn is_capped(&self, queue: &str) -> bool {
        self.lock().slots.iter().any(|slot| &*slot.queue == queue && slot.is_capped)
    }

    /// The tags of the current consumers, by queue.
    pub(super) fn tags(&self) -> Vec<(Arc<str>, ShortString)> {
        let state = self.lock();
        let tag = |slot: &Slot| slot.current.as_ref().map(|source| (Arc::clone(&slot.queue), source.consumer.tag()));
        state.slots.iter().filter_map(tag).collect()
    }

    /// Adds a new consumer, which buffers up to `window` messages.
    pub(super) fn install(&self, queue: &str, consumer: lapin::Consumer, settler: Arc<ChannelSettler>, window: u16) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.iter_mut().find(|slot| &*slot.queue == queue) {
            let buffer_age = BufferAge::new(window, Instant::now());
            slot.current = Some(Source { consumer, settler, window, buffer_age, taken: Taken::none(), peeked: None });
            (slot.ended, slot.is_capped) = (None, false);
        }
        let complete = state.slots.iter().all(|slot| slot.current.is_some() || slot.is_suspended);
        self.complete.store(complete, Ordering::Release);
        drop(state);
        self.waker.wake();
    }

    /// Notes that the consumer of `queue` was cancelled. Its messages are still to be read.
    pub(super) fn retire(&self, queue: &str) {
        self.change(queue, Slot::retire);
    }

    /// Like [`retire`](Self::retire), and the next consumer may have a larger window.
    pub(super) fn restore_window(&self, queue: &str) {
        self.change(queue, |slot| {
            slot.retire();
            slot.is_capped = true;
        });
    }

    /// Notes that the consumer of `queue` is about to be cancelled, so that its end is expected. Its messages are
    /// still to be read, and no other consumer is wanted before the reader polls for more.
    pub(super) fn suspend_fetching(&self, queue: &str) {
        self.change(queue, |slot| {
            slot.retire();
            slot.is_suspended = true;
        });
    }

    /// Gives back the messages of `queue`'s cancelled consumers, since nothing reads them.
    pub(super) fn give_back(&self, queue: &str) {
        self.change(queue, |slot| slot.draining.drain(..).for_each(|mut source| source.give_back()));
        // The reader may be waiting by now.
        self.waker.wake();
    }

    /// The consumers with a smaller window than `window` while the reader waits for more, by queue.
    pub(super) fn capped_below(&self, window: u16) -> Vec<(Arc<str>, ShortString)> {
        let state = self.lock();
        let capped = |slot: &Slot| {
            let source = slot.current.as_ref().filter(|source| source.window > 0 && source.window < window)?;
            Some((Arc::clone(&slot.queue), source.consumer.tag()))
        };
        if state.waits { state.slots.iter().filter_map(capped).collect() } else { Vec::new() }
    }

    /// Gives back the messages of cancelled consumers that may have been waiting for longer than `limit`. Returns the
    /// current consumers with such messages, by queue: those are to be cancelled, and their messages
    /// [given back](Self::give_back).
    pub(super) fn stale(&self, limit: Duration) -> Vec<(Arc<str>, ShortString)> {
        let now = Instant::now();
        let mut stale = Vec::new();
        let mut state = self.lock();
        let waits = state.waits;
        for slot in &mut state.slots {
            slot.draining.retain_mut(|source| {
                let keeps = !source.is_stale(now, limit, waits);
                if !keeps {
                    source.give_back();
                }
                keeps
            });
            if let Some(source) = &mut slot.current
                && source.is_stale(now, limit, waits)
            {
                stale.push((Arc::clone(&slot.queue), source.consumer.tag()));
            }
        }
        stale
    }

    /// The current consumers with unread messages, by queue: those are to be cancelled, and their messages
    /// [given back](Self::give_back). Those of cancelled consumers are given back at once.
    pub(super) fn unread(&self) -> Vec<(Arc<str>, ShortString)> {
        let mut unread = Vec::new();
        let mut state = self.lock();
        // Where the reader waits, nothing is unread, and a look would cost it its waker.
        if state.waits || self.is_stopping() {
            return unread;
        }
        for slot in &mut state.slots {
            slot.draining.drain(..).for_each(|mut source| source.give_back());
            if let Some(source) = &mut slot.current
                && source.has_unread()
            {
                unread.push((Arc::clone(&slot.queue), source.consumer.tag()));
            }
        }
        unread
    }

    /// The consumers that the broker has ended since this was last asked; unread messages of theirs are given back.
    pub(super) fn take_ended(&self) -> Vec<EndedConsumer> {
        let mut state = self.lock();
        let waits = state.waits;
        let mut ended = Vec::new();
        for slot in &mut state.slots {
            // A reader that waits sees the end itself, and a look would cost it its waker.
            if !waits && slot.current.as_mut().is_some_and(Source::has_ended) {
                slot.ended = slot.current.take();
            }
            if let Some(mut source) = slot.ended.take() {
                source.give_back();
                source.settler.retain_unsettled(&mut source.taken.tags);
                let (tag, held) = (source.consumer.tag(), source.taken.tags);
                ended.push(EndedConsumer { queue: Arc::clone(&slot.queue), tag, held });
            }
        }
        ended
    }

    /// Ends the turn of the queue that is being read, so that long tasks of one do not keep the messages of another
    /// from their turn.
    pub(super) fn end_turn(&self) {
        self.lock().run = RUN_MAX;
    }

    /// Removes all consumers, since the channel is gone; unread messages will be delivered again. Returns the broker's
    /// error, if there was one.
    pub(super) fn clear(&self) -> Option<lapin::Error> {
        let mut state = self.lock();
        let mut fault = state.fault.take();
        for slot in &mut state.slots {
            slot.ended = None;
            for mut source in slot.draining.drain(..).chain(slot.current.take()) {
                while let Some(Some(given)) = source.take_now() {
                    fault = fault.or(given.err());
                }
            }
            (slot.is_suspended, slot.is_capped) = (false, false);
        }
        self.complete.store(false, Ordering::Release);
        fault
    }

    /// Whether the stream yields no more messages.
    pub(super) fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::Acquire) != RUNNING
    }

    /// Makes the stream yield no more messages.
    pub(super) fn stop(&self) {
        self.phase.fetch_max(STOPPING, Ordering::AcqRel);
    }

    /// Gives back the unread messages, and ends the stream. The consumers must have been cancelled.
    pub(super) fn end(&self) {
        self.stop();
        let mut state = self.lock();
        for slot in &mut state.slots {
            for mut source in slot.draining.drain(..).chain(slot.current.take()) {
                source.give_back();
            }
        }
        self.complete.store(false, Ordering::Release);
        self.phase.store(ENDED, Ordering::Release);
        drop(state);
        self.waker.wake();
    }

    fn change(&self, queue: &str, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.lock().slots.iter_mut().find(|slot| &*slot.queue == queue) {
            change(slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, SourcesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of a consumption.
pub(super) struct Deliveries {
    pub(super) sources: Arc<Sources>,
    pub(super) commands: Arc<mpsc::UnboundedSender<Command>>,
}

impl Stream for Deliveries {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = self.sources.lock();
        match self.sources.phase.load(Ordering::Acquire) {
            RUNNING => {
                if let Some(delivery) = state.poll(context, &self.commands) {
                    return Poll::Ready(Some(delivery));
                }
            }
            STOPPING => {}
            _ => return Poll::Ready(None),
        }
        // Registered under the lock, under which the consumer task replaces the sources just polled.
        self.sources.waker.register(context.waker());
        match self.sources.phase.load(Ordering::Acquire) {
            ENDED => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

impl SourcesState {
    fn poll(&mut self, context: &mut Context<'_>, commands: &mpsc::UnboundedSender<Command>) -> Option<Delivery> {
        let count = self.slots.len();
        let mut woken = None;
        self.waits = false;
        for offset in 0..count {
            let at = (self.next + offset) % count;
            let was_suspended = self.slots[at].is_suspended;
            let polled = self.slots[at].poll(context, commands);
            if let Some(fault) = polled.as_ref().err() {
                self.fault.get_or_insert_with(|| fault.clone());
            }
            if let Ok(Some(delivery)) = polled {
                self.run = if offset == 0 { self.run + 1 } else { 1 };
                self.next = at;
                if self.run >= RUN_MAX {
                    (self.next, self.run) = (at + 1, 0);
                }
                // Its messages are on their way, and it has had its turn: the turn is restored when they are here.
                if let Some(woken) = woken {
                    (self.next, self.run) = (woken, 0);
                }
                return Some(delivery);
            }
            if was_suspended {
                woken.get_or_insert(at);
            }
        }
        self.waits = true;
        None
    }
}

impl Slot {
    fn retire(&mut self) {
        self.draining.extend(self.current.take());
        // Its end was seen by the reader before it was noted here that we cancelled it.
        self.ended = None;
    }

    /// The next message, if there is one; an error tells how the consumer was ended.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        commands: &mpsc::UnboundedSender<Command>,
    ) -> Result<Option<Delivery>, lapin::Error> {
        while let Some(source) = self.draining.front_mut() {
            match source.poll(context, &self.queue) {
                Poll::Ready(Ok(Some(delivery))) => return Ok(Some(delivery)),
                Poll::Ready(_) => self.draining.pop_front(),
                // The consumer's end is on its way.
                Poll::Pending => return Ok(None),
            };
        }
        if std::mem::take(&mut self.is_suspended) {
            self.is_capped = true;
            // The consumer task may have ended; then it needs no command. The same is true below.
            let _ = commands.send(Command::Wanted);
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        match current.poll(context, &self.queue) {
            Poll::Ready(Ok(Some(delivery))) => Ok(Some(delivery)),
            Poll::Ready(ended) => {
                self.ended = self.current.take();
                let _ = commands.send(Command::Vacant);
                ended
            }
            Poll::Pending => Ok(None),
        }
    }
}

impl Source {
    /// The next message; `None` or an error when the consumer yields no more.
    fn poll(&mut self, context: &mut Context<'_>, queue: &Arc<str>) -> Poll<Result<Option<Delivery>, lapin::Error>> {
        let given = self.peeked.take().map_or_else(|| self.consumer.poll_next_unpin(context), Poll::Ready);
        match given {
            Poll::Ready(Some(Ok(delivery))) if !delivery.acker.poisoned() => {
                self.buffer_age.take();
                self.taken.add(delivery.delivery_tag, &self.settler);
                Poll::Ready(Ok(Some(delivery_of(delivery, queue, &self.settler))))
            }
            // A message whose channel is gone is already being delivered to another consumer.
            Poll::Ready(Some(Ok(_)) | None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.buffer_age.found_empty();
                Poll::Pending
            }
        }
    }

    /// The next item, if there is one without waiting.
    fn take_now(&mut self) -> Option<Given> {
        self.peeked.take().or_else(|| self.consumer.next().now_or_never())
    }

    /// Whether a message may have been waiting here for longer than `limit`. An empty buffer is not stale, however
    /// long it was not polled.
    fn is_stale(&mut self, now: Instant, limit: Duration, waits: bool) -> bool {
        if !self.buffer_age.is_stale(now, limit, waits) {
            return false;
        }
        self.has_unread()
    }

    /// Whether there is a message that was not read. Not to be asked while the reader waits: it would lose its waker.
    fn has_unread(&mut self) -> bool {
        self.peeked = self.take_now();
        if self.peeked.is_none() {
            self.buffer_age.found_empty();
        }
        matches!(self.peeked, Some(Some(Ok(_))))
    }

    /// Whether the broker has ended the consumer, and nothing of it is unread. Not to be asked while the reader waits.
    fn has_ended(&mut self) -> bool {
        !self.has_unread() && matches!(self.peeked, Some(None | Some(Err(_))))
    }

    /// Gives back the unread messages.
    fn give_back(&mut self) {
        while let Some(Some(Ok(delivery))) = self.take_now() {
            self.settler.note_taken();
            self.settler.settle(delivery.delivery_tag, Settlement::Requeue);
        }
    }
}

/// Converts lapin's delivery.
pub(super) fn delivery_of(
    delivery: lapin::message::Delivery,
    queue: &Arc<str>,
    settler: &Arc<ChannelSettler>,
) -> Delivery {
    let (message, delivery_count) =
        convert::from_amqp(&delivery.properties, delivery.data, queue, delivery.routing_key.as_str());
    settler.note_taken();
    Delivery {
        queue: Arc::clone(queue),
        message,
        redelivered: delivery.redelivered,
        delivery_count,
        acker: Acker::new(Arc::clone(settler) as Arc<dyn Settler>, delivery.delivery_tag),
    }
}
