//! The promises of delays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::broker::{Broker, QueueKind};

use super::tools::{body, consume, declare, name, next, nothing, publish, queue, send};

/// A delayed message arrives, and not before its time.
pub async fn delays_are_never_early(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    let mut sent = BTreeMap::new();
    for ms in [1_200, 150, 700] {
        let delay = Duration::from_millis(ms);
        sent.insert(ms.to_string(), (Instant::now(), delay));
        send(&*broker, &queue, &ms.to_string(), Some(delay)).await.expect("the queue exists");
    }
    // In which order depends on how long the sending took.
    while !sent.is_empty() {
        let delivery = next(&mut consumption).await;
        let (at, delay) = sent.remove(body(&delivery)).expect("each arrives once, and nothing else does");
        let waited = at.elapsed();
        assert!(waited >= delay, "{delay:?} arrived after {waited:?}");
        assert_eq!(delivery.message.headers.iter().filter(|(key, _)| key.starts_with("x-")).count(), 0);
        delivery.acker.ack();
    }
    consumption.control.close().await;
}

/// Messages with a long delay do not hold up those with a short one.
pub async fn a_long_delay_does_not_hold_a_short_one(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    send(&*broker, &queue, "tomorrow", Some(Duration::from_secs(86_400))).await.expect("the queue exists");
    send(&*broker, &queue, "beyond", Some(Duration::MAX)).await.expect("the queue exists");
    send(&*broker, &queue, "soon", Some(Duration::from_millis(300))).await.expect("the queue exists");
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "soon");
    delivery.acker.ack();
    nothing(&mut consumption).await;
    consumption.control.close().await;
}

/// Delayed messages are neither ready nor unsettled with a consumer, so they take no consumer's prefetch.
pub async fn delayed_messages_are_in_nobodys_hands(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let mut consumption = consume(&*broker, &queue, 1).await;
    let delay = Duration::from_secs(3600);
    let answers: Vec<_> = (0..50).map(|_| send(&*broker, &queue, "later", Some(delay))).collect();
    for answer in join_all(answers).await {
        answer.expect("the queue exists");
    }
    nothing(&mut consumption).await;
    assert_eq!(broker.stats(&queue).await.expect("the queue exists").ready, 0);
    publish(&*broker, &queue, "now").await;
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "now", "the prefetch of one is free");
    delivery.acker.ack();
    consumption.control.close().await;
}

/// A queue `mail` gets no delayed message of a queue `eu.mail`, nor the other way round.
pub async fn delays_find_their_queue(broker: Arc<dyn Broker>, kind: QueueKind) {
    let mail = name();
    let eu: Arc<str> = format!("eu.{mail}").into();
    for name in [&mail, &eu] {
        declare(&*broker, name, kind).await;
    }
    let mut at_mail = consume(&*broker, &mail, 10).await;
    let mut at_eu = consume(&*broker, &eu, 10).await;
    let delay = Some(Duration::from_millis(100));
    send(&*broker, &eu, "for eu", delay).await.expect("the queue exists");
    let delivery = next(&mut at_eu).await;
    assert_eq!(body(&delivery), "for eu");
    delivery.acker.ack();
    nothing(&mut at_mail).await;
    send(&*broker, &mail, "for mail", delay).await.expect("the queue exists");
    let delivery = next(&mut at_mail).await;
    assert_eq!(body(&delivery), "for mail");
    delivery.acker.ack();
    nothing(&mut at_eu).await;
    at_mail.control.close().await;
    at_eu.control.close().await;
}
