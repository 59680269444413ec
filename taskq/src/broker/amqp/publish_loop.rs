//! The publish loop, the one task that opens the channel, answers publications, expires them and resends them.
//!
//! Answers follow the rule in [`unconfirmed`](super::unconfirmed). Publications that are unanswered when the
//! connection is lost are sent again on the next one, in the old order and marked as resent, until they time out.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future;
use lapin::{Channel, ErrorKind};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::outbox::{OpenChannel, Outbox, Pending, SendSlot, WINDOW};
use super::session::{RequestFault, Session};
use super::suspicion::Suspicion;
use super::topology::{DeclareFault, Topology};
use super::unconfirmed::{PublishOutcome, Unconfirmed};
use crate::broker::{BrokerError, PublishError};
use crate::fault::full_message;
use crate::io;

/// The interval at which publications are checked for timeouts and for stalls.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The number of checks for which the oldest publication may hold up the answers of later ones.
const OVERTAKEN_AFTER: u32 = 4;

/// The number of checks without any confirm after which the broker is asked whether it still responds.
const SILENT_AFTER: u32 = 8;

/// The time for which a node may confirm nothing of what it was sent, before it is left for another one.
const CONFIRMS_WITHIN: Duration = Duration::from_secs(10);

/// The time for which nothing may be confirmed on the first channel after an outage, before another one is opened.
/// Twice as long each time.
///
/// A channel of RabbitMQ sends to the leader of a quorum queue that it knows of. If that is gone without a word, it
/// sends again to the new one 10 s later, and a channel that is opened after the election does so at once.
const FIRST_CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// The pause before another channel is opened after the broker closed one.
const CHANNEL_PAUSE: Duration = Duration::from_millis(100);

/// The publish loop of a client.
pub(super) struct PublishLoop {
    outbox: Arc<Outbox>,
    timeout: Duration,
    /// The task that builds the delay ladder, while it is being built.
    ladder: Option<JoinHandle<Result<(), DeclareFault>>>,
    landed: Vec<(SendSlot, PublishOutcome)>,
    /// Against the node of the session.
    suspicion: Suspicion,
    /// Against the channel, from an outage on until something is confirmed.
    recovery: Option<Suspicion>,
}

/// The finding about a broker that confirms nothing.
enum Judgement {
    Useful,
    /// Another channel is to be opened.
    ChannelIsUseless,
    /// Another node is to be used.
    NodeIsUseless,
}

/// The number of checks without progress.
#[derive(Default)]
struct Stall {
    seen: (Option<u64>, usize),
    /// Checks since the oldest publication changed.
    looks: u32,
    /// Checks since anything was confirmed, or the broker was asked.
    silent: u32,
}

impl PublishLoop {
    pub(super) fn new(outbox: Arc<Outbox>, timeout: Duration) -> Self {
        let suspicion = Suspicion::new(CONFIRMS_WITHIN);
        Self { outbox, timeout, ladder: None, landed: Vec::new(), suspicion, recovery: None }
    }

    /// Runs until no more messages are accepted and all are answered, or until the link is closed.
    pub(super) async fn run(mut self) {
        // Whether queues may have been lost in an outage. Queues that an operator deleted while the broker was up are
        // not created again.
        let mut outage = false;
        while !self.is_done() {
            let outbox = Arc::clone(&self.outbox);
            let Some(Some(session)) = self.meanwhile(async move { outbox.link.session().await }).await else { break };
            self.suspicion.rest();
            let prepared = prepare(Arc::clone(&session), Arc::clone(&self.outbox.topology), outage);
            match self.meanwhile(prepared).await {
                Some(Ok(channel)) => self.publish_over(&session, channel).await,
                Some(Err(error)) => {
                    tracing::warn!(%error, "no channel to publish on");
                    self.meanwhile(time::sleep(CHANNEL_PAUSE)).await;
                }
                None => break,
            }
            while session.is_open() && !self.is_done() {
                // The broker closed the channel, not the connection: another is opened, after a pause.
                self.meanwhile(time::sleep(CHANNEL_PAUSE)).await;
                let next = Arc::clone(&session);
                match self.meanwhile(async move { next.confirming_channel().await }).await {
                    Some(Ok(channel)) => self.publish_over(&session, channel).await,
                    Some(Err(error)) => tracing::warn!(%error, "no channel to publish on"),
                    None => break,
                }
            }
            self.outbox.topology.invalidate_all();
            outage = !session.was_deaf();
            self.recovery.get_or_insert_with(|| Suspicion::new(FIRST_CONFIRM_WITHIN));
        }
        let (left, waiting) = {
            let Pending { backlog, delayed, last, .. } = &mut *self.outbox.lock();
            let left: Vec<_> = backlog.drain(..).map(|outgoing| *outgoing).chain(delayed.drain(..)).collect();
            (left, last.replace(Vec::new()).unwrap_or_default())
        };
        for outgoing in left {
            outgoing.answer(Err(BrokerError::Closed.into()));
        }
        self.outbox.link.close().await;
        for done in waiting {
            // The caller may not be waiting any more.
            let _ = done.send(());
        }
    }

    fn is_done(&self) -> bool {
        let pending = self.outbox.lock();
        let is_unconfirmed = pending.channel.as_ref().is_some_and(|open| !open.unconfirmed.is_empty());
        pending.last.is_some() && pending.backlog.is_empty() && pending.delayed.is_empty() && !is_unconfirmed
    }

    /// Waits for something while publications expire. `None` if nothing is left to publish before it happened.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = std::pin::pin!(wait);
        let mut look = look_interval();
        loop {
            tokio::select! {
                outcome = &mut wait => return Some(outcome),
                built = built(&mut self.ladder) => self.ladder_built(built),
                () = self.outbox.wake.notified() => {}
                _ = look.tick() => {
                    self.expire(None);
                }
            }
            if self.is_done() {
                return None;
            }
        }
    }

    /// Publishes over one channel until it is lost, or until nothing is left to do.
    async fn publish_over(&mut self, session: &Arc<Session>, channel: Channel) {
        let channel = Arc::new(channel);
        let open = OpenChannel {
            session: Arc::clone(session),
            channel: Arc::clone(&channel),
            unconfirmed: Unconfirmed::new(),
        };
        self.outbox.lock().channel = Some(open);
        if let Some(recovery) = &mut self.recovery {
            recovery.rest();
        }
        self.attend(session, &channel).await;
        self.land(None);
        // A statement of its own, since the next one takes the lock again.
        let open = self.outbox.lock().channel.take();
        if let Some(open) = open {
            self.bring_back(open.unconfirmed);
        }
    }

    async fn attend(&mut self, session: &Arc<Session>, channel: &Arc<Channel>) {
        let outbox = Arc::clone(&self.outbox);
        let mut lost = std::pin::pin!(session.lost());
        let mut blocked = session.blocked_changes();
        let mut look = look_interval();
        let mut stall = Stall::default();
        while self.send() && !self.is_done() {
            tokio::select! {
                biased;
                () = poll_fn(|context| match &mut outbox.lock().channel {
                    Some(open) => open.unconfirmed.poll_first(context),
                    None => Poll::Pending,
                }) => {
                    // Confirms come in bunches, and lapin's I/O thread is likely to be working on one.
                    tokio::task::yield_now().await;
                    self.land(None);
                }
                () = outbox.wake.notified() => {}
                built = built(&mut self.ladder) => self.ladder_built(built),
                _ = &mut lost => return,
                // An error means that the session is gone, which `lost` reports.
                _ = blocked.changed() => {}
                _ = look.tick() => {
                    let expired = self.expire(session.blocked().as_deref());
                    if !channel.status().connected() || expired > WINDOW / 2 {
                        return;
                    }
                    stall.look(&outbox.lock());
                    if stall.looks >= OVERTAKEN_AFTER {
                        self.land(Some(channel));
                    }
                    match self.judge(session) {
                        Judgement::Useful => {}
                        Judgement::ChannelIsUseless => return,
                        Judgement::NodeIsUseless => {
                            session.forsake("its node confirms nothing, and may be cut off from its cluster");
                            return;
                        }
                    }
                    if stall.silent >= SILENT_AFTER && !session.is_blocked() {
                        // RabbitMQ is known to stop reading from a connection for good after a queue was deleted under
                        // it.
                        stall.silent = 0;
                        let session = Arc::clone(session);
                        io::spawn(async move { session.probe().await });
                    }
                }
            }
        }
    }

    /// Judges the node and the channel by what they owe.
    fn judge(&mut self, session: &Session) -> Judgement {
        let owes = self.outbox.lock().channel.as_ref().is_some_and(|open| !open.unconfirmed.is_empty());
        let now = Instant::now();
        if !owes || session.is_blocked() {
            self.suspicion.rest();
            if let Some(recovery) = &mut self.recovery {
                recovery.rest();
            }
        } else if self.suspicion.waits(now) && self.outbox.link.has_several_places() {
            return Judgement::NodeIsUseless;
        } else if self.recovery.as_mut().is_some_and(|recovery| recovery.waits(now)) {
            return Judgement::ChannelIsUseless;
        }
        Judgement::Useful
    }

    /// Sends pending messages, and starts building the ladder if one needs it. Returns false if the channel is gone.
    fn send(&mut self) -> bool {
        let mut pending = self.outbox.lock();
        self.outbox.send(&mut pending);
        let Some(open) = &pending.channel else { return false };
        if !pending.delayed.is_empty() {
            let (session, topology) = (Arc::clone(&open.session), Arc::clone(&self.outbox.topology));
            self.ladder.get_or_insert_with(|| io::spawn(async move { topology.declare_ladder(&session).await }));
        }
        open.unconfirmed.failure().is_none() && open.session.is_open()
    }

    fn ladder_built(&mut self, built: Result<(), DeclareFault>) {
        let mut pending = self.outbox.lock();
        let delayed = std::mem::take(&mut pending.delayed);
        match built {
            Err(fault) if fault.is_refusal() => {
                drop(pending);
                let why = full_message(&fault.during("declaring the delay queues"));
                for outgoing in delayed {
                    let (what, source) =
                        (format!("delaying a message for the queue {:?}", outgoing.queue), why.clone().into());
                    outgoing.answer(Err(BrokerError::Failed { what, source }.into()));
                }
            }
            // If the connection was lost, the ladder is built on the next one.
            Ok(()) | Err(_) => pending.backlog.extend(delayed.into_iter().map(Box::new)),
        }
    }

    /// Answers publications: in order, or with `overtaking`, also those after one that is not confirmed on that
    /// channel.
    fn land(&mut self, overtaking: Option<&Channel>) {
        let mut pending = self.outbox.lock();
        let Some(open) = &mut pending.channel else { return };
        // Answered below, without the lock: each answer wakes a caller, which may need it.
        let landed = &mut self.landed;
        let collect = |slot, outcome| landed.push((slot, outcome));
        match overtaking {
            None => open.unconfirmed.land(collect),
            Some(channel) => open.unconfirmed.land_out_of_order(
                || {
                    // The result is irrelevant: the call takes the lock that lapin holds while it works on a frame.
                    let _ = channel.wait_for_confirms().now_or_never();
                },
                collect,
            ),
        }
        // More can be sent while the answers are given.
        self.outbox.send(&mut pending);
        drop(pending);
        if !self.landed.is_empty() {
            self.suspicion.clear();
            self.recovery = None;
        }
        for (slot, outcome) in self.landed.drain(..) {
            let SendSlot::Unanswered(outgoing) = slot else { continue };
            let queue = || outgoing.queue.to_string();
            let outcome = match outcome {
                PublishOutcome::Stored => Ok(()),
                PublishOutcome::Refused => Err(PublishError::Nacked { queue: queue() }),
                PublishOutcome::Returned if outgoing.due.is_some_and(|due| due > Instant::now()) => {
                    // The ladder is missing, rather than the queue; the next attempt builds it.
                    self.outbox.topology.invalidate_ladder();
                    self.outbox.lock().backlog.push_back(outgoing);
                    continue;
                }
                PublishOutcome::Returned => {
                    self.outbox.topology.invalidate(&outgoing.queue);
                    Err(PublishError::Unroutable { queue: queue() })
                }
            };
            outgoing.answer(outcome);
        }
    }

    /// Puts the unanswered publications of a lost channel back, to be sent again.
    fn bring_back(&self, unconfirmed: Unconfirmed<SendSlot>) {
        let failure = unconfirmed.failure().map(complaint).unwrap_or_default();
        let size_max = broker_size_max(&failure);
        let refused = refused_exchange(&failure);
        if unconfirmed.failure().is_some() {
            tracing::debug!(failure, unanswered = unconfirmed.len(), "the channel for publishing was lost");
        }
        if failure.starts_with("NOT_FOUND") {
            // Only the ladder's exchanges are published to by name.
            self.outbox.topology.invalidate_ladder();
        }
        let mut pending = self.outbox.lock();
        for slot in unconfirmed.into_slots().rev() {
            let SendSlot::Unanswered(mut outgoing) = slot else { continue };
            let size = outgoing.message.body.len();
            // These messages would close the next channel too, for all others.
            if let Some(limit) = size_max.filter(|limit| size > *limit) {
                outgoing.answer(Err(PublishError::TooLarge { size, limit, setting: PublishError::RABBITMQ_LIMIT }));
            } else if refused == Some(&*outgoing.exchange) {
                let (what, source) = (format!("publishing to the queue {:?}", outgoing.queue), failure.clone().into());
                outgoing.answer(Err(BrokerError::Failed { what, source }.into()));
            } else {
                outgoing.resent = true;
                pending.backlog.push_front(outgoing);
            }
        }
    }

    /// Answers the publications that timed out, and returns how many of them are sent and unconfirmed.
    fn expire(&self, blocked: Option<&str>) -> usize {
        let now = Instant::now();
        let error = || match blocked {
            Some(reason) => PublishError::Blocked { reason: reason.to_owned() },
            None => PublishError::TimedOut { after: self.timeout },
        };
        let Pending { backlog, delayed, channel, .. } = &mut *self.outbox.lock();
        // Deadlines are almost in order, so a publication behind a later deadline may wait for that.
        while backlog.front().is_some_and(|outgoing| outgoing.deadline <= now) {
            let Some(outgoing) = backlog.pop_front() else { break };
            outgoing.answer(Err(error()));
        }
        for outgoing in delayed.extract_if(.., |outgoing| outgoing.deadline <= now) {
            outgoing.answer(Err(error()));
        }
        let Some(open) = channel else { return 0 };
        let mut expired = 0;
        for slot in open.unconfirmed.slots_mut() {
            slot.answer_if_late(now, error);
            expired += usize::from(matches!(slot, SendSlot::Answered { .. }));
        }
        expired
    }
}

impl Stall {
    fn look(&mut self, pending: &Pending) {
        let Some(open) = &pending.channel else { return };
        let (oldest, count) = (open.unconfirmed.oldest(), open.unconfirmed.len());
        let same = oldest.is_some() && self.seen.0 == oldest;
        self.looks = if same { self.looks + 1 } else { 0 };
        // A smaller number means that something was answered out of order; a larger one means nothing.
        self.silent = if same && count >= self.seen.1 { self.silent + 1 } else { 0 };
        self.seen = (oldest, count);
    }
}

/// Opens a channel for publishing. After an `outage`, all queues are declared again.
async fn prepare(session: Arc<Session>, topology: Arc<Topology>, outage: bool) -> Result<Channel, RequestFault> {
    for spec in if outage { topology.specs() } else { Vec::new() } {
        match topology.declare(&session, &spec).await {
            Err(DeclareFault::Request(fault)) if !fault.is_refusal() => return Err(fault),
            Err(fault) => {
                let error = fault.during(format!("declaring the queue {:?} again", spec.name));
                tracing::warn!(error = &error as &dyn std::error::Error, "a queue is not as it was before the outage");
            }
            Ok(_) => {}
        }
    }
    session.confirming_channel().await
}

/// Completes when the ladder is built, if it is being built.
async fn built(ladder: &mut Option<JoinHandle<Result<(), DeclareFault>>>) -> Result<(), DeclareFault> {
    let Some(task) = ladder else { return future::pending().await };
    let outcome = task.await;
    *ladder = None;
    match outcome {
        Ok(outcome) => outcome,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

fn look_interval() -> time::Interval {
    let mut interval = time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The broker's reason for closing the channel.
fn complaint(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// The broker's own limit on message sizes, if that was the reason.
fn broker_size_max(complaint: &str) -> Option<usize> {
    complaint.split_once("larger than configured max size ")?.1.trim().parse().ok()
}

/// The exchange to which the user may not publish, if that was the reason. The default exchange has no name for
/// publishers, and one in the broker's words.
fn refused_exchange(complaint: &str) -> Option<&str> {
    let (_, rest) = complaint.strip_prefix("ACCESS_REFUSED")?.split_once("access to exchange '")?;
    let (exchange, _) = rest.split_once("' in vhost")?;
    Some(if exchange == "amq.default" { "" } else { exchange })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_exchange_is_read() {
        for (complaint, expected) in [
            ("ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'app'", Some("")),
            (
                "ACCESS_REFUSED - write access to exchange 'taskq.delay.5' in vhost 'x' refused for user 'app'",
                Some("taskq.delay.5"),
            ),
            ("ACCESS_REFUSED - access to queue 'mail' in vhost '/' refused for user 'app'", None),
            ("NOT_FOUND - no exchange 'x' in vhost '/'", None),
        ] {
            assert_eq!(refused_exchange(complaint), expected, "{complaint}");
        }
    }

    #[test]
    fn the_brokers_limit_is_read() {
        let text = "PRECONDITION_FAILED - message size 20971520 is larger than configured max size 16777216";
        assert_eq!(broker_size_max(text), Some(16_777_216));
        assert_eq!(broker_size_max("NOT_FOUND - no exchange 'x' in vhost '/'"), None);
    }
}
