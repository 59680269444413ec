//! The outbox: publications that are handed over and unanswered, and their way onto the channel.
//!
//! All publications of a client share one channel, and a lock around it: threads that use a channel concurrently can
//! swap each other's confirms. Under that lock a message is sent on the caller's own thread, since passing it to
//! another thread would take longer than the broker does. Neither the socket nor a confirm is waited for. If there is
//! no channel at the moment, or enough messages are unconfirmed, the message is kept for the
//! [`publish_loop`](super::publish_loop), which answers, resends and expires.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::convert::{self, Unsendable};
use super::delay_ladder;
use super::link::Link;
use super::session::Session;
use super::topology::Topology;
use super::unconfirmed::Unconfirmed;
use crate::broker::{BrokerError, PublishError};
use crate::message::WireMessage;

/// The maximum number of unconfirmed publications. More gain nothing, and all of them are sent twice after a loss.
pub(super) const WINDOW: usize = 1024;

/// The publications of a client, shared by its callers and the publish loop.
pub(super) struct Outbox {
    pub(super) link: Arc<Link>,
    pub(super) topology: Arc<Topology>,
    pending: Mutex<Pending>,
    /// Wakes the publish loop for work that it does not notice by itself.
    pub(super) wake: Notify,
}

/// Publications that are handed over and unanswered.
#[derive(Default)]
pub(super) struct Pending {
    /// Messages that are not sent, oldest first.
    pub(super) backlog: VecDeque<Box<Outgoing>>,
    /// Messages that wait for the delay ladder.
    pub(super) delayed: Vec<Outgoing>,
    /// The current channel, if there is one.
    pub(super) channel: Option<OpenChannel>,
    /// `Some` once no more are accepted: the callers to notify when everything is answered.
    pub(super) last: Option<Vec<oneshot::Sender<()>>>,
}

/// An open channel, and the messages sent over it and not yet confirmed.
pub(super) struct OpenChannel {
    pub(super) session: Arc<Session>,
    pub(super) channel: Arc<Channel>,
    pub(super) unconfirmed: Unconfirmed<SendSlot>,
}

/// A publication that waits for its answer.
pub(super) struct Outgoing {
    pub(super) queue: Arc<str>,
    pub(super) message: WireMessage,
    /// The earliest time of arrival of a delayed message.
    pub(super) due: Option<Instant>,
    pub(super) deadline: Instant,
    /// Whether it was sent before.
    pub(super) resent: bool,
    /// The exchange to which it was sent last; the broker's default one has no name.
    pub(super) exchange: String,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// The message's share of the send budget.
    budget: OwnedSemaphorePermit,
}

/// A message sent but not yet confirmed. If it times out, its caller is answered at once, but it keeps its share of
/// the send budget until the broker's confirm arrives.
pub(super) enum SendSlot {
    Unanswered(Box<Outgoing>),
    Answered { _budget: OwnedSemaphorePermit },
}

impl Outbox {
    pub(super) fn new(link: Arc<Link>, topology: Arc<Topology>) -> Self {
        Self { link, topology, pending: Mutex::default(), wake: Notify::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a publication now, or keeps it until it can be sent.
    pub(super) fn hand_over(&self, outgoing: Box<Outgoing>) {
        let mut pending = self.lock();
        if pending.last.is_some() {
            drop(pending);
            return outgoing.answer(Err(BrokerError::Closed.into()));
        }
        // While something is unconfirmed, the loop waits for that, and then checks everything.
        let asleep = pending.channel.as_ref().is_none_or(|open| open.unconfirmed.is_empty());
        pending.backlog.push_back(outgoing);
        let attend = self.send(&mut pending);
        drop(pending);
        if asleep || attend {
            self.wake.notify_one();
        }
    }

    /// Sends pending messages as far as possible. Returns whether the publish loop has something to do.
    pub(super) fn send(&self, pending: &mut Pending) -> bool {
        let Pending { backlog, delayed, channel: Some(open), .. } = pending else { return false };
        // Messages handed to lapin while the broker accepts none would only wait there, where they cannot be expired.
        if backlog.is_empty() || open.session.is_blocked() || open.unconfirmed.failure().is_some() {
            return false;
        }
        while open.unconfirmed.len() < WINDOW {
            let Some(outgoing) = backlog.pop_front() else { break };
            let delay = outgoing.due.map(|due| due.saturating_duration_since(Instant::now()));
            let delay = delay.filter(|delay| !delay.is_zero());
            if delay.is_some() && !self.topology.has_ladder() {
                delayed.push(*outgoing);
                continue;
            }
            if let Err((outgoing, unsendable)) = open.insert(outgoing, delay) {
                let outdated = !self.link.is_wide() || !open.session.is_open();
                if matches!(unsendable, Unsendable::Headers { .. }) && outdated {
                    // It must be possible to pass on a message that a client with larger frames has sent; the next
                    // session can.
                    self.link.widen();
                    backlog.push_front(outgoing);
                    open.session.fail("a message needs larger frames");
                    return true;
                }
                let queue = outgoing.queue.to_string();
                outgoing.answer(Err(match unsendable {
                    Unsendable::Headers { size, limit } => PublishError::HeadersTooLarge { queue, size, limit },
                    other @ (Unsendable::TooLong { .. } | Unsendable::TooDeep { .. }) => {
                        PublishError::Unsendable { queue, source: other.into() }
                    }
                }));
            }
        }
        !delayed.is_empty() || open.unconfirmed.failure().is_some()
    }
}

impl OpenChannel {
    fn insert(
        &mut self,
        mut outgoing: Box<Outgoing>,
        delay: Option<Duration>,
    ) -> Result<(), (Box<Outgoing>, Unsendable)> {
        let (exchange, key) = match delay {
            Some(delay) => delay_ladder::route(delay, &outgoing.queue),
            None => (String::new(), outgoing.queue.to_string()),
        };
        let (number, frame_max) = (self.unconfirmed.next_number(), self.session.frame_max());
        let properties = convert::to_amqp(&outgoing.message, number, outgoing.resent, frame_max);
        match (ShortString::try_new(key), properties) {
            (Ok(key), Ok(properties)) => {
                let body = outgoing.message.body.clone();
                outgoing.exchange.clone_from(&exchange);
                let confirm = confirm(Arc::clone(&self.channel), exchange.into(), key, body, properties);
                self.unconfirmed.insert(SendSlot::Unanswered(outgoing), Box::pin(confirm));
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
    pub(super) fn new(
        queue: Arc<str>,
        message: WireMessage,
        due: Option<Instant>,
        deadline: Instant,
        answer: oneshot::Sender<Result<(), PublishError>>,
        budget: OwnedSemaphorePermit,
    ) -> Self {
        Self { queue, message, due, deadline, resent: false, exchange: String::new(), answer, budget }
    }

    pub(super) fn answer(self, outcome: Result<(), PublishError>) {
        // The caller may not be waiting any more.
        let _ = self.answer.send(outcome);
    }
}

impl SendSlot {
    /// Answers a publication that timed out, and keeps its share of the budget.
    pub(super) fn answer_if_late(&mut self, now: Instant, error: impl FnOnce() -> PublishError) {
        let Self::Unanswered(outgoing) = self else { return };
        if outgoing.deadline > now {
            return;
        }
        let nothing = outgoing.budget.split(0).expect("nothing can always be split off");
        let budget = std::mem::replace(&mut outgoing.budget, nothing);
        if let Self::Unanswered(outgoing) = std::mem::replace(self, Self::Answered { _budget: budget }) {
            outgoing.answer(Err(error()));
        }
    }
}

/// Sends the message at its first poll; then waits for the confirm.
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
