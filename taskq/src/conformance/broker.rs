//! What every broker adapter must do, one function per promise.
//!
//! Each makes queues of its own, of the kind it is given, and waits for facts: how full a queue is may become known
//! late, so nothing is read once and believed. A promise that is broken is a panic that says which.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{
    Broker, BrokerError, BrokerOptions, Consumption, Declared, Delivery, Publication, PublishError, QueueKind,
    QueueSpec,
};
use crate::message::{Headers, Properties, TaskId, WireMessage};

/// How long anything may take that has to happen. Generous, since nothing is asserted about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long is waited for what must not happen.
const CALM: Duration = Duration::from_millis(300);

/// One promise: takes a broker, and the kind of queue to try it on.
pub type Promise = fn(Arc<dyn Broker>, QueueKind) -> BoxFuture<'static, ()>;

/// All promises, by name.
pub fn promises() -> Vec<(&'static str, Promise)> {
    macro_rules! list {
        ($($name:ident),* $(,)?) => {
            vec![$((stringify!($name), (|broker, kind| $name(broker, kind).boxed()) as Promise)),*]
        };
    }
    list![
        declaring_is_repeatable,
        bad_names_are_refused,
        confirmed_is_present,
        order_is_kept,
        messages_survive_unchanged,
        unroutable_is_an_error,
        too_large_is_an_error,
        acknowledged_is_gone,
        requeued_comes_back,
        unsettled_comes_back_at_close,
        unsettled_comes_back_when_dropped,
        prefetch_is_a_bound,
        prefetch_can_be_changed,
        stop_gives_back_and_ends,
        stale_ackers_do_nothing,
        several_queues_at_once,
        a_queue_that_does_not_exist_is_an_error,
        two_consumers_share,
        a_thousand_pipelined,
        acknowledged_out_of_order,
        delays_are_never_early,
        a_long_delay_does_not_hold_a_short_one,
        delayed_messages_are_in_nobodys_hands,
        delays_find_their_queue,
        browsing_changes_nothing,
        browsing_can_take,
        purging_empties,
        stats_of_nothing_are_an_error,
        info_names_the_product,
    ]
}

/// Checks every promise, each on a broker that `make` returns, one after the other.
pub async fn run_all<F>(make: impl Fn() -> F, kind: QueueKind)
where
    F: Future<Output = Arc<dyn Broker>>,
{
    for (name, promise) in promises() {
        tracing::info!(name, "checking");
        let outcome = std::panic::AssertUnwindSafe(timeout(PATIENCE * 2, promise(make().await, kind))).catch_unwind();
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("the promise {name:?} was not kept in time"),
            Err(failure) => {
                let text = failure.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| failure.downcast_ref::<&str>().copied());
                panic!("the promise {name:?} was not kept: {}", text.unwrap_or("it panicked"));
            }
        }
    }
}

/// Declaring the same queue twice is fine, and leaves what is in it.
pub async fn declaring_is_repeatable(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "kept").await;
    let spec = QueueSpec { name: Arc::clone(&queue), kind, max_priority: None };
    let declared = broker.declare(&spec).await.expect("it is declared as before");
    assert_eq!(declared, Declared::AsAsked);
    wait_for_ready(&*broker, &queue, 1).await;
}

/// Names that would break routing are refused before they get anywhere.
pub async fn bad_names_are_refused(broker: Arc<dyn Broker>, kind: QueueKind) {
    for name in ["", "a*", "b.#", "amq.mine"].map(str::to_owned).into_iter().chain(["x".repeat(191)]) {
        let spec = QueueSpec { name: name.into(), kind, max_priority: None };
        let error = broker.declare(&spec).await.expect_err("the name is bad");
        assert!(matches!(error, BrokerError::QueueName { .. }), "{error}");
    }
}

/// What was answered with `Ok` is there.
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

/// Messages come out in the order in which they went in.
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

/// Headers of every type, properties and bodies of all sizes come out as they went in.
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
    let PublishError::TooLarge { size, limit } = error else { panic!("not the error that says so: {error}") };
    assert_eq!((size, limit), (allowed + 1, allowed));
}

/// What was acknowledged does not come back.
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

/// What is given back comes again, and says that it was there before.
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

/// What is not settled when the consumption closes comes back.
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

/// A consumption that is simply dropped gives everything back, too.
pub async fn unsettled_comes_back_when_dropped(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    publish(&*broker, &queue, "dropped").await;
    let mut consumption = consume(&*broker, &queue, 5).await;
    let held = next(&mut consumption).await;
    drop(consumption);
    wait_for_ready(&*broker, &queue, 1).await;
    drop(held);
}

/// No more than the prefetch is out per queue; settling one brings the next.
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
    // The smaller prefetch holds by now: the consumers of the larger one are long read to their end.
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

/// After `stop`, what was fetched and not read goes back at once, the stream ends, and what was read can be settled.
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

/// Settling something whose consumption is closed has no effect, neither on it nor on anything else.
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

/// One consumption serves several queues, each within its own prefetch, and says where a message came from.
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

/// Publishing does not wait for answers: a thousand are sent before the first is awaited.
pub async fn a_thousand_pipelined(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let answers: Vec<_> = (0..1000).map(|number| send(&*broker, &queue, &number.to_string(), None)).collect();
    // They are on their way already; nobody has polled them.
    wait_for_ready(&*broker, &queue, 1000).await;
    for answer in answers {
        timeout(PATIENCE, answer).await.expect("the answer comes").expect("the queue exists");
    }
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

/// A delayed message arrives, and not before its time.
pub async fn delays_are_never_early(broker: Arc<dyn Broker>, kind: QueueKind) {
    let queue = queue(&*broker, kind).await;
    let mut consumption = consume(&*broker, &queue, 10).await;
    let sent = Instant::now();
    for ms in [1_200, 150, 700] {
        let delay = Duration::from_millis(ms);
        send(&*broker, &queue, &ms.to_string(), Some(delay)).await.expect("the queue exists");
    }
    for expected in [150, 700, 1_200] {
        let delivery = next(&mut consumption).await;
        let waited = sent.elapsed();
        assert_eq!(body(&delivery), expected.to_string());
        assert!(waited >= Duration::from_millis(expected), "{expected} ms arrived after {waited:?}");
        assert_eq!(delivery.message.headers.iter().filter(|(key, _)| key.starts_with("x-")).count(), 0);
        delivery.acker.ack();
    }
    consumption.control.close().await;
}

/// Messages with a long delay do not keep those with a short one.
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

/// While they wait, delayed messages are neither ready nor out with a consumer, so they take nobody's prefetch.
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

/// Looking at messages and letting them go leaves them there, all of them.
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

/// What is acknowledged while looking is taken out, and nothing else.
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

/// Purging removes what is ready, says how much, and leaves what is being worked on.
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

/// The broker says what it is.
pub async fn info_names_the_product(broker: Arc<dyn Broker>, _kind: QueueKind) {
    let info = broker.info().await.expect("the broker is there");
    assert!(!info.product.is_empty() && info.version.starts_with(|first: char| first.is_ascii_digit()), "{info:?}");
}

/// A name that nobody used before.
fn name() -> Arc<str> {
    format!("conformance.{}", TaskId::new()).into()
}

async fn declare(broker: &dyn Broker, name: &Arc<str>, kind: QueueKind) {
    let spec = QueueSpec { name: Arc::clone(name), kind, max_priority: None };
    broker.declare(&spec).await.expect("the queue can be declared");
}

async fn queue(broker: &dyn Broker, kind: QueueKind) -> Arc<str> {
    let name = name();
    declare(broker, &name, kind).await;
    name
}

fn send(
    broker: &dyn Broker,
    queue: &Arc<str>,
    body: &str,
    delay: Option<Duration>,
) -> BoxFuture<'static, Result<(), PublishError>> {
    let properties = Properties { correlation_id: Some("the same for all".to_owned()), ..Properties::default() };
    let message = WireMessage { properties, headers: Headers::new(), body: body.to_owned().into() };
    broker.publish(Publication { queue: Arc::clone(queue), message, delay })
}

async fn publish(broker: &dyn Broker, queue: &Arc<str>, body: &str) {
    send(broker, queue, body, None).await.expect("the queue exists");
}

async fn consume(broker: &dyn Broker, queue: &Arc<str>, prefetch: u16) -> Consumption {
    broker.consume(std::slice::from_ref(queue), prefetch).await.expect("the queue exists")
}

async fn next(consumption: &mut Consumption) -> Delivery {
    let next = timeout(PATIENCE, consumption.deliveries.next()).await;
    next.expect("a message comes").expect("the stream goes on")
}

/// Nothing comes. That can only be watched for a while.
async fn nothing(consumption: &mut Consumption) {
    if let Ok(Some(delivery)) = timeout(CALM, consumption.deliveries.next()).await {
        panic!("{:?} came, and nothing should", body(&delivery));
    }
}

fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.message.body).expect("all bodies here are text")
}

async fn wait_for_ready(broker: &dyn Broker, queue: &str, ready: u64) {
    wait_until(&format!("{ready} messages are ready"), || async {
        broker.stats(queue).await.is_ok_and(|stats| stats.ready == ready)
    })
    .await;
}

async fn wait_until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came to pass that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
