//! Every broker adapter keeps every promise of the port.

use std::sync::Arc;

use taskq::broker::memory::MemoryBroker;
use taskq::broker::{self, Broker, BrokerOptions, QueueKind};
use taskq::conformance::broker::run_all;
use taskq_tests::harness::Servers;

async fn on_rabbitmq(kind: QueueKind) {
    let Some(servers) = Servers::from_env() else { return };
    let broker = broker::connect(&servers.amqp, BrokerOptions::default()).await.expect("the test broker is up");
    run_all(|| async { Arc::clone(&broker) }, kind).await;
    broker.close().await;
}

#[tokio::test]
async fn memory() {
    run_all(|| async { MemoryBroker::private(BrokerOptions::default()) as Arc<dyn Broker> }, QueueKind::Quorum).await;
}

#[tokio::test]
async fn rabbitmq_quorum() {
    on_rabbitmq(QueueKind::Quorum).await;
}

#[tokio::test]
async fn rabbitmq_classic() {
    on_rabbitmq(QueueKind::Classic).await;
}

#[tokio::test]
async fn rabbitmq_celery() {
    on_rabbitmq(QueueKind::Celery).await;
}
