//! Every broker adapter keeps every promise of the port.

use std::sync::Arc;

use taskq::broker::memory::MemoryBroker;
use taskq::broker::{self, Broker, BrokerOptions, QueueKind};
use taskq::conformance::broadcast;
use taskq::conformance::broker::run_all;
use taskq::{Client, TaskId};
use taskq_tests::harness::{Embedded, Servers};

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
async fn messages_to_all_workers_of_memory() {
    let url = format!("memory:{}", TaskId::new());
    broadcast::run_all(|| async { client(&url, &url).await }).await;
}

#[tokio::test]
async fn messages_to_all_workers_of_a_file() {
    let file = Embedded::new();
    broadcast::run_all(|| async { client(&file.url(), &file.url()).await }).await;
}

#[tokio::test]
async fn messages_to_all_workers_of_rabbitmq() {
    let Some(servers) = Servers::from_env() else { return };
    broadcast::run_all(|| async { client(&servers.amqp, "none").await }).await;
}

async fn client(broker: &str, results: &str) -> Client {
    Client::builder().broker(broker).results(results).build().await.expect("they are up")
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
