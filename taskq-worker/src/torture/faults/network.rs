//! What is done to connections.

use std::time::Duration;

use taskq::BoxError;

use super::{Fault, Field, Need, RESET_EVERY, RESETS};
use crate::torture::ledger::Whom;
use crate::torture::proxy::{Mode, Proxy};

/// How long the broker's answers are lost.
const MUTE_FOR: Duration = Duration::from_secs(1);

/// How long each piece takes on a slow way.
const SLOW_BY: Duration = Duration::from_millis(20);

/// The ways by which workers and the sender reach the servers: direct, unless a fault needs them bad.
#[derive(Debug)]
pub(in crate::torture) struct Network {
    broker: Option<Proxy>,
    results: Option<Proxy>,
    producer: Option<Proxy>,
}

impl Network {
    /// The ways that these faults need.
    pub(in crate::torture) async fn for_faults(
        faults: &[Fault],
        broker: &str,
        results: Option<&str>,
    ) -> std::io::Result<Self> {
        let broker_by_tcp = faults.iter().any(|fault| fault.need() == Need::BrokerByTcp);
        let results_by_tcp = faults.iter().any(|fault| fault.need() == Need::ResultsByTcp);
        let mut network = Self { broker: None, results: None, producer: None };
        if broker_by_tcp {
            network.broker = Some(Proxy::before(broker).await?);
            network.producer = Some(Proxy::before(broker).await?);
        }
        if let Some(results) = results.filter(|_| results_by_tcp) {
            network.results = Some(Proxy::before(results).await?);
        }
        Ok(network)
    }

    /// The broker's URL for workers, if it is not the direct one.
    pub(in crate::torture) fn broker(&self) -> Option<&str> {
        self.broker.as_ref().map(Proxy::url)
    }

    /// The result backend's URL for workers, if it is not the direct one.
    pub(in crate::torture) fn results(&self) -> Option<&str> {
        self.results.as_ref().map(Proxy::url)
    }

    /// The broker's URL for the sender, if it is not the direct one.
    pub(in crate::torture) fn producer(&self) -> Option<&str> {
        self.producer.as_ref().map(Proxy::url)
    }

    /// From now on all is good.
    pub(in crate::torture) fn heal(&self) {
        for proxy in [&self.broker, &self.results, &self.producer].into_iter().flatten() {
            proxy.set(Mode::Good);
        }
    }
}

fn by_way_of(proxy: Option<&Proxy>) -> Result<&Proxy, BoxError> {
    proxy.ok_or_else(|| "there is no proxy on this way".into())
}

/// All connections of workers and of the sender, again and again.
pub(super) async fn resets(field: &mut Field<'_>) -> Result<(), BoxError> {
    let (broker, producer) = (by_way_of(field.network.broker.as_ref())?, by_way_of(field.network.producer.as_ref())?);
    for _ in 0..RESETS {
        field.struck(Fault::Resets, Whom::Everybody(field.fleet.processes()))?;
        broker.reset();
        producer.reset();
        tokio::time::sleep(RESET_EVERY).await;
        field.over(Fault::Resets)?;
    }
    Ok(())
}

/// Nothing is carried to or from the broker, and nobody is told.
pub(super) async fn half_open(field: &mut Field<'_>) -> Result<(), BoxError> {
    for_a_while(field, Fault::HalfOpen, Mode::Silent).await
}

/// Workers do not reach the broker, and do reach the results.
pub(super) async fn cut_broker(field: &mut Field<'_>) -> Result<(), BoxError> {
    for_a_while(field, Fault::CutBroker, Mode::Cut).await
}

/// The way to the broker is slow. No connection is lost by that alone, but one may be given up.
pub(super) async fn slow(field: &mut Field<'_>) -> Result<(), BoxError> {
    for_a_while(field, Fault::Slow, Mode::Slow(SLOW_BY)).await
}

async fn for_a_while(field: &mut Field<'_>, fault: Fault, mode: Mode) -> Result<(), BoxError> {
    let broker = by_way_of(field.network.broker.as_ref())?;
    field.struck(fault, Whom::Connections(field.fleet.processes()))?;
    broker.set(mode);
    tokio::time::sleep(field.hold()).await;
    broker.set(Mode::Good);
    field.over(fault)
}

/// Workers do not reach the results. Nothing comes back from the broker because of that, so nothing may be repeated.
pub(super) async fn cut_results(field: &mut Field<'_>) -> Result<(), BoxError> {
    let results = by_way_of(field.network.results.as_ref())?;
    field.struck(Fault::CutResults, Whom::Nobody)?;
    results.set(Mode::Cut);
    tokio::time::sleep(field.hold()).await;
    results.set(Mode::Good);
    field.over(Fault::CutResults)
}

/// The broker takes what is sent, and its confirms do not arrive.
pub(super) async fn lost_confirms(field: &mut Field<'_>) -> Result<(), BoxError> {
    let producer = by_way_of(field.network.producer.as_ref())?;
    field.struck(Fault::LostConfirms, Whom::Producer)?;
    producer.set(Mode::Mute);
    tokio::time::sleep(MUTE_FOR).await;
    producer.set(Mode::Good);
    field.over(Fault::LostConfirms)
}
