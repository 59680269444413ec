//! The promises of consuming and settling.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::broker::{Broker, BrokerError, QueueKind};
use crate::conformance::PATIENCE;

use super::tools::{CALM, body, consume, name, next, nothing, publish, queue, wait_for_ready};

/// An acknowledged message does not come back.
pub async fn acknowledged_is_gone(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..5 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 10).await;
    for _ in 0..4 {
        next(&mut consumption).await.acker.ack();
    }
    let last = next(&mut consumption).await;
    consumption.control.close().await;
    let mut again = consume(&*broker, &queue, 10).await;
    let delivery = next(&mut again).await;
    assert_eq!(body(&delivery), body(&last), "only what was not acknowledged comes back");
    delivery.acker.ack();
    nothing(&mut again).await;
    again.control.close().await;
}

/// A requeued message is delivered again, marked as redelivered.
pub async fn requeued_comes_back(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "again").await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    next(&mut consumption).await.acker.requeue();
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "again");
    assert!(delivery.redelivered, "it was there before");
    assert!(delivery.delivery_count.is_none_or(|count| count > 0), "where returns are counted, this was one");
    delivery.acker.ack();
    consumption.control.close().await;
    wait_for_ready(&*broker, &queue, 0).await;
}

/// An unsettled message comes back when its consumption closes.
pub async fn unsettled_comes_back_at_close(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 5).await;
    let held = [next(&mut consumption).await, next(&mut consumption).await];
    consumption.control.close().await;
    assert!(held.iter().all(|delivery| !delivery.acker.is_current()), "its consumption is closed");
    assert!(timeout(PATIENCE, consumption.deliveries.next()).await.expect("the stream ends").is_none());
    wait_for_ready(&*broker, &queue, 10).await;
    let mut again = consume(&*broker, &queue, 10).await;
    let mut bodies = HashSet::new();
    while bodies.len() < 10 {
        let delivery = next(&mut again).await;
        if ["0", "1"].contains(&body(&delivery)) {
            assert!(delivery.redelivered, "it was read before");
        }
        bodies.insert(body(&delivery).to_owned());
        delivery.acker.ack();
    }
    again.control.close().await;
}

/// A consumption that is dropped without being closed returns its unsettled messages to the queue as well.
pub async fn unsettled_comes_back_when_dropped(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "dropped").await;
    let mut consumption = consume(&*broker, &queue, 5).await;
    let held = next(&mut consumption).await;
    drop(consumption);
    wait_for_ready(&*broker, &queue, 1).await;
    drop(held);
}

/// Messages that a busy reader gives back unread go to others, and nothing more comes to it until it asks again.
pub async fn unread_goes_to_others(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut busy = consume(&*broker, &queue, 10).await;
    let read = next(&mut busy).await;
    let mut idle = consume(&*broker, &queue, 10).await;
    let mut bodies = HashSet::new();
    while bodies.len() < 9 {
        // Some may still be on their way to the busy one.
        busy.control.give_back_unread();
        if let Ok(Some(delivery)) = timeout(CALM, idle.deliveries.next()).await {
            assert!(bodies.insert(body(&delivery).to_owned()), "it came once");
            delivery.acker.ack();
        }
    }
    assert!(!bodies.contains(body(&read)), "what was read stays");
    read.acker.ack();
    idle.control.close().await;
    publish(&*broker, &queue, "later").await;
    let delivery = next(&mut busy).await;
    assert_eq!(body(&delivery), "later", "it asks again");
    delivery.acker.ack();
    busy.control.close().await;
    wait_for_ready(&*broker, &queue, 0).await;
}

/// No more messages than the prefetch are unsettled per queue; settling one brings the next.
pub async fn prefetch_is_a_bound(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumption).await);
    }
    nothing(&mut consumption).await;
    wait_for_ready(&*broker, &queue, 7).await;
    held.remove(1).acker.ack();
    held.push(next(&mut consumption).await);
    nothing(&mut consumption).await;
    consumption.control.close().await;
}

/// The prefetch can be changed both ways; nothing is lost and nothing is out of order on the way.
pub async fn prefetch_can_be_changed(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..60 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 2).await;
    let mut held = vec![next(&mut consumption).await, next(&mut consumption).await];
    consumption.control.set_prefetch(10);
    while held.len() < 10 {
        held.push(next(&mut consumption).await);
    }
    consumption.control.set_prefetch(4);
    let mut seen: Vec<String> = held.iter().map(|delivery| body(delivery).to_owned()).collect();
    for delivery in held {
        delivery.acker.ack();
    }
    while seen.len() < 60 {
        let delivery = next(&mut consumption).await;
        seen.push(body(&delivery).to_owned());
        delivery.acker.ack();
    }
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    // The smaller prefetch is in effect now: the consumers of the larger one have been read to their end.
    for number in 0..10 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(next(&mut consumption).await);
    }
    nothing(&mut consumption).await;
    consumption.control.close().await;
}

/// After `stop`, messages that were fetched and not read go back at once, the stream ends, and those that were read can
/// be settled.
pub async fn stop_gives_back_and_ends(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..20 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 10).await;
    let first = next(&mut consumption).await;
    let second = next(&mut consumption).await;
    consumption.control.stop();
    assert!(timeout(PATIENCE, consumption.deliveries.next()).await.expect("the stream ends").is_none());
    assert!(!consumption.control.is_live());
    wait_for_ready(&*broker, &queue, 18).await;
    assert!(first.acker.is_current(), "what was read stays valid");
    first.acker.ack();
    second.acker.requeue();
    wait_for_ready(&*broker, &queue, 19).await;
    consumption.control.close().await;
    wait_for_ready(&*broker, &queue, 19).await;
}

/// Settling a message whose consumption is closed has no effect, neither on it nor on any other.
pub async fn stale_ackers_do_nothing(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "stale").await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    let stale = next(&mut consumption).await;
    consumption.control.close().await;
    let mut again = consume(&*broker, &queue, 10).await;
    let fresh = next(&mut again).await;
    assert!(!stale.acker.is_current() && fresh.acker.is_current());
    stale.acker.ack();
    fresh.acker.requeue();
    let delivery = next(&mut again).await;
    assert_eq!(body(&delivery), "stale");
    delivery.acker.ack();
    again.control.close().await;
}

/// One consumption serves several queues, each within its own prefetch, and names the queue of each message.
pub async fn several_queues_at_once(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queues = [queue(&*broker, kind).await, queue(&*broker, kind).await, queue(&*broker, kind).await];
    for queue in &queues {
        for _ in 0..5 {
            publish(&*broker, queue, queue).await;
        }
    }
    let mut consumption = broker.consume(&queues, 2).await.expect("the queues exist");
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(next(&mut consumption).await);
    }
    nothing(&mut consumption).await;
    for queue in &queues {
        assert_eq!(held.iter().filter(|delivery| *delivery.queue == **queue).count(), 2, "the prefetch is per queue");
    }
    let mut seen = 0;
    for delivery in held {
        assert_eq!(body(&delivery), &*delivery.queue);
        delivery.acker.ack();
        seen += 1;
    }
    while seen < 15 {
        let delivery = next(&mut consumption).await;
        assert_eq!(body(&delivery), &*delivery.queue);
        delivery.acker.ack();
        seen += 1;
    }
    consumption.control.close().await;
}

/// Consuming from a queue that was never declared and does not exist is an error that names it.
pub async fn a_queue_that_does_not_exist_is_an_error(broker: Arc<dyn Broker>, _kind: QueueKind) {
    let nowhere = name();
    let error = broker.consume(&[Arc::clone(&nowhere)], 1).await.err().expect("there is no such queue");
    assert!(matches!(&error, BrokerError::NoQueue { queue } if **queue == *nowhere), "{error}");
    let error = broker.browse(&nowhere, 1).await.err().expect("there is no such queue");
    assert!(matches!(error, BrokerError::NoQueue { .. }), "{error}");
    let error = broker.purge(&nowhere).await.expect_err("there is no such queue");
    assert!(matches!(error, BrokerError::NoQueue { .. }), "{error}");
}

/// Two consumers of one queue get each message once between them.
pub async fn two_consumers_share(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let mut one = consume(&*broker, &queue, 2).await;
    let mut two = consume(&*broker, &queue, 2).await;
    let mut seen = [0, 0];
    let mut bodies = HashSet::new();
    for number in 0..40 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    while bodies.len() < 40 {
        let (at, delivery) = tokio::select! {
            delivery = next(&mut one) => (0, delivery),
            delivery = next(&mut two) => (1, delivery),
        };
        seen[at] += 1;
        assert!(bodies.insert(body(&delivery).to_owned()), "{} came twice", body(&delivery));
        delivery.acker.ack();
    }
    assert!(seen.iter().all(|&count| count > 0), "one consumer got everything: {seen:?}");
    one.control.close().await;
    two.control.close().await;
}

/// Deliveries can be settled in any order, and each settlement is of that delivery.
pub async fn acknowledged_out_of_order(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    for number in 0..100 {
        publish(&*broker, &queue, &number.to_string()).await;
    }
    let mut consumption = consume(&*broker, &queue, 100).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(next(&mut consumption).await);
    }
    let mut left = HashSet::new();
    // 37 has no divisor in common with 100, so this walks over all of them, up and down.
    let mut held: Vec<_> = held.into_iter().map(Some).collect();
    for step in 0..100 {
        let delivery = held[step * 37 % 100].take().expect("each is met once");
        match step % 10 {
            9 => {
                left.insert(body(&delivery).to_owned());
            }
            _ => delivery.acker.ack(),
        }
    }
    consumption.control.close().await;
    wait_for_ready(&*broker, &queue, 10).await;
    let mut again = consume(&*broker, &queue, 100).await;
    for _ in 0..10 {
        let delivery = next(&mut again).await;
        assert!(left.remove(body(&delivery)), "{} was acknowledged", body(&delivery));
        delivery.acker.ack();
    }
    again.control.close().await;
}
