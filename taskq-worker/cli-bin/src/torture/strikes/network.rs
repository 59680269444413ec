//! Faults of connections.

use std::time::Duration;

use taskq::BoxError;

use super::StrikeContext;
use crate::torture::catalog::{Fault, RESET_EVERY, RESETS};
use crate::torture::ledger::Affected;
use crate::torture::proxy::{NetworkMode, Proxy};

/// How long the broker's answers are lost.
const MUTE_FOR: Duration = Duration::from_secs(1);

/// The delay of each piece on a slow connection.
const SLOW_BY: Duration = Duration::from_millis(20);

fn by_way_of(proxy: Option<&Proxy>) -> Result<&Proxy, BoxError> {
    proxy.ok_or_else(|| "this connection has no proxy".into())
}

/// Resets all connections of the workers and of the sender, again and again.
pub(super) async fn resets(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let (broker, producer) = (by_way_of(context.network.broker())?, by_way_of(context.network.producer())?);
    for _ in 0..RESETS {
        context.struck(Fault::Resets, Affected::Everybody(context.fleet.processes()))?;
        broker.reset();
        producer.reset();
        tokio::time::sleep(RESET_EVERY).await;
        context.over(Fault::Resets)?;
    }
    Ok(())
}

/// Stops all traffic to and from the broker without telling either side.
pub(super) async fn half_open(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    for_a_while(context, Fault::HalfOpen, NetworkMode::Silent).await
}

/// Cuts the workers off from the broker, but not from the result backend.
pub(super) async fn cut_broker(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    for_a_while(context, Fault::CutBroker, NetworkMode::Cut).await
}

/// Slows the connections to the broker down. No connection is lost by that alone, but one may be given up.
pub(super) async fn slow(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    for_a_while(context, Fault::Slow, NetworkMode::Slow(SLOW_BY)).await
}

async fn for_a_while(context: &mut StrikeContext<'_>, fault: Fault, mode: NetworkMode) -> Result<(), BoxError> {
    let broker = by_way_of(context.network.broker())?;
    context.struck(fault, Affected::Connections(context.fleet.processes()))?;
    broker.set(mode);
    tokio::time::sleep(context.hold()).await;
    broker.set(NetworkMode::Good);
    context.over(fault)
}

/// Cuts the workers off from the result backend. The broker returns nothing because of that, so nothing may be
/// repeated.
pub(super) async fn cut_results(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let results = by_way_of(context.network.results())?;
    context.struck(Fault::CutResults, Affected::Nobody)?;
    results.set(NetworkMode::Cut);
    tokio::time::sleep(context.hold()).await;
    results.set(NetworkMode::Good);
    context.over(Fault::CutResults)
}

/// Drops the broker's confirms on their way to the sender; the broker does take the messages.
pub(super) async fn lost_confirms(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let producer = by_way_of(context.network.producer())?;
    context.struck(Fault::LostConfirms, Affected::Producer)?;
    producer.set(NetworkMode::Mute);
    tokio::time::sleep(MUTE_FOR).await;
    producer.set(NetworkMode::Good);
    context.over(Fault::LostConfirms)
}
