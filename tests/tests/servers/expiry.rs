//! Messages that RabbitMQ itself drops when their time is over, as those of Celery clients.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use taskq::TaskId;
use taskq::broker::EXPIRED_QUEUE;
use taskq_tests::harness::{BOUND, ServerFixture, repository, unique};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_of_a_message_that_the_broker_dropped_learns_that_it_is_revoked() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    is_revoked(&fixture, &unique("unattended")).await;
}

/// A queue as Celery declares it, with the policy of the guide.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_gives_the_expired_messages_of_a_celery_queue_a_place() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let guide = std::fs::read_to_string(repository().join("docs/errors-and-retries.md")).expect("the guide exists");
    let (_, rest) = guide.split_once("`rabbitmqctl set_policy ").expect("it gives the command");
    let (command, _) = rest.split_once(" --apply-to queues`").expect("it is for queues");
    let [name, pattern, definition] = *command.splitn(3, ' ').collect::<Vec<_>>() else { panic!("{command}") };
    fixture.vhost.set_policy(name, pattern.trim_matches('\''), definition.trim_matches('\''));
    is_revoked(&fixture, "celery").await;
}

/// A message for `queue` that expires there is dead, and its caller learns of it; a delay is no expiry.
async fn is_revoked(fixture: &ServerFixture, queue: &str) {
    let (client, other) = (&fixture.client, unique("attended"));
    // Nobody works on the queue of the call.
    client.declare(queue).await.expect("it can be declared");
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
    let sent = channel.basic_publish("".into(), queue.into(), options, b"[[2, 3], {}, {}]", properties);
    sent.await.expect("it is written");

    let worker = fixture.worker(&[&other]);
    let revoked = client.handle::<i64>(id.clone()).get_timeout(BOUND).await.expect_err("it has expired");
    assert!(matches!(&revoked, taskq::Error::Revoked { failure, .. } if failure.message() == "expired"), "{revoked}");
    let dead = client.dead().get(&id).await.expect("it is in the dead set as well");
    assert_eq!((dead.letter.reason.as_str(), dead.letter.queue.as_str()), ("expired", queue));
    // A delay ends on the same way, and is no expiry.
    let delayed = tasks::add(2, 3).queue(other.clone()).countdown("300ms").send(client).await.expect("it is accepted");
    assert_eq!(delayed.get_timeout(BOUND).await.expect("it runs"), 5);
    while client.broker().stats(EXPIRED_QUEUE).await.expect("it is there").ready > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.drain();
}
