//! Sending of settlements: they are collected on any thread, and sent in batches.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::Notify;
use tokio::time::{self, Instant};

use super::ack_planner::{Frames, Ledger};
use crate::broker::{Settlement, Settler};
use crate::io;

/// The time for which a settlement waits for others.
const PATIENCE: Duration = Duration::from_millis(1);

/// The number of ticks without work after which the timer stops.
const IDLE_ROUNDS: u32 = 100;

/// The number of frames that a channel of the broker passes on to a quorum queue at once, at least. Further frames
/// wait inside the channel, and are lost if it is closed in the meantime.
const BURST_MAX: usize = 16;

/// The time that the broker is given for more than that, before a channel is closed. It does not report when it is
/// done.
const BURST_PATIENCE: Duration = Duration::from_millis(100);

/// The settlements of one channel, which end with it: a delivery of an earlier channel has an earlier settler, so no
/// stale settlement can reach the broker, which would close the channel over it.
pub(super) struct ChannelSettler {
    channel: Channel,
    ledger: Mutex<Ledger>,
    /// The number of messages that were taken and are not settled.
    out: AtomicUsize,
    alive: AtomicBool,
    /// Deliveries that the broker has taken back while the channel lives.
    lost: Mutex<HashSet<u64>>,
    /// There are some.
    has_lost: AtomicBool,
    /// Whether the timer runs, so that only the first settlement after a pause has to wake the I/O thread.
    ticking: AtomicBool,
    /// The broker may still be passing settlements on.
    burst: AtomicBool,
    /// The destination of messages that are given back.
    back: Back,
    wake: Notify,
}

/// The destination of a message that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// The queue that the message was consumed from.
    Queue,
    /// The origin of the copies in a renewal queue, to which that queue dead-letters.
    Origin,
}

impl ChannelSettler {
    /// Makes the settler of a channel on which nothing was delivered yet.
    pub(super) fn new(channel: Channel, prefetch: u16, back: Back) -> Arc<Self> {
        let settler = Arc::new(Self {
            channel,
            ledger: Mutex::new(Ledger::new(prefetch)),
            out: AtomicUsize::new(0),
            alive: AtomicBool::new(true),
            lost: Mutex::default(),
            has_lost: AtomicBool::new(false),
            ticking: AtomicBool::new(false),
            burst: AtomicBool::new(false),
            back,
            wake: Notify::new(),
        });
        io::spawn(Arc::clone(&settler).tick());
        settler
    }

    pub(super) fn set_prefetch(&self, prefetch: u16) {
        self.lock().set_prefetch(prefetch);
    }

    /// Counts a message that was taken and will be settled.
    pub(super) fn note_taken(&self) {
        self.out.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of messages that were taken and are not settled.
    pub(super) fn out(&self) -> usize {
        self.out.load(Ordering::Relaxed)
    }

    /// Sends all settlements that were collected.
    pub(super) fn flush(&self) {
        self.send(&mut self.lock(), true);
    }

    /// Sends all settlements that were collected, and gives the broker time to apply them, so that the channel can be
    /// closed.
    pub(super) async fn finish(&self) {
        self.flush();
        if self.burst.load(Ordering::Acquire) {
            time::sleep(BURST_PATIENCE).await;
        }
    }

    /// Keeps those of these deliveries that are not settled.
    pub(super) fn retain_unsettled(&self, tags: &mut Vec<u64>) {
        let ledger = self.lock();
        tags.retain(|tag| !ledger.is_settled(*tag));
    }

    /// Gives back deliveries of which the broker has taken back some: which ones, it does not say. Settling them has no
    /// effect any more.
    pub(super) fn lose(&self, tags: &[u64]) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).extend(tags);
        self.has_lost.store(true, Ordering::Release);
        let mut ledger = self.lock();
        for tag in tags {
            ledger.settle(*tag, Settlement::Requeue);
        }
        self.send(&mut ledger, true);
    }

    fn is_lost(&self, tag: u64) -> bool {
        self.has_lost.load(Ordering::Acquire) && self.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(&tag)
    }

    /// Notes that the channel is gone, and with it every delivery that came over it.
    pub(super) fn end(&self) {
        self.alive.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    /// Sends settlements. This takes the ledger's lock, because the broker closes the channel if two batches overtake
    /// each other: the later one may cover a tag that the earlier one names. It does not await, because lapin queues
    /// the frame at the first poll and the rest would only wait for the socket. If the channel is gone, the messages
    /// are delivered again.
    fn send(&self, ledger: &mut Ledger, all: bool) {
        if ledger.is_idle() {
            return;
        }
        let Frames { requeue, ack_up_to, ack } = ledger.take(Instant::now(), all);
        if requeue.len() + ack.len() > BURST_MAX {
            self.burst.store(true, Ordering::Release);
        }
        for tag in requeue {
            let options = BasicNackOptions { requeue: self.back == Back::Queue, ..BasicNackOptions::default() };
            let _ = self.channel.basic_nack(tag, options).now_or_never();
        }
        if let Some(tag) = ack_up_to {
            let _ = self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never();
        }
        for tag in ack {
            let _ = self.channel.basic_ack(tag, BasicAckOptions::default()).now_or_never();
        }
    }

    /// Sends settlements of batches that did not fill.
    async fn tick(self: Arc<Self>) {
        let mut idle = 0;
        while self.alive.load(Ordering::Acquire) {
            if idle >= IDLE_ROUNDS {
                self.ticking.store(false, Ordering::SeqCst);
                self.burst.store(false, Ordering::Release);
                // A settlement made before the line above saw the timer running and did not wake this task.
                if self.lock().is_idle() {
                    self.wake.notified().await;
                }
                self.ticking.store(true, Ordering::SeqCst);
                idle = 0;
            }
            time::sleep(PATIENCE).await;
            let mut ledger = self.lock();
            idle = if ledger.is_idle() { idle + 1 } else { 0 };
            self.send(&mut ledger, false);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settler for ChannelSettler {
    fn settle(&self, tag: u64, settlement: Settlement) {
        self.out.fetch_sub(1, Ordering::Relaxed);
        let mut ledger = self.lock();
        let due = ledger.settle(tag, settlement);
        if due {
            self.send(&mut ledger, false);
        }
        drop(ledger);
        if !self.ticking.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    fn is_current(&self, tag: u64) -> bool {
        self.alive.load(Ordering::Acquire) && self.channel.status().connected() && !self.is_lost(tag)
    }
}
