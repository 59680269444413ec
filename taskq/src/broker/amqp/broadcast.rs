//! Messages to all workers, by the exchanges and queues of kombu's `pidbox`, so that Celery's tools and workers are
//! among those who speak and listen.
//!
//! The exchanges are Celery's and have to be as it declares them. Queues are declared by their owners alone, so these
//! are exclusive, which RabbitMQ 4.3 wants of queues that are not durable, and bounded.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer, ExchangeKind};
use tokio::sync::{Mutex, mpsc};
use tokio::time;

use super::convert::{from_amqp, to_amqp};
use super::link::Link;
use super::session::{RequestFault, Session};
use crate::broker::{BrokerError, Heard, Listening};
use crate::message::WireMessage;
use crate::remote::ReplyAddress;

/// The exchange of requests, and the end of the names of the queues that are bound to it.
const REQUESTS: &str = "celery.pidbox";

/// The exchange of answers, and the end of the names of the queues that are bound to it.
pub(super) const ANSWERS: &str = "reply.celery.pidbox";

/// The exchange of events, and the beginning of the names of the queues that are bound to it.
const EVENTS: &str = "celeryev";

/// The time for which a message waits for its listener, as Celery has it, in milliseconds.
const MESSAGE_TTL_MS: i64 = 300_000;

/// The time after which a queue goes that nobody reads, as Celery has it, in milliseconds.
const QUEUE_EXPIRES_MS: i64 = 10_000;

/// The number of messages that wait in a queue; the oldest go first. A flood costs nothing but what it drowns.
const QUEUE_LENGTH_MAX: i64 = 10_000;

/// The number of messages that are here and were not yet taken.
const PREFETCH: u16 = 64;

/// Bounds of the pause before a queue is asked for again that was refused.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// The time for closing a channel.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A queue of one's own, and what arrives in it.
#[derive(Debug, Clone)]
pub(super) struct OwnQueue {
    exchange: Exchange,
    name: String,
    key: String,
}

impl OwnQueue {
    /// The queue of the worker `node`, for requests.
    pub(super) fn of_worker(node: &str) -> Self {
        Self { exchange: Exchange::Requests, name: format!("{node}.{REQUESTS}"), key: String::new() }
    }

    /// The queue of an asker, for answers to `key`.
    pub(super) fn of_asker(key: &str) -> Self {
        Self { exchange: Exchange::Answers, name: format!("{key}.{ANSWERS}"), key: key.to_owned() }
    }

    /// The queue of one who watches all events, with a name that nobody else has.
    pub(super) fn of_watcher(unique: &str) -> Self {
        Self { exchange: Exchange::Events, name: format!("{EVENTS}.{unique}"), key: "#".to_owned() }
    }

    /// Declares the queue on a channel of its own, and consumes from it.
    async fn open(&self, session: &Session) -> Result<(Channel, Consumer), RequestFault> {
        let channel = session.channel().await?;
        self.exchange.declare(session, &channel).await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        for (name, value) in
            [("x-message-ttl", MESSAGE_TTL_MS), ("x-expires", QUEUE_EXPIRES_MS), ("x-max-length", QUEUE_LENGTH_MAX)]
        {
            arguments.insert(name.into(), AMQPValue::LongLongInt(value));
        }
        session.ask(channel.queue_declare(self.name.as_str().into(), options, arguments)).await?;
        let (name, key) = (self.name.as_str(), self.key.as_str());
        let binding = channel.queue_bind(
            name.into(),
            self.exchange.name().into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        session.ask(binding).await?;
        session.ask(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let consuming =
            channel.basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
        let consumer = session.ask(consuming).await?;
        Ok((channel, consumer))
    }
}

/// Listens to a queue of one's own, over outages, until the stream is dropped or the link is closed.
pub(super) fn listen(link: Arc<Link>, queue: OwnQueue) -> Listening {
    let (heard, listening) = mpsc::channel(PREFETCH.into());
    crate::io::spawn(stay(link, queue, heard));
    stream::unfold(listening, async |mut listening| Some((listening.recv().await?, listening))).boxed()
}

async fn stay(link: Arc<Link>, queue: OwnQueue, heard: mpsc::Sender<Heard>) {
    let mut pause = AGAIN_MIN;
    loop {
        let session = tokio::select! {
            session = link.session() => session,
            () = heard.closed() => return,
        };
        let Some(session) = session else { return };
        match queue.open(&session).await {
            Ok((channel, consumer)) => {
                pause = AGAIN_MIN;
                if heard.send(Heard::Since).await.is_err() || forward(consumer, &heard).await.is_err() {
                    // Nobody listens any more.
                    drop(time::timeout(CLOSE_WITHIN, channel.close(200, "done".into())).await);
                    return;
                }
            }
            Err(fault) => {
                // A queue of that name that another program has open, most of the time; or a right that is missing.
                if fault.is_refusal() && pause == AGAIN_MIN {
                    tracing::warn!(
                        queue = queue.name, error = %fault,
                        "remote control is not heard; another program may have this node name, or a right is missing"
                    );
                }
                time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

/// Passes on what arrives until the channel is gone. Fails once nobody listens.
async fn forward(mut consumer: Consumer, heard: &mpsc::Sender<Heard>) -> Result<(), ()> {
    loop {
        let delivery = tokio::select! {
            delivery = consumer.next() => delivery,
            () = heard.closed() => return Err(()),
        };
        // An error is the loss of the channel or the connection.
        let Some(Ok(delivery)) = delivery else { return Ok(()) };
        let key = delivery.routing_key.as_str().to_owned();
        let (message, _) = from_amqp(&delivery.properties, delivery.data, "", &key);
        if heard.send(Heard::Message(message)).await.is_err() {
            return Err(());
        }
        if delivery.acker.ack(BasicAckOptions::default()).await.is_err() {
            return Ok(());
        }
    }
}

/// The exchanges of remote control.
#[derive(Debug, Clone, Copy)]
enum Exchange {
    Requests,
    Answers,
    Events,
}

impl Exchange {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => REQUESTS,
            Self::Answers => ANSWERS,
            Self::Events => EVENTS,
        }
    }

    /// Declares the exchange as Celery does.
    async fn declare(self, session: &Session, channel: &Channel) -> Result<(), RequestFault> {
        let (kind, durable) = match self {
            Self::Requests => (ExchangeKind::Fanout, false),
            Self::Answers => (ExchangeKind::Direct, false),
            Self::Events => (ExchangeKind::Topic, true),
        };
        let options = ExchangeDeclareOptions { durable, ..ExchangeDeclareOptions::default() };
        session.ask(channel.exchange_declare(self.name().into(), kind, options, FieldTable::default())).await
    }
}

/// Sends what is not kept, on a channel of its own.
#[derive(Debug, Default)]
pub(super) struct Speaker(Mutex<Option<Channel>>);

impl Speaker {
    /// Tells all workers.
    pub(super) async fn tell(&self, session: &Session, message: &WireMessage) -> Result<(), RequestFault> {
        self.send(session, Exchange::Requests, "", message).await
    }

    /// Tells those who watch events.
    pub(super) async fn announce(
        &self,
        session: &Session,
        key: &str,
        message: &WireMessage,
    ) -> Result<(), RequestFault> {
        self.send(session, Exchange::Events, key, message).await
    }

    /// Sends an answer.
    pub(super) async fn answer(&self, session: &Session, key: &str, message: &WireMessage) -> Result<(), RequestFault> {
        self.send(session, Exchange::Answers, key, message).await
    }

    async fn send(
        &self,
        session: &Session,
        exchange: Exchange,
        key: &str,
        message: &WireMessage,
    ) -> Result<(), RequestFault> {
        let mut open = self.0.lock().await;
        let channel = match open.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => session.channel().await?,
        };
        // Each time: it is not durable, and may have gone with the broker. The answer proves the channel as well.
        exchange.declare(session, &channel).await?;
        let properties = to_amqp(message, 0, false, session.frame_max()).map_err(|unsendable| {
            RequestFault::Amqp(std::io::Error::new(std::io::ErrorKind::InvalidInput, unsendable).into())
        })?;
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange.name().into(), key.into(), options, &message.body, properties).await?;
        *open = Some(channel);
        Ok(())
    }
}

/// The error for an address that Celery's askers do not have: answers go to one exchange, or anybody could have workers
/// publish wherever they may.
pub(super) fn check_address(address: &ReplyAddress) -> Result<(), BrokerError> {
    if address.exchange == ANSWERS {
        return Ok(());
    }
    let why = format!("answers go to the exchange {ANSWERS}, and not to {:?}", address.exchange);
    Err(BrokerError::Failed { what: "answering".to_owned(), source: why.into() })
}
