//! Tools for checking the promises.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{Broker, Consumption, Delivery, Publication, PublishError, QueueKind, QueueSpec};
use crate::conformance::PATIENCE;
use crate::message::{Headers, Properties, TaskId, WireMessage};

/// The time for which a check waits for an event that must not happen.
pub(super) const CALM: Duration = Duration::from_millis(300);

/// Returns a name that was not used before.
pub(super) fn name() -> Arc<str> {
    format!("conformance.{}", TaskId::new()).into()
}

pub(super) async fn declare(broker: &dyn Broker, name: &Arc<str>, kind: QueueKind) {
    let spec = QueueSpec { name: Arc::clone(name), kind, max_priority: None };
    broker.declare(&spec).await.expect("the queue can be declared");
}

pub(super) async fn queue(broker: &dyn Broker, kind: QueueKind) -> Arc<str> {
    let name = name();
    declare(broker, &name, kind).await;
    name
}

pub(super) fn send(
    broker: &dyn Broker,
    queue: &Arc<str>,
    body: &str,
    delay: Option<Duration>,
) -> BoxFuture<'static, Result<(), PublishError>> {
    let properties = Properties { correlation_id: Some("the same for all".to_owned()), ..Properties::default() };
    let message = WireMessage { properties, headers: Headers::new(), body: body.to_owned().into() };
    broker.publish(Publication { queue: Arc::clone(queue), message, delay })
}

pub(super) async fn publish(broker: &dyn Broker, queue: &Arc<str>, body: &str) {
    send(broker, queue, body, None).await.expect("the queue exists");
}

pub(super) async fn consume(broker: &dyn Broker, queue: &Arc<str>, prefetch: u16) -> Consumption {
    broker.consume(std::slice::from_ref(queue), prefetch).await.expect("the queue exists")
}

pub(super) async fn next(consumption: &mut Consumption) -> Delivery {
    let next = timeout(PATIENCE, consumption.deliveries.next()).await;
    next.expect("a message comes").expect("the stream goes on")
}

/// Asserts that no delivery arrives within [`CALM`].
pub(super) async fn nothing(consumption: &mut Consumption) {
    if let Ok(Some(delivery)) = timeout(CALM, consumption.deliveries.next()).await {
        panic!("{:?} came, and nothing should", body(&delivery));
    }
}

pub(super) fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.message.body).expect("all bodies here are text")
}

pub(super) async fn wait_for_ready(broker: &dyn Broker, queue: &str, ready: u64) {
    wait_until(&format!("{ready} messages are ready"), || async {
        broker.stats(queue).await.is_ok_and(|stats| stats.ready == ready)
    })
    .await;
}

pub(super) async fn wait_until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came to pass that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
