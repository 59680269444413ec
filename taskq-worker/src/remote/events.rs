//! Events of tasks: collected without waiting where tasks are run, and told in batches by a task of its own.
//!
//! While nobody wants them, nothing is made and nothing is sent. What comes faster than it can be told is dropped and
//! counted: events are for those who watch, and never hold up a task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use taskq::Client;
use taskq::internal::codec::event::encode_events;
use taskq::remote::Event;
use tokio::sync::mpsc;

/// The number of events that wait to be told.
const WAITING_MAX: usize = 10_000;

/// The largest number of events in one message.
const BATCH_MAX: usize = 100;

/// The time for which an event waits for others.
const BATCH_WITHIN: Duration = Duration::from_millis(50);

/// The routing key of a message with several events of tasks.
const SEVERAL: &str = "task.multi";

/// The events of one process that are not yet told.
#[derive(Debug)]
pub(crate) struct EventBuffer {
    wanted: AtomicBool,
    waiting: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// The logical clock of the process.
    clock: AtomicU64,
}

/// The way out of a buffer. It ends once the buffer is gone and everything in it was taken.
#[derive(Debug)]
pub(crate) struct BufferedEvents {
    waiting: mpsc::Receiver<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventBuffer {
    /// An empty buffer, and the way out of it.
    pub(crate) fn new(wanted: bool) -> (Arc<Self>, BufferedEvents) {
        let (adding, waiting) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let events = BufferedEvents { waiting, dropped: Arc::clone(&dropped) };
        let (wanted, clock) = (AtomicBool::new(wanted), AtomicU64::new(0));
        (Arc::new(Self { wanted, waiting: adding, dropped, clock }), events)
    }

    /// Whether somebody wants events.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Notes whether somebody wants events. Returns whether that was noted before.
    pub(crate) fn want(&self, wanted: bool) -> bool {
        self.wanted.swap(wanted, Ordering::Relaxed) == wanted
    }

    /// Adds an event, or drops it if too many wait.
    pub(crate) fn add(&self, event: Event) {
        let clock = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        if self.waiting.try_send(event.with("clock", clock)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The fields that every event of a node has.
pub(crate) fn signed(event: Event, node: &str, now: chrono::DateTime<chrono::Utc>) -> Event {
    event
        .with("hostname", node)
        .with("pid", std::process::id())
        .with("timestamp", now.timestamp_micros() as f64 / 1e6)
        // Timestamps are in UTC, whatever the zone of this machine.
        .with("utcoffset", 0)
}

/// Tells the events of a process, in the name of its node, until the buffer is gone.
pub(crate) async fn tell_events(client: Client, node: Arc<str>, events: BufferedEvents) {
    let BufferedEvents { mut waiting, dropped } = events;
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // The first one waits for others, but not for long.
        let deadline = tokio::time::Instant::now() + BATCH_WITHIN;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            match tokio::time::timeout_at(deadline, waiting.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        let Some(reach) = client.reach() else { return };
        let count = batch.len() as u64;
        let message = encode_events(&node, std::mem::take(&mut batch));
        if let Err(error) = reach.means().announce(SEVERAL, message).await {
            dropped.fetch_add(count, Ordering::Relaxed);
            tracing::debug!(%error, "events could not be told");
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            tracing::warn!(count, "events of tasks were dropped: there are more than the broker takes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl BufferedEvents {
        /// The next event, if one waits.
        pub(crate) fn next(&mut self) -> Option<Event> {
            self.waiting.try_recv().ok()
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (buffer, mut events) = EventBuffer::new(true);
        for _ in 0..WAITING_MAX + 7 {
            buffer.add(Event::new("task-started"));
        }
        assert_eq!(events.dropped.load(Ordering::Relaxed), 7);
        let first = events.waiting.try_recv().expect("it waits");
        assert_eq!(first.fields["clock"], 1);
        assert!(buffer.want(true) && !buffer.want(false) && !buffer.is_wanted());
        drop(buffer);
        while events.waiting.try_recv().is_ok() {}
        assert_eq!(events.waiting.try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "it ends with its buffer");
    }
}
