//! Timeouts of consumers on RabbitMQ 4.3 and later, where each consumer of a quorum queue has its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use taskq::broker::{self, Broker, BrokerOptions, Consumption, Declared, Delivery, Publication, QueueSpec};
use taskq::message::WireMessage;
use taskq_tests::harness::{PrivateServers, unique};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A RabbitMQ that waits for a second, and a client of it; `None` if its consumers have no timeouts of their own.
async fn impatient() -> Option<(PrivateServers, Arc<dyn Broker>)> {
    let own = PrivateServers::start()?;
    // As a broker's configuration cannot say it: a minute is the least there.
    own.rabbitmqctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1000)."]);
    let broker = connect(&own).await;
    let version = broker.info().await.expect("it tells").version;
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(4), Some(3)) {
        println!("RabbitMQ {version} has one timeout for a channel");
        return None;
    }
    Some((own, broker))
}

async fn connect(own: &PrivateServers) -> Arc<dyn Broker> {
    broker::connect(&own.servers.amqp, BrokerOptions::default()).await.expect("the broker is up")
}

async fn send(broker: &dyn Broker, queue: &Arc<str>, body: &str) {
    let message = WireMessage { body: body.to_owned().into(), ..WireMessage::default() };
    broker.publish(Publication::new(Arc::clone(queue), message)).await.expect("the queue exists");
}

async fn next(consumption: &mut Consumption) -> Delivery {
    timeout(PATIENCE, consumption.deliveries.next()).await.expect("a message comes").expect("the stream goes on")
}

/// A delivery of a queue that was declared as one of another kind, whose consumer therefore asks for no time of its
/// own, is taken back; meanwhile the delivery of another consumer of the same channel is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_replaces_one_consumer_and_leaves_the_channel() {
    let Some((own, broker)) = impatient().await else { return };
    let (asking, not_asking): (Arc<str>, Arc<str>) = (unique("asking").into(), unique("not-asking").into());
    for queue in [&asking, &not_asking] {
        broker.declare(&QueueSpec::quorum(Arc::clone(queue))).await.expect("it can be declared");
    }
    let consuming = connect(&own).await;
    consuming.declare(&QueueSpec::quorum(Arc::clone(&asking))).await.expect("it is there");
    let declared = consuming.declare(&QueueSpec::celery(Arc::clone(&not_asking))).await.expect("it is there");
    assert!(matches!(declared, Declared::Differs(_)), "{declared:?}");
    let queues = [Arc::clone(&asking), Arc::clone(&not_asking)];
    let mut consumption = consuming.consume(&queues, 10).await.expect("they are there");
    send(&*broker, &asking, "kept").await;
    let kept = next(&mut consumption).await;
    send(&*broker, &not_asking, "taken back").await;
    let taken_back = next(&mut consumption).await;
    assert_eq!((&*kept.queue, &*taken_back.queue), (&*asking, &*not_asking));

    let again = next(&mut consumption).await;
    assert!(again.redelivered && again.message.body == "taken back", "{again:?}");
    assert!(!taken_back.acker.is_current(), "it is somebody else's by now");
    assert!(kept.acker.is_current() && again.acker.is_current());
    // Without any effect: the message is acknowledged by the delivery that counts, and is gone then.
    taken_back.acker.ack();
    again.acker.ack();
    kept.acker.ack();
    for queue in &queues {
        send(&*broker, queue, "after it").await;
        let delivery = next(&mut consumption).await;
        assert_eq!((&*delivery.queue, delivery.redelivered), (&**queue, false));
        assert!(delivery.message.body == "after it");
        delivery.acker.ack();
    }
    consumption.control.close().await;
    for queue in &queues {
        assert_eq!(broker.stats(queue).await.expect("it is there").ready, 0, "nothing came back to {queue}");
    }
    consuming.close().await;
    broker.close().await;
}
