//! Queues, the dead queue and the delay ladder in the broker: their declaration, and the record of what exists.
//!
//! Declarations are active: a passive one says nothing about arguments. If a queue exists with other
//! [arguments](super::arguments), the broker closes the channel and names the first difference, and the queue is used
//! as it is. A user who may not declare uses what exists ([`rights`](super::rights)).

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tokio::sync::Mutex as AsyncMutex;

use super::arguments::{self, DEAD_EXCHANGE, NewQueues, QueueArguments, text};
use super::rights::{Known, Part, declare_or_find};
use super::session::{RequestFault, Session};
use super::{delay_ladder, delivery_renewal};
use crate::broker::{BrokerError, DEAD_QUEUE, Declared, EXPIRED_QUEUE, QueueKind, QueueSpec};

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

    /// Whether `queue` was declared as a quorum queue, or is one of taskq's own, which all are.
    pub(super) fn is_quorum(&self, queue: &str) -> bool {
        self.lock().queues.get(queue).is_none_or(|queue| queue.spec.kind == QueueKind::Quorum)
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
            let declared = self.declare_queue(session, &spec.name, arguments::of(spec)).await?;
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
        self.declare_queue(session, queue, delivery_renewal::arguments(origin).into()).await?;
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
        match declare_levels(session, 0..delay_ladder::LEVELS).await {
            // The queues of one ladder got different arguments when they were new. A level binds to the one below it.
            Err(DeclareFault::Request(fault)) if fault.text().is_some_and(|text| NewQueues::held().has(&text)) => {
                for level in 0..delay_ladder::LEVELS {
                    declare_levels(session, level..level + 1).await?;
                }
            }
            built => drop(built?),
        }
        self.lock().ladder = true;
        Ok(())
    }

    /// Whether any queue is known to be declared.
    fn has_declared(&self) -> bool {
        self.lock().queues.values().any(|queue| queue.declared.is_some())
    }

    async fn declare_dead(&self, session: &Session) -> Result<Declared, DeclareFault> {
        declare_new_or_old(session, NewQueues::held(), dead_exchanges, &dead_parts()).await?;
        let declared = self.declare_queue(session, DEAD_QUEUE, arguments::dead().into()).await?;
        let bind = |channel: Channel| async move {
            let options = QueueBindOptions::default();
            channel.queue_bind(DEAD_QUEUE.into(), DEAD_EXCHANGE.into(), "".into(), options, FieldTable::default()).await
        };
        bound(DEAD_QUEUE, &declared, session.on_scratch(bind).await)?;
        match declare_new_or_old(session, NewQueues::consumed(), expired_reports, &[]).await {
            // Brokers before RabbitMQ 3.10 cannot: then nobody is told.
            Err(fault) if fault.is_refusal() => {
                let error = fault.during("declaring the queue of expired messages");
                tracing::debug!(error = &error as &dyn std::error::Error, "expired messages are not reported");
            }
            outcome => drop(outcome?),
        }
        Ok(declared)
    }

    async fn declare_queue(
        &self,
        session: &Session,
        queue: &str,
        arguments: QueueArguments,
    ) -> Result<Declared, DeclareFault> {
        let QueueArguments { fixed, new } = arguments;
        let declare = |channel: Channel, new: NewQueues| {
            let arguments = new.added_to(fixed.clone());
            async move { channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.map(drop) }
        };
        let fault = match declare_new_or_old(session, new, declare, &[Part::Queue(queue.to_owned())]).await {
            Ok(Known::Declared) => return Ok(Declared::AsAsked),
            Ok(Known::Found) if self.strict => {
                return Err(DeclareFault::Broker(BrokerError::Incomparable { queue: queue.to_owned() }));
            }
            Ok(Known::Found) => return Ok(Declared::Found),
            Err(DeclareFault::Request(fault)) => fault,
            Err(broker) => return Err(broker),
        };
        let Some(difference) =
            (fault.code() == Some(406)).then(|| fault.text()).flatten().as_deref().and_then(arguments::difference)
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

/// Declares parts with the arguments that new queues get. If a queue exists with others of those, it is declared with
/// what it has, so that all its other arguments are compared.
async fn declare_new_or_old<F>(
    session: &Session,
    mut new: NewQueues,
    declare: impl Fn(Channel, NewQueues) -> F,
    parts: &[Part],
) -> Result<Known, DeclareFault>
where
    F: Future<Output = lapin::Result<()>>,
{
    loop {
        match declare_or_find(session, |channel| declare(channel, new.clone()), parts).await {
            Err(DeclareFault::Request(fault)) => {
                let complaint = if fault.code() == Some(406) { fault.text() } else { None };
                match complaint.and_then(|complaint| new.as_found(&complaint)) {
                    Some(found) => new = found,
                    None => return Err(fault.into()),
                }
            }
            outcome => return outcome,
        }
    }
}

/// Declares levels of the delay ladder, all of them with the same arguments for new queues.
async fn declare_levels(session: &Session, levels: Range<u32>) -> Result<Known, DeclareFault> {
    let parts = ladder_parts(levels.clone());
    let declare = |channel, new| ladder(channel, levels.clone(), new);
    declare_new_or_old(session, NewQueues::held(), declare, &parts).await
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
fn ladder_parts(levels: Range<u32>) -> Vec<Part> {
    let names = levels.map(delay_ladder::level_name);
    names.flat_map(|name| [Part::Exchange(name.clone()), Part::Queue(name)]).collect()
}

async fn dead_exchanges(channel: Channel, new: NewQueues) -> lapin::Result<()> {
    exchange(&channel, DEAD_EXCHANGE, ExchangeKind::Fanout, FieldTable::default()).await?;
    exchange(&channel, delay_ladder::LATE_DELIVERY_EXCHANGE, ExchangeKind::Topic, delay_ladder::or_else(DEAD_EXCHANGE))
        .await?;
    exchange(&channel, delay_ladder::LATE, ExchangeKind::Fanout, FieldTable::default()).await?;
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(delay_ladder::LATE.into(), options, new.added_to(delay_ladder::late_arguments())).await?;
    let options = QueueBindOptions::default();
    channel
        .queue_bind(delay_ladder::LATE.into(), delay_ladder::LATE.into(), "".into(), options, FieldTable::default())
        .await?;
    exchange(&channel, delay_ladder::DELIVERY_EXCHANGE, ExchangeKind::Topic, delay_ladder::or_else(delay_ladder::LATE))
        .await
}

/// Declares the queue of expired messages. Everything that the broker gives up passes the exchange of dead messages,
/// and its first death is in its headers.
async fn expired_reports(channel: Channel, new: NewQueues) -> lapin::Result<()> {
    let arguments = new.added_to(arguments::expired());
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

/// Declares these levels, each step for all of them at once, since one by one it takes a second.
async fn ladder(channel: Channel, levels: Range<u32>, new: NewQueues) -> lapin::Result<()> {
    let channel = &channel;
    try_join_all(levels.clone().map(|level| async move {
        exchange(channel, &delay_ladder::level_name(level), ExchangeKind::Topic, FieldTable::default()).await
    }))
    .await?;
    try_join_all(levels.clone().map(|level| {
        let arguments = new.added_to(delay_ladder::level_arguments(level));
        channel.queue_declare(delay_ladder::level_name(level).into(), QueueDeclareOptions::durable(), arguments)
    }))
    .await?;
    try_join_all(levels.map(|level| async move {
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

#[cfg(test)]
mod tests {
    use super::*;

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
