//! The promises of declaring and publishing.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use crate::broker::{Broker, BrokerError, BrokerOptions, Declared, Publication, PublishError, QueueKind, QueueSpec};
use crate::conformance::PATIENCE;
use crate::message::{Headers, Properties, WireMessage};

use super::tools::{body, consume, name, next, publish, queue, send, wait_for_ready};

/// Declaring a queue twice is no error, and leaves its messages.
pub async fn declaring_is_repeatable(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "kept").await;
    let spec = QueueSpec { name: Arc::clone(&queue), kind, max_priority: None };
    let declared = broker.declare(&spec).await.expect("it is declared as before");
    assert_eq!(declared, Declared::AsAsked);
    wait_for_ready(&*broker, &queue, 1).await;
}

/// Names that would break routing are refused before anything is sent.
pub async fn bad_names_are_refused(broker: Arc<dyn Broker>, kind: QueueKind) {
    for name in ["", "a*", "b.#", "amq.mine"].map(str::to_owned).into_iter().chain(["x".repeat(191)]) {
        let spec = QueueSpec { name: name.into(), kind, max_priority: None };
        let error = broker.declare(&spec).await.expect_err("the name is bad");
        assert!(matches!(error, BrokerError::QueueName { .. }), "{error}");
    }
}

/// A message whose publish was answered with `Ok` is in the queue.
pub async fn confirmed_is_present(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "here").await;
    wait_for_ready(&*broker, &queue, 1).await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "here");
    assert!(!delivery.redelivered, "nobody had it before");
    assert_eq!(&*delivery.queue, &*queue);
    delivery.acker.ack();
    consumption.control.close().await;
}

/// Messages are delivered in the order in which they were published.
pub async fn order_is_kept(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let answers: Vec<_> = (0..200).map(|number| send(&*broker, &queue, &number.to_string(), None)).collect();
    for answer in join_all(answers).await {
        answer.expect("the queue exists");
    }
    let mut consumption = consume(&*broker, &queue, 50).await;
    for number in 0..200 {
        let delivery = next(&mut consumption).await;
        assert_eq!(body(&delivery), number.to_string());
        delivery.acker.ack();
    }
    consumption.control.close().await;
}

/// Headers of every type, properties and bodies of all sizes are delivered unchanged.
pub async fn messages_survive_unchanged(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let headers: Headers = [
        ("array", json!([1, "two", null, [3.5]])),
        ("flag", json!(true)),
        ("float", json!(0.25)),
        ("int", json!(-7)),
        ("large", json!(9_007_199_254_740_993_i64)),
        ("null", json!(null)),
        ("table", json!({"a": {"b": [1]}, "c": "d"})),
        ("text", json!("Grüße, \u{1f980}\n\0")),
    ]
    .into_iter()
    .collect();
    let properties = Properties {
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        priority: Some(3),
        correlation_id: Some("an id".to_owned()),
        reply_to: Some("somewhere".to_owned()),
    };
    let bodies = [0, 1, 16 << 10, (16 << 10) - 8, 100_000, 3 << 20].map(|size: usize| vec![b'x'; size]);
    let mut consumption = consume(&*broker, &queue, 2).await;
    for size in bodies {
        let message =
            WireMessage { properties: properties.clone(), headers: headers.clone(), body: size.clone().into() };
        let publication = Publication { queue: Arc::clone(&queue), message: message.clone(), delay: None };
        broker.publish(publication).await.expect("the queue exists");
        let delivery = next(&mut consumption).await;
        assert_eq!(delivery.message.properties, message.properties);
        assert_eq!(delivery.message.headers, message.headers);
        assert!(delivery.message.body == message.body, "a body of {} bytes changed", size.len());
        delivery.acker.ack();
    }
    consumption.control.close().await;
}

/// Priorities are served in the order that the broker has on this kind of queue.
pub async fn priorities_have_one_rule(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let given = [("0", 0), ("1", 1), ("9", 9), ("0 again", 0), ("4", 4)];
    for (text, priority) in given {
        let properties = Properties { priority: Some(priority), ..Properties::default() };
        let message = WireMessage { properties, body: text.to_owned().into(), ..WireMessage::default() };
        broker.publish(Publication::new(Arc::clone(&queue), message)).await.expect("the queue exists");
    }
    let info = broker.info().await.expect("the broker tells");
    let expected: [&str; 5] = match (&*info.product, kind, release(&info.version)) {
        ("RabbitMQ", QueueKind::Quorum, (4, 0..=2)) => ["9", "0", "1", "0 again", "4"],
        ("RabbitMQ", QueueKind::Quorum, (0..=3, _)) => given.map(|(text, _)| text),
        // Without a `max_priority`.
        ("RabbitMQ", QueueKind::Classic | QueueKind::Celery, _) => given.map(|(text, _)| text),
        _ => ["9", "4", "1", "0", "0 again"],
    };
    let mut consumption = consume(&*broker, &queue, 10).await;
    let mut taken = Vec::new();
    for _ in given {
        let delivery = next(&mut consumption).await;
        taken.push(body(&delivery).to_owned());
        delivery.acker.ack();
    }
    assert_eq!(taken, expected, "{} {}", info.product, info.version);
    consumption.control.close().await;
}

/// The major and the minor number of a version.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(u32::MAX))
}

/// A message that no queue takes is an error, and the next one is not.
pub async fn unroutable_is_an_error(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let nowhere = name();
    let answers: Vec<_> =
        (0..20).map(|number| send(&*broker, if number % 2 == 0 { &queue } else { &nowhere }, "x", None)).collect();
    for (number, answer) in join_all(answers).await.into_iter().enumerate() {
        if number % 2 == 0 {
            answer.expect("the queue exists");
        } else {
            let error = answer.expect_err("there is no such queue");
            assert!(matches!(&error, PublishError::Unroutable { queue } if **queue == *nowhere), "{error}");
        }
    }
    wait_for_ready(&*broker, &queue, 10).await;
}

/// A body over the limit is an error that names both sizes, and sends nothing. Brokers are to be made with the default
/// limit.
pub async fn too_large_is_an_error(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let allowed = BrokerOptions::default().max_message_bytes;
    let message = WireMessage { body: vec![0; allowed + 1].into(), ..WireMessage::default() };
    let error = broker.publish(Publication { queue, message, delay: None }).await.expect_err("it is too large");
    let PublishError::TooLarge { size, limit, .. } = error else { panic!("not the error that says so: {error}") };
    assert_eq!((size, limit), (allowed + 1, allowed));
}

/// Publishing does not wait for answers: a thousand are sent before the first is awaited.
pub async fn a_thousand_pipelined(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let answers: Vec<_> = (0..1000).map(|number| send(&*broker, &queue, &number.to_string(), None)).collect();
    // They are published already, though nothing has polled them.
    wait_for_ready(&*broker, &queue, 1000).await;
    for answer in answers {
        timeout(PATIENCE, answer).await.expect("the answer comes").expect("the queue exists");
    }
}
