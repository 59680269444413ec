//! The consumer, the task behind a consumption: it opens the channel with its AMQP consumers, and reopens them after
//! every loss.
//!
//! One channel carries all queues of a consumption, with one AMQP consumer each. A queue that cannot be consumed from
//! at the moment is retried on its own and does not stop the others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicCancelOptions;
use lapin::types::ShortString;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};

use super::command::{Command, Plan};
use super::consumer_timeout;
use super::control::Control;
use super::deliveries::{Deliveries, EndedConsumer, Sources};
use super::link::Link;
use super::reattachment::Guard;
use super::session::{RequestFault, Session};
use super::settle::{Back, ChannelSettler};
use super::topology::{DeclareFault, Topology};
use crate::broker::{BrokerError, Consumption, ConsumptionControl};
use crate::io;

/// The interval at which the channel's state is checked, and queues are retried.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The interval between requests to the broker on the channel, since silence can also mean that it is dead.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Bounds of the pause before a queue is retried.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// The fraction of the broker's time limit after which messages that wait for their reader count as stale. They may be
/// twice as old by then, a quarter of the limit, which leaves their reader at least three quarters.
const STALE_PART: u32 = 8;

/// Begins to consume. Returns when every queue was tried once; an error if one of them does not exist or may not be
/// read.
pub(super) async fn consume(
    link: Arc<Link>,
    topology: Arc<Topology>,
    plan: Plan,
) -> Result<(Consumption, Arc<Control>), BrokerError> {
    let Plan { queues, prefetch, origin, settle_within } = plan;
    let sources = Sources::new(&queues);
    let (commands, inbox) = mpsc::unbounded_channel();
    let (ready, first) = oneshot::channel();
    let consumer = Consumer {
        link: Arc::clone(&link),
        topology,
        sources: Arc::clone(&sources),
        inbox,
        prefetch,
        origin,
        settle_within,
        queues,
        retries: HashMap::new(),
        other_kind: HashSet::new(),
        ready: Some(ready),
    };
    io::spawn(consumer.run());
    first.await.unwrap_or(Err(BrokerError::Closed))?;
    // The consumer does not keep the channel of commands open: when stream and control are dropped, it ends.
    let commands = Arc::new(commands);
    let control = Arc::new(Control { link, sources: Arc::clone(&sources), commands: Arc::clone(&commands) });
    let deliveries = Box::pin(Deliveries { sources, commands });
    Ok((Consumption { deliveries, control: Arc::clone(&control) as Arc<dyn ConsumptionControl> }, control))
}

struct Consumer {
    link: Arc<Link>,
    topology: Arc<Topology>,
    sources: Arc<Sources>,
    inbox: mpsc::UnboundedReceiver<Command>,
    prefetch: u16,
    origin: Option<Arc<str>>,
    settle_within: Option<Duration>,
    queues: Vec<Arc<str>>,
    /// Queues that could not be consumed from: the time of the next attempt, and the pause after that.
    retries: HashMap<Arc<str>, (Instant, Duration)>,
    /// Queues that are of another kind than they were declared as, as where the virtual host has another default.
    other_kind: HashSet<Arc<str>>,
    /// The channel for the outcome of the first attempt.
    ready: Option<oneshot::Sender<Result<(), BrokerError>>>,
}

/// An open channel with its session and settler.
struct ConsumerChannel {
    session: Arc<Session>,
    channel: Channel,
    settler: Arc<ChannelSettler>,
    guard: Guard,
}

impl ConsumerChannel {
    /// The reason why the channel is unusable, if it is.
    fn gone(&self) -> Option<&'static str> {
        if !self.session.is_open() {
            Some("the connection is gone")
        } else if !self.channel.status().connected() {
            Some("the broker closed the channel")
        } else {
            None
        }
    }

    /// Closes the channel. When this completes, the broker has applied the settlements and put the other messages
    /// back.
    async fn close(&self) {
        self.settler.finish().await;
        if let Err(fault) = self.session.ask(self.channel.close(200, "closed".into())).await {
            tracing::debug!(%fault, "the channel ended by itself");
        }
        self.settler.end();
    }
}

/// The reason for leaving a channel.
enum ChannelEnd {
    /// The channel was lost.
    Lost(String),
    /// The broker ended a consumer because its queue was deleted.
    Deleted,
    /// The consumption is not needed any more.
    Done(Option<oneshot::Sender<()>>),
}

impl Consumer {
    async fn run(mut self) {
        let done = loop {
            let open = match self.open().await {
                Ok(open) => open,
                Err(done) => break done,
            };
            match self.attend(&open).await {
                ChannelEnd::Lost(reason) => {
                    open.settler.end();
                    for (queue, _) in self.sources.tags() {
                        self.topology.invalidate(&queue);
                    }
                    self.tell_of_loss(&reason, self.sources.clear());
                }
                ChannelEnd::Deleted => {
                    for queue in self.sources.vacant() {
                        tracing::warn!(queue = &*queue, "the queue was deleted; consuming starts again");
                        self.topology.invalidate(&queue);
                    }
                    // Running tasks go on, and take their messages over when those are delivered to this worker again.
                    self.sources.clear();
                    open.close().await;
                }
                ChannelEnd::Done(done) => {
                    self.sources.end();
                    open.close().await;
                    break done;
                }
            }
        };
        self.sources.end();
        if let Some(done) = done {
            // The caller may not be waiting any more.
            let _ = done.send(());
        }
    }

    /// Opens a channel, however long that takes. An error means that the consumption is not needed any more.
    async fn open(&mut self) -> Result<ConsumerChannel, Option<oneshot::Sender<()>>> {
        let mut pause = Duration::ZERO;
        loop {
            let broker = Arc::clone(&self.link);
            let opening = async move {
                time::sleep(pause).await;
                let session = broker.session().await?;
                Some(session.channel().await.map(|channel| (session, channel)))
            };
            let mut opening = std::pin::pin!(opening);
            let opened = loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    command = self.inbox.recv() => match command {
                        Some(Command::SetPrefetch(prefetch) | Command::CapOutstanding(prefetch)) => self.prefetch = prefetch,
                        Some(Command::Vacant | Command::Wanted | Command::GiveBackUnread) => {}
                        Some(Command::SuspendFetching(done)) => drop(done),
                        // Nothing is fetched without a channel, so stopping ends the stream.
                        Some(Command::Stop) => self.sources.end(),
                        Some(Command::Close(done)) => return Err(Some(done)),
                        None => return Err(None),
                    },
                }
            };
            match opened {
                None => return Err(None),
                Some(Ok((session, channel))) => {
                    let back = if self.origin.is_some() { Back::Origin } else { Back::Queue };
                    let settler = ChannelSettler::new(channel.clone(), self.prefetch, back);
                    let guard = self.guard(&session);
                    return Ok(ConsumerChannel { session, channel, settler, guard });
                }
                Some(Err(fault)) => {
                    if let Some(ready) = self.ready.take() {
                        // The caller may not be waiting any more.
                        let _ = ready.send(Err(fault.during("opening a channel")));
                        return Err(None);
                    }
                    pause = (pause * 2).clamp(RETRY_MIN, RETRY_MAX);
                }
            }
        }
    }

    /// The guard that the consumers on a channel of this session need.
    fn guard(&self, session: &Session) -> Guard {
        Guard::against(session.abilities(), self.queues.iter().any(|queue| self.topology.is_quorum(queue)))
    }

    /// Consumes over one channel for as long as it is open and needed.
    async fn attend(&mut self, open: &ConsumerChannel) -> ChannelEnd {
        let mut watch = time::interval(WATCH_INTERVAL);
        let mut probe = time::interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
        let mut lost = std::pin::pin!(open.session.lost());
        self.fill(open).await;
        loop {
            if let Some(reason) = open.gone() {
                return ChannelEnd::Lost(reason.to_owned());
            }
            tokio::select! {
                reason = &mut lost => return ChannelEnd::Lost(reason.to_string()),
                command = self.inbox.recv() => match command {
                    Some(Command::Vacant) => {
                        if let Some(end) = self.replace_ended(open).await {
                            return end;
                        }
                    }
                    Some(Command::Wanted) => self.fill(open).await,
                    Some(Command::GiveBackUnread) => self.suspend_fetching(open, self.sources.unread()).await,
                    Some(Command::SuspendFetching(done)) => {
                        self.suspend_fetching(open, self.sources.tags()).await;
                        // The caller may not be waiting any more.
                        let _ = done.send(());
                    }
                    Some(Command::SetPrefetch(prefetch)) => {
                        if prefetch != self.prefetch && !self.sources.is_stopping() {
                            self.change_prefetch(open, prefetch).await;
                        }
                    }
                    Some(Command::CapOutstanding(prefetch)) => {
                        if !self.sources.is_stopping() {
                            self.cap_outstanding(open, prefetch).await;
                        }
                    }
                    Some(Command::Stop) => {
                        self.cancel_all(open).await;
                        self.sources.end();
                        open.settler.flush();
                    }
                    Some(Command::Close(done)) => {
                        self.cancel_all(open).await;
                        return ChannelEnd::Done(Some(done));
                    }
                    None => return ChannelEnd::Done(None),
                },
                _ = watch.tick() => {
                    self.sources.end_turn();
                    // A reader that is busy for long does not see the end of a consumer, and it is just such readers
                    // that hold deliveries for too long.
                    if open.session.abilities().consumer_timeouts
                        && let Some(end) = self.replace_ended(open).await
                    {
                        return end;
                    }
                    self.restore_window(open).await;
                    self.fill(open).await;
                    // Messages that wait for the reader must not grow as old as the broker allows, and other workers
                    // could run them.
                    if let Some(limit) = self.settle_within.filter(|_| self.origin.is_none()) {
                        self.suspend_fetching(open, self.sources.stale(limit / STALE_PART)).await;
                    }
                }
                _ = probe.tick() => {
                    // An error shows in the channel's state.
                    if let Err(fault) = open.session.ask(open.guard.probe(&open.channel, self.prefetch)).await {
                        tracing::debug!(%fault, "the channel for consuming does not answer");
                    }
                }
            }
        }
    }

    /// Replaces consumers that the broker has ended for holding deliveries too long. Any other end means that the queue
    /// was deleted: then the channel is left, since what was delivered from that queue has to be delivered anew.
    async fn replace_ended(&mut self, open: &ConsumerChannel) -> Option<ChannelEnd> {
        // When nothing is fetched any more, there is no consumer to replace, and running tasks still need the channel.
        // And a lost connection deletes no queue.
        if self.sources.is_stopping() || open.gone().is_some() {
            return None;
        }
        for EndedConsumer { queue, tag, held } in self.sources.take_ended() {
            // Older brokers close the channel over a timeout.
            if held.is_empty() || !open.session.abilities().consumer_timeouts {
                return Some(ChannelEnd::Deleted);
            }
            if let Err(fault) = open.session.count(&queue).await {
                tracing::debug!(queue = &*queue, %fault, "the queue of an ended consumer is not there");
                return open.gone().is_none().then_some(ChannelEnd::Deleted);
            }
            // Running tasks go on, and take their messages over when those are delivered to this worker again.
            open.settler.lose(&held);
            // The broker keeps the rest of the consumer until it is told.
            self.cancel(open, tag).await;
            self.tell_of_timeout(Some(&queue), "the consumer was cancelled, and its queue is there");
            self.fill(open).await;
        }
        None
    }

    /// Consumes from every queue that has no consumer and whose time has come.
    async fn fill(&mut self, open: &ConsumerChannel) {
        if self.sources.is_stopping() {
            return;
        }
        for queue in self.sources.vacant() {
            if self.retries.get(&queue).is_some_and(|(at, _)| *at > Instant::now()) {
                continue;
            }
            match self.consume_from(open, &queue).await {
                Ok(()) => {
                    if self.retries.remove(&queue).is_some() {
                        tracing::info!(queue = &*queue, "consuming again");
                    }
                }
                Err(error)
                    if self.ready.is_some()
                        && matches!(
                            error,
                            BrokerError::NoQueue { .. } | BrokerError::Mismatch { .. } | BrokerError::Unreadable { .. }
                        ) =>
                {
                    if let Some(ready) = self.ready.take() {
                        // The caller may not be waiting any more.
                        let _ = ready.send(Err(error));
                    }
                    return;
                }
                Err(error) => {
                    let pause = self.retries.get(&queue).map_or(RETRY_MIN, |(_, pause)| (*pause * 2).min(RETRY_MAX));
                    tracing::warn!(
                        queue = &*queue, error = &error as &dyn std::error::Error, again_in = ?pause,
                        "cannot consume from the queue"
                    );
                    self.retries.insert(queue, (Instant::now() + pause, pause));
                    if !open.channel.status().connected() {
                        return;
                    }
                }
            }
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Ok(()));
        }
    }

    /// Cancels these consumers until the reader polls again, and gives back the messages they have fetched.
    async fn suspend_fetching(&self, open: &ConsumerChannel, consumers: Vec<(Arc<str>, ShortString)>) {
        for (queue, tag) in consumers {
            self.sources.suspend_fetching(&queue);
            self.cancel(open, tag).await;
            self.sources.give_back(&queue);
        }
    }

    /// Limits the messages of later consumers to `prefetch`, counting the unsettled ones. Present consumers with a
    /// larger window are cancelled until the reader needs more than they have fetched. If the limit rises, consumers
    /// are replaced only when the reader waits.
    async fn cap_outstanding(&mut self, open: &ConsumerChannel, prefetch: u16) {
        let before = std::mem::replace(&mut self.prefetch, prefetch);
        open.settler.set_prefetch(prefetch);
        if prefetch < before {
            for (queue, tag) in self.sources.tags() {
                self.sources.suspend_fetching(&queue);
                self.cancel(open, tag).await;
            }
        }
    }

    /// The number of messages that a new consumer may hold in addition to the unsettled ones. The broker counts the
    /// messages of each consumer separately, and those of cancelled consumers not at all.
    fn room(&self, open: &ConsumerChannel) -> u16 {
        let out = u16::try_from(open.settler.out()).unwrap_or(u16::MAX);
        self.prefetch.saturating_sub(out).max(1)
    }

    /// Replaces consumers that could have a larger window, when the reader waits for more. Only consumers that were
    /// created while long tasks were running have a small one.
    async fn restore_window(&self, open: &ConsumerChannel) {
        if self.sources.is_stopping() {
            return;
        }
        for (queue, tag) in self.sources.capped_below(self.room(open)) {
            self.cancel(open, tag).await;
            self.sources.restore_window(&queue);
        }
    }

    /// Logs that a channel was lost, with the remedy.
    fn tell_of_loss(&self, reason: &str, fault: Option<lapin::Error>) {
        let said = fault.and_then(|fault| RequestFault::from(fault).text());
        match said.as_deref().filter(|said| is_timeout(said)) {
            Some(said) => self.tell_of_timeout(None, said),
            None => tracing::warn!(reason, said, "consuming is interrupted"),
        }
    }

    /// Logs that the broker has taken deliveries back, from this queue or from all of the channel, with the remedy.
    fn tell_of_timeout(&self, queue: Option<&str>, said: &str) {
        let set =
            self.settle_within.map_or_else(|| "none".to_owned(), |set| humantime::format_duration(set).to_string());
        tracing::error!(
            queue,
            said,
            consumer_timeout = set,
            "the broker has taken messages back that run for longer than it allows; set `consumer_timeout` (or \
             TASKQ_CONSUMER_TIMEOUT) to what the broker's `consumer_timeout` is"
        );
    }

    async fn consume_from(&mut self, open: &ConsumerChannel, queue: &Arc<str>) -> Result<(), BrokerError> {
        let what = || format!("consuming from {queue:?}");
        let fault = |fault: RequestFault| match fault.code() {
            Some(404) => fault.no_queue(queue),
            Some(403) => BrokerError::Unreadable { queue: queue.to_string(), source: fault.into() },
            _ => fault.during(what()),
        };
        let declared = match (&self.origin, self.topology.spec(queue)) {
            (Some(origin), _) => Some(self.topology.declare_renewal_queue(&open.session, queue, origin).await),
            (None, Some(spec)) => Some(self.topology.declare(&open.session, &spec).await.map(drop)),
            (None, None) => None,
        };
        if let Some(declared) = declared {
            match declared {
                Ok(()) => {}
                // The queue may exist all the same.
                Err(DeclareFault::Request(fault)) if fault.is_refusal() => {
                    tracing::warn!(queue = &**queue, %fault, "cannot declare the queue");
                }
                Err(fault) => return Err(fault.during(what())),
            }
        }
        // Checked on another channel, because a refusal would close this one and return all its messages.
        open.session.count(queue).await.map_err(|answer| {
            self.topology.invalidate(queue);
            fault(answer)
        })?;
        let window = if self.sources.is_capped(queue) { self.room(open) } else { self.prefetch };
        let is_as_declared = !self.other_kind.contains(queue);
        let is_classic = is_as_declared && self.topology.is_classic(queue);
        let asks = is_as_declared && open.session.abilities().consumer_timeouts && self.topology.is_quorum(queue);
        let timeout = asks.then(|| consumer_timeout::asked(self.settle_within));
        let consuming = open.guard.consume(&open.channel, queue, window, is_classic, timeout);
        let consumer = open.session.ask(consuming).await.map_err(|refusal| {
            if (is_classic || asks) && refusal.code() == Some(406) {
                self.other_kind.insert(Arc::clone(queue));
            }
            fault(refusal)
        })?;
        self.sources.install(queue, consumer, Arc::clone(&open.settler), window);
        Ok(())
    }

    /// Replaces all consumers, since the prefetch of an existing one cannot be changed. Messages of the old ones are
    /// read before those of the new.
    async fn change_prefetch(&mut self, open: &ConsumerChannel, prefetch: u16) {
        self.prefetch = prefetch;
        open.settler.set_prefetch(prefetch);
        self.cancel_all(open).await;
        self.fill(open).await;
    }

    /// Cancels all consumers. Messages that they have fetched can still be read.
    async fn cancel_all(&self, open: &ConsumerChannel) {
        for (queue, tag) in self.sources.tags() {
            self.cancel(open, tag).await;
            self.sources.retire(&queue);
        }
    }

    async fn cancel(&self, open: &ConsumerChannel, tag: ShortString) {
        if let Err(fault) = open.session.ask(open.channel.basic_cancel(tag, BasicCancelOptions::default())).await {
            // Only a lost channel refuses this, and then everything is cleared.
            tracing::debug!(%fault, "a consumer was not cancelled");
        }
    }
}

/// Whether the broker closed a channel because a delivery on it was not settled in time. RabbitMQ has no code for
/// that.
fn is_timeout(said: &str) -> bool {
    said.contains("delivery acknowledgement") && said.contains("timed out")
}
