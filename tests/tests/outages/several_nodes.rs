//! A broker of several nodes: whichever of them can be used is used, and one that is of no use is left.
//!
//! The nodes are two ways to one RabbitMQ. A node that takes connections and carries nothing out is made by suspending
//! the processes of its quorum queues, as they are in the minority of a partition: heartbeats go on, channels are
//! opened, queues are told of from memory. `scripts/torture` has the same with three real nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use taskq::broker::{self, Broker, BrokerOptions, Publication, QueueKind, QueueSpec};
use taskq::message::{Properties, WireMessage};
use taskq_tests::harness::{FaultyProxy, PrivateServers};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);

/// One RabbitMQ, and two ways to it.
struct TwoNodes {
    servers: Arc<PrivateServers>,
    one: FaultyProxy,
    two: FaultyProxy,
}

impl TwoNodes {
    /// Starts it; `None` where servers are neither given nor required.
    async fn start() -> Option<Self> {
        let servers = spawn_blocking(PrivateServers::start).await.expect("it does not panic")?;
        let [one, two] = [(); 2].map(|()| FaultyProxy::to(&servers.servers.amqp));
        Some(Self { servers: Arc::new(servers), one, two })
    }

    async fn connect(&self) -> Arc<dyn Broker> {
        let options = patient();
        let urls = format!("{};{}", self.one.url(), self.two.url());
        broker::connect(&urls, options).await.expect("a node is up")
    }

    async fn eval(&self, expression: String) {
        let servers = Arc::clone(&self.servers);
        let done = spawn_blocking(move || servers.rabbitmqctl(&["eval", &expression])).await;
        done.expect("it does not panic");
    }

    /// Cuts the processes of the quorum queues off, or lets them go on.
    async fn each_queue(&self, action: &str, queues: &[&str]) {
        for queue in queues {
            self.eval(format!("sys:{action}('%2F_{queue}').")).await;
        }
    }
}

/// Options of a client that sits every outage of a test out.
fn patient() -> BrokerOptions {
    BrokerOptions::default().with(|options| options.publish_timeout = PATIENCE)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let holding = timeout(PATIENCE, async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    holding.await.unwrap_or_else(|_| panic!("{what}"));
}

fn publication(queue: &QueueSpec, body: &str) -> Publication {
    let message =
        WireMessage { body: body.to_owned().into(), properties: Properties::default(), ..WireMessage::default() };
    Publication::new(Arc::clone(&queue.name), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_that_is_up_is_used_and_every_loss_leads_to_the_other() {
    let Some(mut nodes) = TwoNodes::start().await else { return };
    nodes.one.cut();
    let queue = QueueSpec::new("two.moves", QueueKind::Quorum);
    let broker = nodes.connect().await;
    broker.declare(&queue).await.expect("the other node is up");
    let mut consumption = broker.consume(&[Arc::clone(&queue.name)], 10).await.expect("the queue exists");
    for (round, body) in ["0", "1", "2", "3"].into_iter().enumerate() {
        broker.publish(publication(&queue, body)).await.expect("a node is up");
        loop {
            let delivery =
                timeout(PATIENCE, consumption.deliveries.next()).await.expect("it comes").expect("it is one");
            let is_new = &delivery.message.body[..] == body.as_bytes();
            assert!(is_new || delivery.redelivered, "only what was acknowledged too late may come once more");
            delivery.acker.ack();
            if is_new {
                break;
            }
        }
        let TwoNodes { one, two, .. } = &mut nodes;
        let (down, up) = if round % 2 == 0 { (one, two) } else { (two, one) };
        let settled = broker.stats(&queue.name).await.expect("the queue exists");
        assert_eq!(settled.ready, 0);
        down.open();
        up.cut();
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_confirms_and_hands_out_nothing_is_left_for_another() {
    let Some(mut nodes) = TwoNodes::start().await else { return };
    nodes.two.cut();
    let queue = QueueSpec::new("two.minority", QueueKind::Quorum);
    let broker = nodes.connect().await;
    broker.declare(&queue).await.expect("a node is up");
    let consumption = broker.consume(&[Arc::clone(&queue.name)], 10).await.expect("the queue exists");
    broker.publish(publication(&queue, "before")).await.expect("all is well");
    assert!(consumption.control.is_live());
    assert_eq!((nodes.one.accepted(), nodes.two.accepted()), (2, 0), "one connection publishes and one consumes");

    let processes = ["two.minority", "taskq.expired"];
    nodes.each_queue("suspend", &processes).await;
    nodes.two.open();
    let waiting = tokio::spawn(broker.publish(publication(&queue, "meanwhile")));
    until("health tells", || !consumption.control.is_live()).await;
    // Both connections, each for its own reason.
    until("the other node is tried", || nodes.two.accepted() >= 2).await;
    assert!(!waiting.is_finished(), "nothing was confirmed");
    nodes.each_queue("resume", &processes).await;
    waiting.await.expect("it does not panic").expect("it is confirmed");
    until("health tells", || consumption.control.is_live()).await;
    let bodies = consumption.deliveries.map(|delivery| {
        delivery.acker.ack();
        String::from_utf8(delivery.message.body.to_vec()).expect("it is text")
    });
    let mut seen = std::collections::BTreeSet::new();
    let mut bodies = std::pin::pin!(bodies);
    while seen.len() < 2 {
        seen.insert(timeout(PATIENCE, bodies.next()).await.expect("nothing is lost").expect("it goes on"));
    }
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_node_is_kept_and_health_tells_all_the_same() {
    let Some(nodes) = TwoNodes::start().await else { return };
    let options = patient();
    let broker = broker::connect(nodes.one.url(), options).await.expect("it is up");
    let queue = QueueSpec::new("one.minority", QueueKind::Quorum);
    broker.declare(&queue).await.expect("it is up");
    let consumption = broker.consume(&[Arc::clone(&queue.name)], 10).await.expect("the queue exists");
    nodes.each_queue("suspend", &["taskq.expired"]).await;
    until("health tells", || !consumption.control.is_live()).await;
    nodes.each_queue("resume", &["taskq.expired"]).await;
    until("health tells", || consumption.control.is_live()).await;
    assert_eq!(nodes.one.accepted(), 2, "another connection would lead to the same node");
    broker.close().await;
}
