//! The one task that publishes.
//!
//! Everything goes through one task and one channel: threads that share a channel can swap each other's confirms.
//! Messages are put on the wire without waiting for the socket or for their confirms, up to a window, and answered
//! by the rule in [`flight`](super::flight). What is unanswered when the connection is lost goes out again on the
//! next one, in the old order and marked, until its time is over.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::convert::{self, Unsendable};
use super::delay;
use super::flight::{Flights, Landing};
use super::link::Link;
use super::session::{Fault, Session};
use super::topology::{DeclareFault, Topology};
use crate::broker::{BrokerError, BrokerOptions, Publication, PublishError};
use crate::io;
use crate::message::WireMessage;
use crate::task::BoxError;

/// How many publications are on the wire at once. More gains nothing, and all of them are sent twice after a loss.
const WINDOW: usize = 1024;

/// How much may be handed over and unanswered, in units of a kibibyte or part of one per message: 64 MiB, or 65,536
/// small messages. Beyond it, publishing waits before it hands over.
const ROOM: usize = 65_536;

/// How often publications are looked through for those whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// How long the oldest publication may hold up the answers of later ones, in looks at it.
const OVERTAKEN_AFTER: u32 = 4;

/// How long there may be no confirm at all before the broker is asked whether it still listens, in looks.
const SILENT_AFTER: u32 = 8;

/// The pause before another channel is opened after the broker closed one.
const CHANNEL_PAUSE: Duration = Duration::from_millis(100);

/// Takes publications from everywhere and hands them to the publishing task.
pub(super) struct Publisher {
    intake: mpsc::UnboundedSender<Intake>,
    room: Arc<Semaphore>,
    timeout: Duration,
    size_max: usize,
    closed: AtomicBool,
}

enum Intake {
    Message(Outgoing),
    /// Nothing follows; say when everything before is answered.
    Close(oneshot::Sender<()>),
}

/// A publication that waits for its answer.
struct Outgoing {
    queue: Arc<str>,
    message: WireMessage,
    /// When it may arrive, if it is held back.
    due: Option<Instant>,
    deadline: Instant,
    /// It was on the wire before.
    resent: bool,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// What it takes of [`ROOM`].
    room: OwnedSemaphorePermit,
}

impl Publisher {
    /// Begins to publish over `link`, until [`Publisher::close`], or until it is dropped and everything is answered.
    pub(super) fn start(link: Arc<Link>, topology: Arc<Topology>, options: &BrokerOptions) -> Self {
        let (intake, inbox) = mpsc::unbounded_channel();
        let worker = Worker {
            link,
            topology,
            inbox,
            backlog: VecDeque::new(),
            delayed: Vec::new(),
            ladder: None,
            timeout: options.publish_timeout,
            last: None,
        };
        io::spawn(worker.run());
        Self {
            intake,
            room: Arc::new(Semaphore::new(ROOM)),
            timeout: options.publish_timeout,
            size_max: options.max_message_bytes,
            closed: AtomicBool::new(false),
        }
    }

    /// Hands a message over, at once as long as there is room. The future waits for the answer; the time allowed
    /// counts from now.
    pub(super) fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        if self.closed.load(Ordering::Acquire) {
            return future::ready(Err(BrokerError::Closed.into())).boxed();
        }
        let (size, limit) = (publication.message.body.len(), self.size_max);
        if size > limit {
            return future::ready(Err(PublishError::TooLarge { size, limit })).boxed();
        }
        let now = Instant::now();
        let deadline = now + self.timeout;
        let due = publication.delay.filter(|delay| !delay.is_zero()).map(|delay| {
            // An instant that does not exist is as good as the end of the ladder.
            now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
        });
        let (answer, answered) = oneshot::channel();
        let Publication { queue, message, .. } = publication;
        let hand_over = move |room| Outgoing { queue, message, due, deadline, resent: false, answer, room };
        let units = u32::try_from((size / 1024 + 1).min(ROOM)).expect("it is at most 65,536");
        match Arc::clone(&self.room).try_acquire_many_owned(units) {
            Ok(room) => {
                // An error means that the task has ended, and `answered` will say so.
                let _ = self.intake.send(Intake::Message(hand_over(room)));
                async move { answered.await.unwrap_or_else(|_| Err(BrokerError::Closed.into())) }.boxed()
            }
            Err(_) => {
                let (room, intake, after) = (Arc::clone(&self.room), self.intake.clone(), self.timeout);
                async move {
                    // On the I/O runtime, since the caller's may have no timers.
                    let room = io::run(time::timeout_at(deadline, room.acquire_many_owned(units))).await;
                    let Ok(Ok(room)) = room else { return Err(PublishError::TimedOut { after }) };
                    let _ = intake.send(Intake::Message(hand_over(room)));
                    answered.await.unwrap_or_else(|_| Err(BrokerError::Closed.into()))
                }
                .boxed()
            }
        }
    }

    /// Takes nothing more, and returns when everything is answered.
    pub(super) async fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let (done, closed) = oneshot::channel();
        if self.intake.send(Intake::Close(done)).is_ok() {
            // Either way the task has nothing left to do.
            let _ = closed.await;
        }
    }
}

/// The publishing task.
struct Worker {
    link: Arc<Link>,
    topology: Arc<Topology>,
    inbox: mpsc::UnboundedReceiver<Intake>,
    /// Not on the wire, oldest first.
    backlog: VecDeque<Outgoing>,
    /// Waiting for the delay ladder to be built, and what builds it.
    delayed: Vec<Outgoing>,
    ladder: Option<JoinHandle<Result<(), Fault>>>,
    timeout: Duration,
    /// `Some` once nothing follows.
    last: Option<Vec<oneshot::Sender<()>>>,
}

/// On the wire. Answered early if its time is over, but its confirm is still to come, and it still takes room.
enum Cargo {
    Unanswered(Outgoing),
    Answered { _room: OwnedSemaphorePermit },
}

type Flying = Flights<Cargo>;

/// For how long nothing moved.
#[derive(Default)]
struct Stall {
    seen: (Option<u64>, usize),
    /// Looks since the oldest changed.
    looks: u32,
    /// Looks since anything was confirmed, or the broker was asked why not.
    silent: u32,
}

impl Stall {
    fn look(&mut self, oldest: Option<u64>, count: usize) {
        let same = oldest.is_some() && self.seen.0 == oldest;
        self.looks = if same { self.looks + 1 } else { 0 };
        // A smaller number was answered out of order, and a larger one says nothing.
        self.silent = if same && count >= self.seen.1 { self.silent + 1 } else { 0 };
        self.seen = (oldest, count);
    }
}

impl Worker {
    async fn run(mut self) {
        // Whether queues may be gone that were there. Those that somebody deleted while the broker was up are not made
        // again behind his back.
        let mut outage = false;
        while !self.is_done() {
            let link = Arc::clone(&self.link);
            let Some(Some(session)) = self.meanwhile(async move { link.session().await }).await else { break };
            let prepared = self.meanwhile(prepare(Arc::clone(&session), Arc::clone(&self.topology), outage)).await;
            let Some(prepared) = prepared else { break };
            match prepared {
                Ok(channel) => self.publish_over(&session, channel).await,
                Err(error) => {
                    tracing::warn!(%error, "no channel to publish on");
                    self.meanwhile(time::sleep(CHANNEL_PAUSE)).await;
                }
            }
            while session.is_open() && !self.is_done() {
                // The broker closed the channel, not the connection: another one, after a moment.
                self.meanwhile(time::sleep(CHANNEL_PAUSE)).await;
                let next = Arc::clone(&session);
                match self.meanwhile(async move { next.confirming_channel().await }).await {
                    Some(Ok(channel)) => self.publish_over(&session, channel).await,
                    Some(Err(error)) => tracing::warn!(%error, "no channel to publish on"),
                    None => break,
                }
            }
            self.topology.doubt_all();
            outage = !session.was_deaf();
        }
        for outgoing in self.backlog.drain(..).chain(self.delayed.drain(..)) {
            answer(outgoing, Err(BrokerError::Closed.into()));
        }
        self.link.close().await;
        for done in self.last.into_iter().flatten() {
            // Nobody has to wait for it.
            let _ = done.send(());
        }
    }

    fn is_done(&self) -> bool {
        self.last.is_some() && self.backlog.is_empty() && self.delayed.is_empty()
    }

    /// Waits for something while publications come in and run out of time. `None` if there is nothing left to
    /// publish before it happened.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = std::pin::pin!(wait);
        let mut expiry = expiry_interval();
        loop {
            tokio::select! {
                outcome = &mut wait => return Some(outcome),
                intake = self.inbox.recv(), if self.last.is_none() => self.take_in(intake),
                built = built(&mut self.ladder) => self.ladder_built(built),
                _ = expiry.tick() => self.expire_backlog(None),
            }
            if self.is_done() {
                return None;
            }
        }
    }

    fn take_in(&mut self, intake: Option<Intake>) {
        match intake {
            Some(Intake::Message(outgoing)) => self.backlog.push_back(outgoing),
            Some(Intake::Close(done)) => self.last.get_or_insert_default().push(done),
            None => self.last = Some(Vec::new()),
        }
    }

    /// Publishes over one channel until it is lost, or until there is nothing left to do.
    async fn publish_over(&mut self, session: &Arc<Session>, channel: Channel) {
        let channel = Arc::new(channel);
        let mut flying = Flying::new();
        let mut lost = std::pin::pin!(session.lost());
        let mut blocked = session.blocked_changes();
        let mut expiry = expiry_interval();
        let mut batch = Vec::new();
        let mut stall = Stall::default();
        loop {
            let is_blocked = session.blocked();
            // What is handed to lapin while the broker takes nothing would only wait there, out of our sight.
            while is_blocked.is_none() && flying.len() < WINDOW && flying.failure().is_none() {
                let Some(outgoing) = self.backlog.pop_front() else { break };
                if !self.launch(session, &channel, &mut flying, outgoing) {
                    break;
                }
            }
            if flying.failure().is_some() || (flying.is_empty() && self.is_done()) {
                break;
            }
            tokio::select! {
                biased;
                () = poll_fn(|context| flying.poll_first(context)), if !flying.is_empty() => {
                    // Confirms come in bunches; the I/O thread of lapin is likely to be in the middle of one.
                    tokio::task::yield_now().await;
                    self.land(&mut flying, None);
                }
                _ = self.inbox.recv_many(&mut batch, WINDOW), if self.last.is_none() && self.backlog.len() < WINDOW => {
                    if batch.is_empty() {
                        self.take_in(None);
                    }
                    for intake in batch.drain(..) {
                        self.take_in(Some(intake));
                    }
                }
                built = built(&mut self.ladder) => self.ladder_built(built),
                _ = &mut lost => break,
                // An error means that the session is gone, which `lost` tells.
                _ = blocked.changed() => {}
                _ = expiry.tick() => {
                    self.expire_backlog(is_blocked.as_deref());
                    let expired = self.expire_flying(&mut flying, is_blocked.as_deref());
                    if !channel.status().connected() || expired > WINDOW / 2 {
                        break;
                    }
                    stall.look(flying.oldest(), flying.len());
                    if stall.looks >= OVERTAKEN_AFTER {
                        self.land(&mut flying, Some(&channel));
                    }
                    if stall.silent >= SILENT_AFTER && is_blocked.is_none() {
                        // Brokers are known to stop reading from a connection for good, over a queue that was
                        // deleted under it.
                        stall.silent = 0;
                        let session = Arc::clone(session);
                        io::spawn(async move { session.probe().await });
                    }
                }
            }
        }
        self.land(&mut flying, None);
        self.bring_back(flying);
    }

    /// Puts a publication on the wire, unless it is answered already or has to wait. False if the session is to be
    /// left.
    fn launch(&mut self, session: &Arc<Session>, channel: &Arc<Channel>, flying: &mut Flying, outgoing: Outgoing) -> bool {
        let delay = outgoing.due.map(|due| due.saturating_duration_since(Instant::now())).filter(|delay| !delay.is_zero());
        if delay.is_some() && !self.topology.has_ladder() {
            self.build_ladder(session, outgoing);
            return true;
        }
        let (exchange, key) = match delay {
            Some(delay) => delay::route(delay, &outgoing.queue),
            None => (String::new(), outgoing.queue.to_string()),
        };
        let properties = convert::to_amqp(&outgoing.message, flying.next_number(), outgoing.resent, session.frame_max());
        let unsendable = match (ShortString::try_new(key), properties) {
            (Ok(key), Ok(properties)) => {
                let body = outgoing.message.body.clone();
                let confirm = send(Arc::clone(channel), exchange.into(), key, body, properties);
                flying.launch(Cargo::Unanswered(outgoing), Box::pin(confirm));
                return true;
            }
            (Err(_), _) => {
                Unsendable::TooLong { what: "name of the queue".to_owned(), bytes: outgoing.queue.len() }
            }
            (_, Err(Unsendable::Headers { .. })) if !self.link.is_wide() => {
                // A message that somebody with larger frames sent must be able to go round again.
                self.link.widen();
                self.backlog.push_front(outgoing);
                session.fail("a message needs larger frames");
                return false;
            }
            (_, Err(unsendable)) => unsendable,
        };
        let what = format!("sending a message to {:?}", outgoing.queue);
        let error = BrokerError::Failed { what, source: Box::new(unsendable) as BoxError };
        answer(outgoing, Err(error.into()));
        true
    }

    /// Makes the ladder exist, beside the publishing; the message waits for it.
    fn build_ladder(&mut self, session: &Arc<Session>, outgoing: Outgoing) {
        self.delayed.push(outgoing);
        let (session, topology) = (Arc::clone(session), Arc::clone(&self.topology));
        self.ladder.get_or_insert_with(|| io::spawn(async move { topology.declare_ladder(&session).await }));
    }

    fn ladder_built(&mut self, built: Result<(), Fault>) {
        match built {
            Err(fault) if fault.is_refusal() => {
                for outgoing in self.delayed.drain(..) {
                    let source = fault.to_string().into();
                    let error = BrokerError::Failed { what: "declaring the delay queues".to_owned(), source };
                    answer(outgoing, Err(error.into()));
                }
            }
            // If the connection was lost, the next one has it built.
            Ok(()) | Err(_) => self.backlog.extend(self.delayed.drain(..)),
        }
    }

    /// Answers what can be answered: in order, or on `overtaking` that channel past what is not confirmed.
    fn land(&mut self, flying: &mut Flying, overtaking: Option<&Channel>) {
        let Self { topology, backlog, .. } = self;
        let land = |cargo, landing| {
            let Cargo::Unanswered(outgoing) = cargo else { return };
            let queue = || outgoing.queue.to_string();
            let outcome = match landing {
                Landing::Stored => Ok(()),
                Landing::Refused => Err(PublishError::Nacked { queue: queue() }),
                Landing::Returned if outgoing.due.is_some_and(|due| due > Instant::now()) => {
                    // It is the ladder that is not there; the next attempt builds it.
                    topology.doubt_ladder();
                    backlog.push_back(outgoing);
                    return;
                }
                Landing::Returned => {
                    topology.doubt(&outgoing.queue);
                    Err(PublishError::Unroutable { queue: queue() })
                }
            };
            answer(outgoing, outcome);
        };
        match overtaking {
            None => flying.land(land),
            Some(channel) => flying.land_out_of_order(
                || {
                    // Whatever it answers: to do so, it takes the lock that is held while a frame is worked on.
                    let _ = channel.wait_for_confirms().now_or_never();
                },
                land,
            ),
        }
    }

    /// Takes what is unanswered off a wire that is gone, to be sent again.
    fn bring_back(&mut self, flying: Flying) {
        let failure = flying.failure().map(complaint).unwrap_or_default();
        let size_max = broker_size_max(&failure);
        if flying.failure().is_some() {
            tracing::debug!(failure, unanswered = flying.len(), "the channel for publishing was lost");
        }
        if failure.starts_with("NOT_FOUND") {
            // The only exchanges that are named are the ladder's.
            self.topology.doubt_ladder();
        }
        for cargo in flying.into_cargo().rev() {
            let Cargo::Unanswered(mut outgoing) = cargo else { continue };
            let size = outgoing.message.body.len();
            match size_max {
                // It would cost the next channel, too, and with it everybody else's.
                Some(limit) if size > limit => answer(outgoing, Err(PublishError::TooLarge { size, limit })),
                _ => {
                    outgoing.resent = true;
                    self.backlog.push_front(outgoing);
                }
            }
        }
    }

    fn expire_backlog(&mut self, blocked: Option<&str>) {
        let now = Instant::now();
        let late = |outgoing: &mut Outgoing| outgoing.deadline <= now;
        let timeout = self.timeout;
        // The deadlines are almost in order, so one that is behind a later one may wait for that.
        while self.backlog.front_mut().is_some_and(late) {
            let Some(outgoing) = self.backlog.pop_front() else { break };
            answer(outgoing, Err(too_late(timeout, blocked)));
        }
        for outgoing in self.delayed.extract_if(.., late) {
            answer(outgoing, Err(too_late(timeout, blocked)));
        }
    }

    /// Answers those whose time is over, and says how many there are by now.
    fn expire_flying(&self, flying: &mut Flying, blocked: Option<&str>) -> usize {
        let now = Instant::now();
        let mut expired = 0;
        for cargo in flying.cargo_mut() {
            cargo.answer_if_late(now, || too_late(self.timeout, blocked));
            expired += usize::from(matches!(cargo, Cargo::Answered { .. }));
        }
        expired
    }
}

impl Cargo {
    /// Answers a publication whose time is over, and leaves its room taken.
    fn answer_if_late(&mut self, now: Instant, error: impl FnOnce() -> PublishError) {
        let Self::Unanswered(outgoing) = self else { return };
        if outgoing.deadline > now {
            return;
        }
        let nothing = outgoing.room.split(0).expect("nothing can always be split off");
        let room = std::mem::replace(&mut outgoing.room, nothing);
        if let Self::Unanswered(outgoing) = std::mem::replace(self, Self::Answered { _room: room }) {
            answer(outgoing, Err(error()));
        }
    }
}

fn too_late(timeout: Duration, blocked: Option<&str>) -> PublishError {
    match blocked {
        Some(reason) => PublishError::Blocked { reason: reason.to_owned() },
        None => PublishError::TimedOut { after: timeout },
    }
}

/// Returns when the ladder is built, if it is being built.
async fn built(ladder: &mut Option<JoinHandle<Result<(), Fault>>>) -> Result<(), Fault> {
    let Some(task) = ladder else { return future::pending().await };
    let outcome = task.await;
    *ladder = None;
    match outcome {
        Ok(outcome) => outcome,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

/// Opens a channel to publish on, after an outage with everything declared that was declared before.
async fn prepare(session: Arc<Session>, topology: Arc<Topology>, again: bool) -> Result<Channel, Fault> {
    if again {
        for spec in topology.specs() {
            match topology.declare(&session, &spec).await {
                Err(DeclareFault::Fault(fault)) if !fault.is_refusal() => return Err(fault),
                Err(fault) => {
                    let error = fault.during(format!("declaring the queue {:?} again", spec.name));
                    tracing::warn!(error = &error as &dyn std::error::Error, "a queue is not as it was before the outage");
                }
                Ok(_) => {}
            }
        }
    }
    session.confirming_channel().await
}

async fn send(
    channel: Arc<Channel>,
    exchange: ShortString,
    key: ShortString,
    body: Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish(exchange, key, options, &body, properties).await?.await
}

fn answer(outgoing: Outgoing, outcome: Result<(), PublishError>) {
    // Whoever asked may not be waiting any more.
    let _ = outgoing.answer.send(outcome);
}

fn expiry_interval() -> time::Interval {
    let mut interval = time::interval(EXPIRY_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// What the broker said when it closed the channel.
fn complaint(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// The broker's own limit on message sizes, if that was the complaint.
fn broker_size_max(complaint: &str) -> Option<usize> {
    complaint.split_once("larger than configured max size ")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_limit_is_read() {
        let text = "PRECONDITION_FAILED - message size 20971520 is larger than configured max size 16777216";
        assert_eq!(broker_size_max(text), Some(16_777_216));
        assert_eq!(broker_size_max("NOT_FOUND - no exchange 'x' in vhost '/'"), None);
    }
}
