//! The adapter, which hands each request of the port to the part that carries it out.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{self, BoxFuture};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use tokio::sync::OnceCell;
use tokio::time::{self, Instant};

use super::address::Addresses;
use super::broadcast::{self, OwnQueue, Speaker};
use super::browse::browse;
use super::command::Plan;
use super::consumer::consume;
use super::consumer_timeout;
use super::control::Control;
use super::link::Link;
use super::places::Places;
use super::publish::Publisher;
use super::session::Session;
use super::topology::{DeclareFault, Topology};
use super::vigil;
use crate::broker::{
    Broadcast, Broker, BrokerError, BrokerInfo, BrokerOptions, Browse, Consumption, ConsumptionControl, Declared,
    DeliveryTimeout, EXPIRED_QUEUE, ExpiredMessages, Heard, Inbox, Listening, Publication, PublishError, QueueSpec,
    QueueStats,
};
use crate::io;
use crate::message::WireMessage;
use crate::remote::ReplyAddress;

/// The pause before a request that failed with its connection is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The number of reports of expired messages that are taken at a time.
const REPORTS_PREFETCH: u16 = 64;

/// The time for which closing waits for pending publications and acknowledgements.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A client of a RabbitMQ broker.
pub struct AmqpBroker(Arc<Core>);

struct Core {
    places: Arc<Places>,
    options: BrokerOptions,
    topology: Arc<Topology>,
    publisher: Publisher,
    publish_link: Arc<Link>,
    consume_link: OnceCell<Arc<Link>>,
    consumptions: Mutex<Vec<Weak<Control>>>,
    speaker: Speaker,
}

impl AmqpBroker {
    /// Connects to `url`: `amqp://user:password@host:port/vhost`, with `?heartbeat=` in seconds (default 10) and
    /// `&frame_max=` in bytes (default 16384) where needed; or several of those, with `;` or `,` between them, for the
    /// nodes of a cluster. An error names the cause and the remedy. Once connected, lost connections are reopened
    /// without end, at the first node that can be connected to.
    pub async fn connect(url: &str, options: BrokerOptions) -> Result<Self, BrokerError> {
        let places = Places::new(Addresses::parse(url, &options.tls)?);
        let name = format!("{} publish", options.name);
        let publish_link = io::run(Link::open(Arc::clone(&places), name, false)).await?;
        let topology = Arc::new(Topology::new(options.strict));
        let publisher = Publisher::start(Arc::clone(&publish_link), Arc::clone(&topology), &options);
        Ok(Self(Arc::new(Core {
            places,
            options,
            topology,
            publisher,
            publish_link,
            consume_link: OnceCell::new(),
            consumptions: Mutex::default(),
            speaker: Speaker::default(),
        })))
    }
}

impl Core {
    async fn consume_link(&self) -> Result<Arc<Link>, BrokerError> {
        let name = format!("{} consume", self.options.name);
        let open = async || {
            let link = Link::open(Arc::clone(&self.places), name, true).await?;
            io::spawn(vigil::keep(Arc::clone(&link)));
            Ok(link)
        };
        self.consume_link.get_or_try_init(open).await.cloned()
    }

    /// The link for requests: the publishing one, unless the broker reads nothing from it and there is another.
    fn link_for_requests(&self) -> Arc<Link> {
        match self.consume_link.get() {
            Some(consume) if self.publish_link.is_blocked() => Arc::clone(consume),
            _ => Arc::clone(&self.publish_link),
        }
    }

    /// Carries out a request, on the next connection if this one is lost in the meantime.
    async fn request<T, F>(
        &self,
        what: impl FnOnce() -> String,
        request: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, DeclareFault>
    where
        F: Future<Output = Result<T, DeclareFault>>,
    {
        let deadline = Instant::now() + self.options.publish_timeout;
        loop {
            let link = self.link_for_requests();
            let Ok(session) = time::timeout_at(deadline, link.session()).await else {
                let source = "the connection to the broker is being restored".into();
                return Err(DeclareFault::Broker(BrokerError::Failed { what: what(), source }));
            };
            let session = session.ok_or(DeclareFault::Broker(BrokerError::Closed))?;
            match request(session).await {
                Err(DeclareFault::Request(fault)) if !fault.is_refusal() && Instant::now() < deadline => {
                    time::sleep(RETRY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The port's error for a failed request on one queue.
    fn queue_fault(fault: DeclareFault, queue: &str, what: String) -> BrokerError {
        match fault {
            DeclareFault::Request(fault) if fault.code() == Some(404) => fault.no_queue(queue),
            fault => fault.during(what),
        }
    }

    async fn declare(&self, spec: &QueueSpec) -> Result<Declared, BrokerError> {
        let what = || format!("declaring the queue {:?}", spec.name);
        let declared = self.request(what, |session| async move { self.topology.declare(&session, spec).await }).await;
        declared.map_err(|fault| fault.during(what()))
    }

    async fn consume(
        &self,
        queues: Vec<Arc<str>>,
        prefetch: u16,
        origin: Option<Arc<str>>,
    ) -> Result<Consumption, BrokerError> {
        let link = self.consume_link().await?;
        let plan = Plan { queues, prefetch, origin, settle_within: self.options.consumer_timeout };
        let (consumption, control) = consume(link, Arc::clone(&self.topology), plan).await?;
        let mut consumptions = self.consumptions.lock().unwrap_or_else(PoisonError::into_inner);
        consumptions.retain(|consumption| consumption.strong_count() > 0);
        consumptions.push(Arc::downgrade(&control));
        Ok(consumption)
    }

    async fn browse(&self, queue: &str, limit: usize) -> Result<Browse, BrokerError> {
        QueueSpec::check_name(queue)?;
        let what = || format!("looking into the queue {queue:?}");
        let link = self.consume_link().await?;
        let deadline = Instant::now() + self.options.publish_timeout;
        loop {
            let session = link.session().await.ok_or(BrokerError::Closed)?;
            match browse(session, queue, limit).await {
                // A message with large headers breaks this connection and fits through the next.
                Err(fault) if !fault.is_refusal() && Instant::now() < deadline => time::sleep(RETRY_PAUSE).await,
                outcome => return outcome.map_err(|fault| Self::queue_fault(fault.into(), queue, what())),
            }
        }
    }

    async fn stats(&self, queue: &str) -> Result<QueueStats, BrokerError> {
        QueueSpec::check_name(queue)?;
        let what = || format!("counting the queue {queue:?}");
        let count = self.request(what, |session| async move { Ok(session.count(queue).await?) }).await;
        let (ready, consumers) = count.map_err(|fault| Self::queue_fault(fault, queue, what()))?;
        Ok(QueueStats { ready: ready.into(), consumers: consumers.into() })
    }

    async fn purge(&self, queue: &str) -> Result<u64, BrokerError> {
        QueueSpec::check_name(queue)?;
        let what = || format!("purging the queue {queue:?}");
        let purge = |session: Arc<Session>| async move {
            let options = QueuePurgeOptions::default();
            Ok(session.on_scratch(|channel| async move { channel.queue_purge(queue.into(), options).await }).await?)
        };
        let purged = self.request(what, purge).await.map_err(|fault| Self::queue_fault(fault, queue, what()))?;
        Ok(purged.into())
    }

    async fn delete(&self, queue: &str) -> Result<(), BrokerError> {
        let what = || format!("deleting the queue {queue:?}");
        let delete = |session: Arc<Session>| async move {
            let options = QueueDeleteOptions::default();
            Ok(session.on_scratch(|channel| async move { channel.queue_delete(queue.into(), options).await }).await?)
        };
        let deleted = self.request(what, delete).await.map_err(|fault| Self::queue_fault(fault, queue, what()))?;
        tracing::debug!(queue, messages = deleted, "deleted a queue");
        Ok(())
    }

    /// The broker as it is now: the session of today may be with another node than that of yesterday.
    async fn info(&self) -> Result<BrokerInfo, BrokerError> {
        let what = || "telling its version".to_owned();
        let read = |session: Arc<Session>| async move {
            let failed = |why: &str| BrokerError::Failed { what: what(), source: why.into() };
            session.info().cloned().map_err(|why| DeclareFault::Broker(failed(why)))
        };
        self.request(what, read).await.map_err(|fault| fault.during(what()))
    }

    async fn close(&self) {
        let consumptions = std::mem::take(&mut *self.consumptions.lock().unwrap_or_else(PoisonError::into_inner));
        let consumptions: Vec<_> = consumptions.iter().filter_map(Weak::upgrade).collect();
        let sent = future::join(
            self.publisher.close(),
            future::join_all(consumptions.iter().map(|consumption| consumption.close())),
        );
        if time::timeout(CLOSE_PATIENCE, sent).await.is_err() {
            tracing::warn!("the client was closed before everything could be sent");
        }
        self.publish_link.close().await;
        if let Some(link) = self.consume_link.get() {
            link.close().await;
        }
    }
}

impl Drop for Core {
    /// Lets pending publications be sent: the publish loop ends by itself, and its connection with it. Consumptions
    /// that are still in use go on.
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.consumptions.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(link) = self.consume_link.get()
            && held.iter().all(|consumption| consumption.strong_count() == 0)
        {
            link.abandon();
        }
    }
}

impl Broker for AmqpBroker {
    fn declare<'a>(&'a self, spec: &'a QueueSpec) -> BoxFuture<'a, Result<Declared, BrokerError>> {
        // Nearly every call names a queue that was declared before.
        if let Some(declared) = self.0.topology.declared(spec) {
            return future::ready(Ok(declared)).boxed();
        }
        let (core, spec) = (Arc::clone(&self.0), spec.clone());
        io::run(async move { core.declare(&spec).await }).boxed()
    }

    fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        self.0.publisher.publish(publication)
    }

    fn consume<'a>(&'a self, queues: &'a [Arc<str>], prefetch: u16) -> BoxFuture<'a, Result<Consumption, BrokerError>> {
        let (core, queues) = (Arc::clone(&self.0), queues.to_vec());
        io::run(async move { core.consume(queues, prefetch, None).await }).boxed()
    }

    fn browse<'a>(&'a self, queue: &'a str, limit: usize) -> BoxFuture<'a, Result<Browse, BrokerError>> {
        let (core, queue) = (Arc::clone(&self.0), queue.to_owned());
        io::run(async move { core.browse(&queue, limit).await }).boxed()
    }

    fn stats<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<QueueStats, BrokerError>> {
        let (core, queue) = (Arc::clone(&self.0), queue.to_owned());
        io::run(async move { core.stats(&queue).await }).boxed()
    }

    fn purge<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<u64, BrokerError>> {
        let (core, queue) = (Arc::clone(&self.0), queue.to_owned());
        io::run(async move { core.purge(&queue).await }).boxed()
    }

    fn delivery_timeout(&self) -> Option<&dyn DeliveryTimeout> {
        self.0.options.consumer_timeout.map(|_| self as &dyn DeliveryTimeout)
    }

    fn expired_messages(&self) -> Option<&dyn ExpiredMessages> {
        Some(self)
    }

    fn broadcast(&self) -> Option<&dyn Broadcast> {
        Some(self)
    }

    fn info(&self) -> BoxFuture<'_, Result<BrokerInfo, BrokerError>> {
        let core = Arc::clone(&self.0);
        io::run(async move { core.info().await }).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let core = Arc::clone(&self.0);
        io::run(async move { core.close().await }).boxed()
    }
}

impl ExpiredMessages for AmqpBroker {
    fn consume_expired(&self) -> BoxFuture<'_, Result<Consumption, BrokerError>> {
        let core = Arc::clone(&self.0);
        io::run(async move { core.consume(vec![EXPIRED_QUEUE.into()], REPORTS_PREFETCH, None).await }).boxed()
    }
}

impl Broadcast for AmqpBroker {
    fn listen<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<Listening, BrokerError>> {
        let (core, queue) = (Arc::clone(&self.0), OwnQueue::of_worker(node));
        io::run(async move { Ok(broadcast::listen(core.consume_link().await?, queue)) }).boxed()
    }

    fn tell(&self, message: WireMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        let core = Arc::clone(&self.0);
        io::run(async move {
            let (core, message) = (&core, &message);
            let tell = |session: Arc<Session>| async move { Ok(core.speaker.tell(&session, message).await?) };
            let what = || "telling all workers".to_owned();
            core.request(what, tell).await.map_err(|fault| fault.during(what()))
        })
        .boxed()
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Inbox, BrokerError>> {
        let link = Arc::clone(&self.0.publish_link);
        let key = uuid::Uuid::now_v7().to_string();
        let within = self.0.options.publish_timeout;
        io::run(async move {
            let mut answers = broadcast::listen(link, OwnQueue::of_asker(&key));
            match time::timeout(within, answers.next()).await {
                Ok(Some(Heard::Since)) => Ok(Inbox { address: ReplyAddress::new(broadcast::ANSWERS, key), answers }),
                Ok(_) => Err(BrokerError::Closed),
                Err(_) => {
                    let source = "the broker opened no queue for answers; see the log".into();
                    Err(BrokerError::Failed { what: "asking the workers".to_owned(), source })
                }
            }
        })
        .boxed()
    }

    fn announce<'a>(&'a self, key: &'a str, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>> {
        let (core, key) = (Arc::clone(&self.0), key.to_owned());
        io::run(async move {
            let (core, key, message) = (&core, key.as_str(), &message);
            let announce =
                |session: Arc<Session>| async move { Ok(core.speaker.announce(&session, key, message).await?) };
            let what = || "telling of events".to_owned();
            core.request(what, announce).await.map_err(|fault| fault.during(what()))
        })
        .boxed()
    }

    fn watch_events(&self) -> BoxFuture<'_, Result<Listening, BrokerError>> {
        let core = Arc::clone(&self.0);
        let queue = OwnQueue::of_watcher(&uuid::Uuid::now_v7().to_string());
        io::run(async move { Ok(broadcast::listen(core.consume_link().await?, queue)) }).boxed()
    }

    fn answer<'a>(&'a self, address: &'a ReplyAddress, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>> {
        let (core, address) = (Arc::clone(&self.0), address.clone());
        io::run(async move {
            broadcast::check_address(&address)?;
            let (core, key, message) = (&core, address.routing_key.as_str(), &message);
            let answer = |session: Arc<Session>| async move { Ok(core.speaker.answer(&session, key, message).await?) };
            let what = || "answering".to_owned();
            core.request(what, answer).await.map_err(|fault| fault.during(what()))
        })
        .boxed()
    }
}

impl DeliveryTimeout for AmqpBroker {
    fn settle_within(&self, queue: &str) -> Duration {
        let set = self.0.options.consumer_timeout.unwrap_or(Duration::MAX);
        let has_abilities = self.0.consume_link.get().is_some_and(|link| link.abilities().consumer_timeouts);
        consumer_timeout::within(set, has_abilities && self.0.topology.is_quorum(queue))
    }

    fn open_renewal_queue<'a>(
        &'a self,
        queue: &'a str,
        origin: &'a str,
    ) -> BoxFuture<'a, Result<Consumption, BrokerError>> {
        let (core, queue, origin) = (Arc::clone(&self.0), queue.into(), origin.into());
        // A prefetch of 0 means no limit, but some brokers cap it at 2000 for quorum queues.
        io::run(async move { core.consume(vec![queue], u16::MAX, Some(origin)).await }).boxed()
    }

    fn delete_renewal_queue<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<(), BrokerError>> {
        let (core, queue) = (Arc::clone(&self.0), queue.to_owned());
        io::run(async move { core.delete(&queue).await }).boxed()
    }
}

impl fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpBroker").field("broker", &self.0.places.shown()).finish_non_exhaustive()
    }
}
