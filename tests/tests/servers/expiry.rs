//! Messages that RabbitMQ itself drops when their time is over, as those of Celery clients.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use taskq::TaskId;
use taskq::broker::EXPIRED_QUEUE;
use taskq_tests::harness::{BOUND, ServerFixture, unique};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_of_a_message_that_the_broker_dropped_learns_that_it_is_revoked() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (client, queue, other) = (&fixture.client, unique("unattended"), unique("attended"));
    // Nobody works on the queue of the call.
    client.declare(&queue).await.expect("it can be declared");
    let id = TaskId::new();
    let mut headers = FieldTable::default();
    headers.insert("id".into(), AMQPValue::LongString(id.as_str().into()));
    headers.insert("task".into(), AMQPValue::LongString("shop.add".into()));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_expiration("100".into())
        .with_headers(headers);
    let connection = Connection::connect(&fixture.vhost.servers.amqp, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), queue.as_str().into(), options, b"[[2, 3], {}, {}]", properties);
    sent.await.expect("it is written");

    let worker = fixture.worker(&[&other]);
    let revoked = client.handle::<i64>(id.clone()).get_timeout(BOUND).await.expect_err("it has expired");
    assert!(matches!(&revoked, taskq::Error::Revoked { failure, .. } if failure.message() == "expired"), "{revoked}");
    let dead = client.dead().get(&id).await.expect("it is in the dead set as well");
    assert_eq!((dead.letter.reason.as_str(), dead.letter.queue.as_str()), ("expired", queue.as_str()));
    // A delay ends on the same way, and is no expiry.
    let delayed = tasks::add(2, 3).queue(other.clone()).countdown("300ms").send(client).await.expect("it is accepted");
    assert_eq!(delayed.get_timeout(BOUND).await.expect("it runs"), 5);
    while client.broker().stats(EXPIRED_QUEUE).await.expect("it is there").ready > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.drain();
}
