//! The promises of browsing, purging and statistics.

use std::collections::HashSet;
use std::sync::Arc;

use crate::broker::{Broker, BrokerError, QueueKind};

use super::tools::{body, consume, name, next, publish, queue, wait_for_ready, wait_until};

/// Browsing messages and dropping the browse leaves all of them in the queue.
pub async fn browsing_changes_nothing(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..50 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    wait_for_ready(&*broker, &queue, 50).await;
    let browse = broker.browse(&queue, 40).await.expect("the queue exists");
    let seen: Vec<_> = browse.deliveries.iter().map(|delivery| body(delivery).to_owned()).collect();
    assert_eq!(seen, (0..40).map(|number| number.to_string()).collect::<Vec<_>>(), "oldest first, as many as asked");
    browse.finish().await;
    wait_for_ready(&*broker, &queue, 50).await;
    drop(broker.browse(&queue, 100).await.expect("the queue exists"));
    wait_for_ready(&*broker, &queue, 50).await;
    let browse = broker.browse(&queue, 100).await.expect("the queue exists");
    assert_eq!(browse.deliveries.len(), 50, "no more than there are");
    browse.finish().await;
}

/// A message that is acknowledged while browsing is removed, and no other.
pub async fn browsing_can_take(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    wait_for_ready(&*broker, &queue, 10).await;
    let mut browse = broker.browse(&queue, 10).await.expect("the queue exists");
    let taken = browse.deliveries.remove(4);
    assert_eq!(body(&taken), "4");
    taken.acker.ack();
    browse.finish().await;
    wait_for_ready(&*broker, &queue, 9).await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    let mut left = HashSet::new();
    for _ in 0..9 {
        let delivery = next(&mut consumption).await;
        left.insert(body(&delivery).to_owned());
        delivery.acker.ack();
    }
    assert!(!left.contains("4") && left.len() == 9, "{left:?}");
    consumption.control.close().await;
}

/// Purging removes the ready messages, returns their number, and leaves unsettled ones.
pub async fn purging_empties(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 1).await;
    let held = next(&mut consumption).await;
    wait_for_ready(&*broker, &queue, 9).await;
    assert_eq!(broker.purge(&queue).await.expect("the queue exists"), 9);
    wait_for_ready(&*broker, &queue, 0).await;
    held.acker.requeue();
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "0");
    delivery.acker.ack();
    consumption.control.close().await;
}

/// Asking for a queue that does not exist is an error of its own kind; consumers are counted.
pub async fn stats_of_nothing_are_an_error(broker: Arc<dyn Broker>, kind: QueueKind) {
    let nowhere = name();
    let error = broker.stats(&nowhere).await.expect_err("there is no such queue");
    assert!(matches!(&error, BrokerError::NoQueue { queue } if **queue == *nowhere), "{error}");
    let queue = queue(&*broker, kind).await;
    let consumption = consume(&*broker, &queue, 1).await;
    wait_until("the consumer is counted", || async {
        broker.stats(&queue).await.is_ok_and(|stats| stats.consumers == 1)
    })
    .await;
    assert!(consumption.control.is_live());
    consumption.control.close().await;
    wait_until("the consumer is gone", || async { broker.stats(&queue).await.is_ok_and(|stats| stats.consumers == 0) })
        .await;
}

/// The broker names its product.
pub async fn info_names_the_product(broker: Arc<dyn Broker>, _kind: QueueKind) {
    let info = broker.info().await.expect("the broker is there");
    assert!(!info.product.is_empty() && info.version.starts_with(|first: char| first.is_ascii_digit()), "{info:?}");
}
