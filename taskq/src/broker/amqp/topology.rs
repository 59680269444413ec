//! Queues, the dead queue and the delay ladder in the broker: their declaration, and the record of what exists.
//!
//! Declarations are active: a passive one says nothing about arguments. If a queue exists with other arguments, the
//! broker closes the channel and names the first difference, and the queue is used as it is. A user who may not declare
//! uses what exists ([`rights`](super::rights)).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use tokio::sync::Mutex as AsyncMutex;

use super::arguments::{quorum, quorum_before, text};
use super::rights::{Known, Part, declare_or_find};
use super::session::{RequestFault, Session};
use super::{delay_ladder, delivery_renewal};
use crate::broker::{BrokerError, DEAD_QUEUE, Declared, EXPIRED_QUEUE, QueueKind, QueueSpec};

/// The exchange for messages that the broker gives up. It is a fanout, since they carry any routing key.
pub(super) const DEAD_EXCHANGE: &str = "taskq.dead";

/// The delivery limit of the dead queue. Inspecting a dead message and putting it back counts as a delivery, and must
/// never be the last one.
const DEAD_DELIVERIES_MAX: i32 = 1_000_000_000;

/// The number of times that a message of a quorum queue may come back before the broker gives it up. Newer brokers
/// default to 20, and a crashing worker adds to the count of every message that it merely held.
const DELIVERIES_MAX: i32 = 1000;

/// The time for which the report of an expired message waits for a worker: the message itself is in the dead set.
const EXPIRED_REPORT_MS: i64 = 86_400_000;

/// The queues declared through one broker client, to be declared again after an outage.
pub(super) struct Topology {
    strict: bool,
    known: Mutex<KnownQueues>,
    declaring: Mutex<HashMap<Arc<str>, Arc<AsyncMutex<()>>>>,
    building: AsyncMutex<()>,
}

#[derive(Default)]
struct KnownQueues {
    queues: HashMap<Arc<str>, DeclaredQueue>,
    ladder: bool,
}

/// A queue that was declared once.
struct DeclaredQueue {
    spec: QueueSpec,
    /// The outcome of the declaration; `None` while that may be out of date.
    declared: Option<Declared>,
}

impl Topology {
    /// Makes an empty record. `strict`: a queue with other arguments is an error.
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, known: Mutex::default(), declaring: Mutex::default(), building: AsyncMutex::default() }
    }

    /// The outcome of the queue's last declaration, unless it may be out of date.
    pub(super) fn declared(&self, spec: &QueueSpec) -> Option<Declared> {
        let known = self.lock();
        let queue = known.queues.get(&spec.name)?;
        queue.declared.clone().filter(|_| queue.spec == *spec)
    }

    /// Marks `queue` as possibly absent. The next use declares it again.
    pub(super) fn invalidate(&self, queue: &str) {
        if let Some(queue) = self.lock().queues.get_mut(queue) {
            queue.declared = None;
        }
    }

    /// Marks everything as possibly absent, because the broker was away.
    pub(super) fn invalidate_all(&self) {
        let mut known = self.lock();
        known.ladder = false;
        for queue in known.queues.values_mut() {
            queue.declared = None;
        }
    }

    /// All queues that were ever declared.
    pub(super) fn specs(&self) -> Vec<QueueSpec> {
        self.lock().queues.values().map(|queue| queue.spec.clone()).collect()
    }

    /// The declaration of `queue`, if there was one.
    pub(super) fn spec(&self, queue: &str) -> Option<QueueSpec> {
        self.lock().queues.get(queue).map(|queue| queue.spec.clone())
    }

    /// Whether `queue` was declared as a classic queue, and is one.
    pub(super) fn is_classic(&self, queue: &str) -> bool {
        let known = self.lock();
        let is_classic =
            |queue: &DeclaredQueue| queue.spec.kind != QueueKind::Quorum && queue.declared == Some(Declared::AsAsked);
        known.queues.get(queue).is_some_and(is_classic)
    }

    /// Declares the queue. One caller at a time does, and those who waited for it find it declared: in a program's
    /// first second, and after an outage, all calls need it at once.
    pub(super) async fn declare(&self, session: &Session, spec: &QueueSpec) -> Result<Declared, DeclareFault> {
        QueueSpec::check_name(&spec.name).map_err(DeclareFault::Broker)?;
        let turn = self.turn(&spec.name);
        let _one_at_a_time = turn.lock().await;
        if let Some(declared) = self.declared(spec) {
            return Ok(declared);
        }
        // It comes first, and with every queue at the beginning: a queue points to it.
        let declared = if &*spec.name == DEAD_QUEUE {
            self.declare_dead(session).await?
        } else {
            if !self.has_declared() {
                self.declare_dead(session).await?;
            }
            let declared = self.declare_queue(session, &spec.name, arguments(spec)).await?;
            bound(&spec.name, &declared, bind(session, spec).await)?;
            declared
        };
        let queue = DeclaredQueue { spec: spec.clone(), declared: Some(declared.clone()) };
        self.lock().queues.insert(Arc::clone(&spec.name), queue);
        Ok(declared)
    }

    /// Declares a queue for copies of `origin`'s messages. It is not recorded: its consumer declares it whenever it
    /// starts.
    pub(super) async fn declare_renewal_queue(
        &self,
        session: &Session,
        queue: &str,
        origin: &str,
    ) -> Result<(), DeclareFault> {
        self.declare_queue(session, queue, delivery_renewal::arguments(origin)).await?;
        Ok(())
    }

    /// Whether the delay ladder exists, as far as is known.
    pub(super) fn has_ladder(&self) -> bool {
        self.lock().ladder
    }

    /// Marks the ladder as possibly absent.
    pub(super) fn invalidate_ladder(&self) {
        self.lock().ladder = false;
    }

    /// Declares the delay ladder.
    pub(super) async fn declare_ladder(&self, session: &Session) -> Result<(), DeclareFault> {
        let _one_at_a_time = self.building.lock().await;
        if self.has_ladder() {
            return Ok(());
        }
        declare_or_find(session, ladder, &ladder_parts()).await?;
        self.lock().ladder = true;
        Ok(())
    }

    /// Whether any queue is known to be declared.
    fn has_declared(&self) -> bool {
        self.lock().queues.values().any(|queue| queue.declared.is_some())
    }

    async fn declare_dead(&self, session: &Session) -> Result<Declared, DeclareFault> {
        declare_or_find(session, dead_exchanges, &dead_parts()).await?;
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DEAD_DELIVERIES_MAX));
        let declared = self.declare_queue(session, DEAD_QUEUE, arguments).await?;
        let bind = |channel: Channel| async move {
            let options = QueueBindOptions::default();
            channel.queue_bind(DEAD_QUEUE.into(), DEAD_EXCHANGE.into(), "".into(), options, FieldTable::default()).await
        };
        bound(DEAD_QUEUE, &declared, session.on_scratch(bind).await)?;
        match session.on_scratch(expired_reports).await {
            // Brokers before RabbitMQ 3.10 cannot, and a user may lack the right: then nobody is told.
            Err(fault) if fault.is_refusal() => tracing::debug!(%fault, "expired messages are not reported"),
            outcome => outcome?,
        }
        Ok(declared)
    }

    async fn declare_queue(
        &self,
        session: &Session,
        queue: &str,
        arguments: FieldTable,
    ) -> Result<Declared, DeclareFault> {
        let declare = |channel: Channel| async move {
            channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.map(drop)
        };
        let fault = match declare_or_find(session, declare, &[Part::Queue(queue.to_owned())]).await {
            Ok(Known::Declared) => return Ok(Declared::AsAsked),
            Ok(Known::Found) if self.strict => {
                return Err(DeclareFault::Broker(BrokerError::Incomparable { queue: queue.to_owned() }));
            }
            Ok(Known::Found) => return Ok(Declared::Found),
            Err(DeclareFault::Request(fault)) => fault,
            Err(broker) => return Err(broker),
        };
        let Some(difference) =
            (fault.code() == Some(406)).then(|| fault.text()).flatten().as_deref().and_then(difference)
        else {
            return Err(fault.into());
        };
        if self.strict {
            return Err(DeclareFault::Broker(BrokerError::Mismatch { queue: queue.to_owned(), difference }));
        }
        Ok(Declared::Differs(difference))
    }

    /// The lock under which a queue is declared.
    fn turn(&self, queue: &Arc<str>) -> Arc<AsyncMutex<()>> {
        let mut declaring = self.declaring.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(declaring.entry(Arc::clone(queue)).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, KnownQueues> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason why a queue could not be declared.
pub(super) enum DeclareFault {
    /// The request failed.
    Request(RequestFault),
    /// A final error for the caller.
    Broker(BrokerError),
}

impl From<RequestFault> for DeclareFault {
    fn from(fault: RequestFault) -> Self {
        Self::Request(fault)
    }
}

impl DeclareFault {
    /// Whether the broker refused this very request, so that repeating it at once is useless.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Request(fault) => fault.is_refusal(),
            Self::Broker(_) => true,
        }
    }

    /// The port's error for the failed declaration; `what` names it.
    pub(super) fn during(self, what: impl Into<String>) -> BrokerError {
        match self {
            Self::Request(fault) => fault.during(what),
            Self::Broker(error) => error,
        }
    }
}

/// The arguments that `spec` asks for.
fn arguments(spec: &QueueSpec) -> FieldTable {
    let mut arguments = match spec.kind {
        QueueKind::Quorum => {
            let mut arguments = quorum_before(DEAD_EXCHANGE);
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERIES_MAX));
            return arguments;
        }
        QueueKind::Classic => {
            let mut arguments = FieldTable::default();
            arguments.insert("x-dead-letter-exchange".into(), text(DEAD_EXCHANGE));
            arguments
        }
        QueueKind::Celery => FieldTable::default(),
    };
    if let Some(priority) = spec.max_priority {
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(priority.into()));
    }
    arguments
}

/// Binds a queue to the end of the delay ladder, whether or not the ladder exists yet, so that no record is needed of
/// the queues that lack it; and a Celery queue to its own exchange.
async fn bind(session: &Session, spec: &QueueSpec) -> Result<(), RequestFault> {
    let name: &str = &spec.name;
    let celery = spec.kind == QueueKind::Celery;
    session
        .on_scratch(|channel| async move {
            let options = QueueBindOptions::default();
            for exchange in [delay_ladder::DELIVERY_EXCHANGE, delay_ladder::LATE_DELIVERY_EXCHANGE] {
                let key = delay_ladder::arrives(name);
                channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default()).await?;
            }
            if celery {
                exchange(&channel, name, ExchangeKind::Direct, FieldTable::default()).await?;
                channel.queue_bind(name.into(), name.into(), name.into(), options, FieldTable::default()).await?;
            }
            Ok(())
        })
        .await
}

/// Accepts that the user may not bind a queue. The program that declared it has bound it, unless that was this one.
fn bound(queue: &str, declared: &Declared, outcome: Result<(), RequestFault>) -> Result<(), RequestFault> {
    match outcome {
        Err(fault) if fault.is_access_refusal() => {
            if *declared != Declared::Found {
                tracing::warn!(
                    queue, %fault,
                    "the queue may not be bound, and gets no messages that were delayed or that the broker gave up; \
                     grant the rights that the guide names"
                );
            }
            Ok(())
        }
        outcome => outcome,
    }
}

/// The parts that [`dead_exchanges`] declares.
fn dead_parts() -> Vec<Part> {
    use delay_ladder::{DELIVERY_EXCHANGE, LATE, LATE_DELIVERY_EXCHANGE};
    let exchanges = [DEAD_EXCHANGE, LATE_DELIVERY_EXCHANGE, LATE, DELIVERY_EXCHANGE];
    let exchanges = exchanges.map(|name| Part::Exchange(name.to_owned()));
    exchanges.into_iter().chain([Part::Queue(LATE.to_owned())]).collect()
}

/// The parts that [`ladder`] declares.
fn ladder_parts() -> Vec<Part> {
    let names = (0..delay_ladder::LEVELS).map(delay_ladder::level_name);
    names.flat_map(|name| [Part::Exchange(name.clone()), Part::Queue(name)]).collect()
}

async fn dead_exchanges(channel: Channel) -> lapin::Result<()> {
    exchange(&channel, DEAD_EXCHANGE, ExchangeKind::Fanout, FieldTable::default()).await?;
    exchange(&channel, delay_ladder::LATE_DELIVERY_EXCHANGE, ExchangeKind::Topic, delay_ladder::or_else(DEAD_EXCHANGE))
        .await?;
    exchange(&channel, delay_ladder::LATE, ExchangeKind::Fanout, FieldTable::default()).await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(delay_ladder::LATE.into(), options, delay_ladder::late_arguments()).await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(delay_ladder::LATE.into(), delay_ladder::LATE.into(), "".into(), options, FieldTable::default())
        .await?;
    exchange(&channel, delay_ladder::DELIVERY_EXCHANGE, ExchangeKind::Topic, delay_ladder::or_else(delay_ladder::LATE))
        .await
}

/// Declares the queue of expired messages. Everything that the broker gives up passes the exchange of dead messages,
/// and its first death is in its headers.
async fn expired_reports(channel: Channel) -> lapin::Result<()> {
    let mut arguments = quorum();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(EXPIRED_REPORT_MS));
    channel.queue_declare(EXPIRED_QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    exchange(&channel, EXPIRED_QUEUE, ExchangeKind::Headers, FieldTable::default()).await?;
    let mut first_death = FieldTable::default();
    // By default, headers that begin with `x-` are not looked at.
    first_death.insert("x-match".into(), text("all-with-x"));
    first_death.insert("x-first-death-reason".into(), text("expired"));
    let options = QueueBindOptions::default();
    channel.queue_bind(EXPIRED_QUEUE.into(), EXPIRED_QUEUE.into(), "".into(), options, first_death).await?;
    let options = ExchangeBindOptions::default();
    channel.exchange_bind(EXPIRED_QUEUE.into(), DEAD_EXCHANGE.into(), "".into(), options, FieldTable::default()).await
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind, arguments: FieldTable) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), kind, options, arguments).await
}

/// Declares all levels, each step for all of them at once, since one by one it takes a second.
async fn ladder(channel: Channel) -> lapin::Result<()> {
    let channel = &channel;
    try_join_all((0..delay_ladder::LEVELS).map(|level| async move {
        exchange(channel, &delay_ladder::level_name(level), ExchangeKind::Topic, FieldTable::default()).await
    }))
    .await?;
    try_join_all((0..delay_ladder::LEVELS).map(|level| {
        let arguments = delay_ladder::level_arguments(level);
        channel.queue_declare(delay_ladder::level_name(level).into(), QueueDeclareOptions::durable(), arguments)
    }))
    .await?;
    try_join_all((0..delay_ladder::LEVELS).map(|level| async move {
        let name = delay_ladder::level_name(level);
        let (waits, passes) = (delay_ladder::waits(level).into(), delay_ladder::passes(level).into());
        channel
            .queue_bind(
                name.as_str().into(),
                name.as_str().into(),
                waits,
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let (below, strays) = (delay_ladder::below(level), delay_ladder::strays(level).into());
        let options = ExchangeBindOptions::default();
        channel.exchange_bind(below.as_str().into(), name.into(), passes, options, FieldTable::default()).await?;
        channel.exchange_bind(DEAD_EXCHANGE.into(), below.into(), strays, options, FieldTable::default()).await
    }))
    .await?;
    Ok(())
}

/// Parses the broker's error about a queue that exists with other arguments.
fn difference(complaint: &str) -> Option<String> {
    let (_, rest) = complaint.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (asked, is) = rest.split_once(" but current is ")?;
    Some(format!("`{argument}` is {}, asked for {}", plain(is), plain(asked)))
}

/// Reduces both `the value '10' of type 'signedint'` and `'10'` to `"10"`; `none` stays.
fn plain(value: &str) -> String {
    match value.split('\'').nth(1) {
        Some(value) => format!("{value:?}"),
        None => value.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_differences() {
        for (complaint, expected) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'",
                Some("`x-queue-type` is \"classic\", asked for \"quorum\""),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'",
                Some("`x-max-priority` is \"10\", asked for none"),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'a b' in vhost '/': received the value 'taskq.dead' of type 'longstr' but current is none",
                Some("`x-dead-letter-exchange` is none, asked for \"taskq.dead\""),
            ),
            ("PRECONDITION_FAILED - invalid arg 'x-overflow'", None),
            ("", None),
        ] {
            assert_eq!(difference(complaint).as_deref(), expected, "{complaint}");
        }
    }

    #[test]
    fn celery_queues_are_declared_as_celery_does() {
        assert_eq!(arguments(&QueueSpec::celery("celery")), FieldTable::default());
        let spec = QueueSpec { max_priority: Some(10), ..QueueSpec::celery("celery") };
        let mut expected = FieldTable::default();
        expected.insert("x-max-priority".into(), AMQPValue::LongInt(10));
        assert_eq!(arguments(&spec), expected);
    }

    #[test]
    fn what_is_invalidated_is_declared_again() {
        let topology = Topology::new(false);
        let spec = QueueSpec::quorum("q");
        let queue = DeclaredQueue { spec: spec.clone(), declared: Some(Declared::AsAsked) };
        topology.lock().queues.insert(spec.name.clone(), queue);
        assert_eq!(topology.declared(&spec), Some(Declared::AsAsked));
        assert_eq!(topology.declared(&QueueSpec::classic("q")), None);
        topology.invalidate("q");
        assert_eq!(topology.declared(&spec), None);
        assert_eq!(topology.spec("q"), Some(spec));
    }
}
