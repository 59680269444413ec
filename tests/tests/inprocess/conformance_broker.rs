//! Every broker adapter keeps every promise of the port.

use std::sync::Arc;

use taskq::broker::memory::MemoryBroker;
use taskq::broker::{self, Broker, BrokerOptions, QueueKind};
use taskq::conformance::broker::run_all;

/// The URL of a RabbitMQ for tests; without one the test is skipped, unless servers are required.
fn amqp_url() -> Option<String> {
    let url = std::env::var("TASKQ_TEST_AMQP_URL").ok();
    if url.is_none() {
        assert!(std::env::var("TASKQ_TEST_REQUIRE_SERVERS").is_err(), "TASKQ_TEST_AMQP_URL is not set");
        println!("skipped: TASKQ_TEST_AMQP_URL is not set; `scripts/test` starts a RabbitMQ");
    }
    url
}

async fn on_rabbitmq(kind: QueueKind) {
    let Some(url) = amqp_url() else { return };
    let broker = broker::connect(&url, BrokerOptions::default()).await.expect("the test broker is up");
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
