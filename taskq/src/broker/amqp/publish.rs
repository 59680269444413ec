//! Hands publications over, and puts them on the wire where there is one.
//!
//! All publications of a client share one channel, and a lock around it: threads that use a channel side by side can
//! swap each other's confirms. Under that lock a message goes on the wire on the caller's own thread, since the way
//! to another one would take longer than the broker; nobody waits for the socket or for a confirm. If there is no
//! channel at the moment, or enough is on the wire, the message waits in line for [`publishing`](super::publishing),
//! which answers, resends and expires.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::convert::{self, Unsendable};
use super::delay;
use super::flight::Flights;
use super::link::Link;
use super::publishing::Worker;
use super::session::Session;
use super::topology::Topology;
use crate::broker::{BrokerError, BrokerOptions, Publication, PublishError};
use crate::fault::BoxError;
use crate::io;
use crate::message::WireMessage;

/// How many publications are on the wire at once. More gains nothing, and all of them are sent twice after a loss.
pub(super) const WINDOW: usize = 1024;

/// How much may be handed over and unanswered, in units of a kibibyte or part of one per message: 64 MiB, or 65,536
/// small messages. Beyond it, publishing waits before it hands over.
const ROOM: usize = 65_536;

/// Takes publications from everywhere.
pub(super) struct Publisher {
    desk: Arc<Desk>,
    room: Arc<Semaphore>,
    timeout: Duration,
    size_max: usize,
}

/// Where publications are handed over and picked up.
pub(super) struct Desk {
    pub(super) link: Arc<Link>,
    pub(super) topology: Arc<Topology>,
    line: Mutex<Line>,
    /// There is something for the publishing task to do that it does not see by itself.
    pub(super) bell: Notify,
}

/// What is handed over and unanswered.
#[derive(Default)]
pub(super) struct Line {
    /// Not on the wire, oldest first.
    pub(super) backlog: VecDeque<Box<Outgoing>>,
    /// Waiting for the delay ladder.
    pub(super) delayed: Vec<Outgoing>,
    pub(super) wire: Option<Wire>,
    /// `Some` once nothing follows; whoever wants to know when everything is answered.
    pub(super) last: Option<Vec<oneshot::Sender<()>>>,
}

/// The channel of the moment, and what was sent over it.
pub(super) struct Wire {
    pub(super) session: Arc<Session>,
    pub(super) channel: Arc<Channel>,
    pub(super) flying: Flights<Cargo>,
}

/// A publication that waits for its answer.
pub(super) struct Outgoing {
    pub(super) queue: Arc<str>,
    pub(super) message: WireMessage,
    /// When it may arrive, if it is held back.
    pub(super) due: Option<Instant>,
    pub(super) deadline: Instant,
    /// It was on the wire before.
    pub(super) resent: bool,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// What it takes of [`ROOM`].
    room: OwnedSemaphorePermit,
}

/// On the wire. Answered early if its time is over, but its confirm is still to come, and it still takes room.
pub(super) enum Cargo {
    Unanswered(Box<Outgoing>),
    Answered { _room: OwnedSemaphorePermit },
}

impl Publisher {
    /// Begins to publish over `link`, until [`Publisher::close`], or until it is dropped and everything is answered.
    pub(super) fn start(link: Arc<Link>, topology: Arc<Topology>, options: &BrokerOptions) -> Self {
        let desk = Arc::new(Desk { link, topology, line: Mutex::default(), bell: Notify::new() });
        io::spawn(Worker::new(Arc::clone(&desk), options.publish_timeout).run());
        Self {
            desk,
            room: Arc::new(Semaphore::new(ROOM)),
            timeout: options.publish_timeout,
            size_max: options.max_message_bytes,
        }
    }

    /// Hands a message over, at once as long as there is room. The future waits for the answer; the time allowed
    /// counts from now.
    pub(super) fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        let Publication { queue, message, delay } = publication;
        let (size, limit) = (message.body.len(), self.size_max);
        if size > limit {
            return future::ready(Err(PublishError::TooLarge { size, limit })).boxed();
        }
        let now = Instant::now();
        let deadline = now + self.timeout;
        let due = delay.filter(|delay| !delay.is_zero()).map(|delay| {
            // An instant that does not exist is as good as the end of the ladder.
            now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
        });
        let (answer, answered) = oneshot::channel();
        let outgoing = move |room| Box::new(Outgoing { queue, message, due, deadline, resent: false, answer, room });
        // An answer that never comes means that the client was closed.
        let answered = async move { answered.await.unwrap_or_else(|_| Err(BrokerError::Closed.into())) };
        let units = u32::try_from((size / 1024 + 1).min(ROOM)).expect("it is at most 65,536");
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) {
            self.desk.hand_over(outgoing(room));
            return answered.boxed();
        }
        let (room, desk, after) = (Arc::clone(&self.room), Arc::clone(&self.desk), self.timeout);
        async move {
            // On the I/O runtime, since the caller's may have no timers.
            let room = io::run(time::timeout_at(deadline, room.acquire_many_owned(units))).await;
            let Ok(Ok(room)) = room else { return Err(PublishError::TimedOut { after }) };
            desk.hand_over(outgoing(room));
            answered.await
        }
        .boxed()
    }

    /// Takes nothing more, and returns when everything is answered.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.desk.lock().last.get_or_insert_default().push(done);
        self.desk.bell.notify_one();
        // Either way the publishing task has nothing left to do.
        let _ = closed.await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.desk.lock().last.get_or_insert_default();
        self.desk.bell.notify_one();
    }
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, outgoing: Box<Outgoing>) {
        let mut line = self.lock();
        if line.last.is_some() {
            drop(line);
            return outgoing.answer(Err(BrokerError::Closed.into()));
        }
        // As long as something is on the wire, the task is waiting for that and then looks at everything.
        let asleep = line.wire.as_ref().is_none_or(|wire| wire.flying.is_empty());
        line.backlog.push_back(outgoing);
        let attend = self.send(&mut line);
        drop(line);
        if asleep || attend {
            self.bell.notify_one();
        }
    }

    /// Puts on the wire what is in line, as far as it may go now. True if the publishing task has to see to it.
    pub(super) fn send(&self, line: &mut Line) -> bool {
        let Line { backlog, delayed, wire: Some(wire), .. } = line else { return false };
        // What is handed to lapin while the broker takes nothing would only wait there, out of our sight.
        if backlog.is_empty() || wire.session.is_blocked() || wire.flying.failure().is_some() {
            return false;
        }
        while wire.flying.len() < WINDOW {
            let Some(outgoing) = backlog.pop_front() else { break };
            let delay = outgoing.due.map(|due| due.saturating_duration_since(Instant::now()));
            let delay = delay.filter(|delay| !delay.is_zero());
            if delay.is_some() && !self.topology.has_ladder() {
                delayed.push(*outgoing);
                continue;
            }
            if let Err((outgoing, unsendable)) = wire.launch(outgoing, delay) {
                let outdated = !self.link.is_wide() || !wire.session.is_open();
                if matches!(unsendable, Unsendable::Headers { .. }) && outdated {
                    // A message that somebody with larger frames sent must be able to go round again; the next
                    // session has them.
                    self.link.widen();
                    backlog.push_front(outgoing);
                    wire.session.fail("a message needs larger frames");
                    return true;
                }
                let what = format!("sending a message to {:?}", outgoing.queue);
                let error = BrokerError::Failed { what, source: Box::new(unsendable) as BoxError };
                outgoing.answer(Err(error.into()));
            }
        }
        !delayed.is_empty() || wire.flying.failure().is_some()
    }
}

impl Wire {
    fn launch(&mut self, outgoing: Box<Outgoing>, delay: Option<Duration>) -> Result<(), (Box<Outgoing>, Unsendable)> {
        let (exchange, key) = match delay {
            Some(delay) => delay::route(delay, &outgoing.queue),
            None => (String::new(), outgoing.queue.to_string()),
        };
        let (number, frame_max) = (self.flying.next_number(), self.session.frame_max());
        let properties = convert::to_amqp(&outgoing.message, number, outgoing.resent, frame_max);
        match (ShortString::try_new(key), properties) {
            (Ok(key), Ok(properties)) => {
                let body = outgoing.message.body.clone();
                let confirm = confirm(Arc::clone(&self.channel), exchange.into(), key, body, properties);
                self.flying.launch(Cargo::Unanswered(outgoing), Box::pin(confirm));
                Ok(())
            }
            (Err(_), _) => {
                let bytes = outgoing.queue.len();
                Err((outgoing, Unsendable::TooLong { what: "name of the queue".to_owned(), bytes }))
            }
            (_, Err(unsendable)) => Err((outgoing, unsendable)),
        }
    }
}

impl Outgoing {
    pub(super) fn answer(self, outcome: Result<(), PublishError>) {
        // Whoever asked may not be waiting any more.
        let _ = self.answer.send(outcome);
    }
}

impl Cargo {
    /// Answers a publication whose time is over, and leaves its room taken.
    pub(super) fn answer_if_late(&mut self, now: Instant, error: impl FnOnce() -> PublishError) {
        let Self::Unanswered(outgoing) = self else { return };
        if outgoing.deadline > now {
            return;
        }
        let nothing = outgoing.room.split(0).expect("nothing can always be split off");
        let room = std::mem::replace(&mut outgoing.room, nothing);
        if let Self::Unanswered(outgoing) = std::mem::replace(self, Self::Answered { _room: room }) {
            outgoing.answer(Err(error()));
        }
    }
}

/// At its first poll the message is put on the wire; later, its confirm comes.
async fn confirm(
    channel: Arc<Channel>,
    exchange: ShortString,
    key: ShortString,
    body: Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange, key, options, &body, properties).await?.await
}
