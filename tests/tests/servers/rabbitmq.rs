//! Events that only RabbitMQ causes its clients, on the broker that all tests share.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::json;
use taskq::TaskId;
use taskq::broker::{
    self, Broker, BrokerError, BrokerOptions, Consumption, Declared, Delivery, Publication, PublishError, QueueKind,
    QueueSpec,
};
use taskq::message::{Properties, WireMessage};
use taskq_tests::harness::{Servers, Vhost};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);

/// The URL of the RabbitMQ that all tests share; `None` where tests are to use no servers.
fn amqp_url() -> Option<String> {
    Servers::from_env().map(|servers| servers.amqp)
}

async fn connect(url: &str) -> Arc<dyn Broker> {
    broker::connect(url, BrokerOptions::default()).await.expect("the test broker is up")
}

/// A channel that does what it is told, past everything of ours.
async fn raw(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the test broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    (connection, channel)
}

async fn queue(broker: &dyn Broker, kind: QueueKind) -> Arc<str> {
    let name: Arc<str> = format!("rabbitmq.{}", TaskId::new()).into();
    let spec = QueueSpec::new(Arc::clone(&name), kind);
    assert_eq!(broker.declare(&spec).await.expect("the queue can be declared"), Declared::AsAsked);
    name
}

fn send(broker: &dyn Broker, queue: &Arc<str>, body: &str) -> BoxFuture<'static, Result<(), PublishError>> {
    let properties = Properties::default().with(|properties| properties.correlation_id = Some("the same".to_owned()));
    let message = WireMessage { properties, body: body.to_owned().into(), ..WireMessage::default() };
    broker.publish(Publication::new(Arc::clone(queue), message))
}

async fn next(consumption: &mut Consumption) -> Delivery {
    timeout(PATIENCE, consumption.deliveries.next()).await.expect("a message comes").expect("the stream goes on")
}

/// A way to the broker that keeps what clients send.
struct Recording {
    url: String,
    sent: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Recording {
    async fn before(url: &str) -> Self {
        let (before, rest) = url.split_once('@').expect("it has a user");
        let (target, after) = rest.split_once('/').expect("it has a virtual host");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
        let port = listener.local_addr().expect("it listens").port();
        let recording = Self {
            url: format!("{before}@127.0.0.1:{port}/{after}"),
            sent: Arc::default(),
            connections: Arc::default(),
        };
        let (sent, connections, target) =
            (Arc::clone(&recording.sent), Arc::clone(&recording.connections), target.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&target).await.expect("the broker is up");
                let sent = Arc::clone(&sent);
                connections.lock().expect("nobody panics").spawn(carry(client, server, sent));
            }
        });
        recording
    }

    /// Ends all connections.
    fn cut(&self) {
        self.connections.lock().expect("nobody panics").abort_all();
    }

    /// The number of declarations of a queue.
    fn declarations(&self, queue: &str) -> usize {
        // Class 50, method 10, a number that is not used, and the name.
        let length = u8::try_from(queue.len()).expect("it is short");
        let head = [&[0, 50, 0, 10, 0, 0, length], queue.as_bytes()].concat();
        self.sent.lock().expect("nobody panics").windows(head.len()).filter(|part| *part == head).count()
    }
}

async fn carry(client: TcpStream, server: TcpStream, sent: Arc<Mutex<Vec<u8>>>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let mut piece = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut piece).await {
            sent.lock().expect("nobody panics").extend_from_slice(&piece[..length]);
            if to_server.write_all(&piece[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_come_all_at_once_declare_their_queue_once() {
    let Some(url) = amqp_url() else { return };
    let way = Recording::before(&url).await;
    let broker = connect(&way.url).await;
    let spec = QueueSpec::quorum(format!("rabbitmq.{}", TaskId::new()));
    let all_at_once = async || {
        for declared in join_all((0..1000).map(|_| broker.declare(&spec))).await {
            assert_eq!(declared.expect("it can be declared"), Declared::AsAsked);
        }
    };
    all_at_once().await;
    assert_eq!(way.declarations(&spec.name), 1);
    // After an outage everything is in doubt.
    way.cut();
    let doubted = async {
        while way.declarations(&spec.name) < 2 {
            all_at_once().await;
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, doubted).await.expect("the loss is noticed");
    all_at_once().await;
    assert_eq!(way.declarations(&spec.name), 2);
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.to_vec()).expect("all bodies here are text")
}

/// The message that is published once the queue is certainly gone.
const TOO_LATE: &str = "too late";

/// The messages in a queue that nobody consumes from.
async fn browse_bodies(broker: &dyn Broker, queue: &str) -> Vec<String> {
    let browse = broker.browse(queue, usize::MAX).await.expect("the queue exists");
    let bodies = browse.deliveries.iter().map(body).collect();
    browse.finish().await;
    bodies
}

/// Two routes, 10,000 publications, and one of the queues deleted while they are on the way: each that was routed is
/// answered with `Ok` and is there, each that was not is an error.
async fn mixed_publications(kind: QueueKind) {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let (stays, goes) = (queue(&*broker, kind).await, queue(&*broker, kind).await);
    let mut consumption = broker.consume(std::slice::from_ref(&stays), 500).await.expect("the queue exists");
    let (_raw, channel) = raw(&url).await;
    let mut delete = None;
    let mut answers = Vec::with_capacity(10_000);
    // The deletion has to fall into the stream, so the stream goes on until it is done.
    while answers.len() < 10_000 || !delete.as_ref().is_some_and(JoinHandle::is_finished) {
        for _ in 0..100 {
            let queue = if answers.len() % 2 == 0 { &stays } else { &goes };
            answers.push(send(&*broker, queue, &answers.len().to_string()));
        }
        if answers.len() == 5000 {
            let (channel, goes) = (channel.clone(), goes.to_string());
            delete = Some(tokio::spawn(async move {
                channel.queue_delete(goes.as_str().into(), QueueDeleteOptions::default()).await
            }));
        }
        sleep(Duration::from_millis(1)).await;
    }
    answers.extend((0..2).map(|_| send(&*broker, &goes, TOO_LATE)));
    let deleted = delete.expect("it was begun").await.expect("it does not panic").expect("the queue exists");
    let kept = answers.len() / 2 - 1;
    let outcomes = timeout(PATIENCE, join_all(answers)).await.expect("all are answered");
    let total = outcomes.len();
    let mut last_routed = None;
    let mut first_returned = None;
    let late_ones_taken = outcomes[total - 2..].iter().filter(|outcome| outcome.is_ok()).count();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(()) if number % 2 == 1 => last_routed = Some(number),
            Ok(()) => {}
            Err(PublishError::Unroutable { queue }) => {
                assert_eq!(&*queue, &*goes);
                assert!(number % 2 == 1 || number == total - 2, "publication {number} was routed and reported as not");
                first_returned.get_or_insert(number);
            }
            // A quorum queue that goes away refuses what it has not yet stored.
            Err(PublishError::Nacked { queue }) if *queue == *goes => {}
            Err(error) => panic!("publication {number}: {error}"),
        }
    }
    if broker.stats(&goes).await.is_ok() {
        // RabbitMQ 3.10 may drop the connection along with the queue. Then both are made again, as after any outage,
        // and what was answered with `Ok` has to be there: above all what was sent when the first queue was gone.
        let there = browse_bodies(&*broker, &goes).await;
        let late = there.iter().filter(|body| *body == TOO_LATE).count();
        assert!(late >= late_ones_taken, "{late_ones_taken} of the late ones were taken, and {late} are there");
        println!("{kind:?}: the queue was made again after an outage, and holds {} messages", there.len());
    } else {
        let (routed, returned) = (last_routed.expect("some came in time"), first_returned.expect("some came too late"));
        assert!(routed < returned, "{returned} was returned, and {routed} after it was not");
        println!("{kind:?}: the queue was deleted with {deleted} messages; {routed} was the last routed of it");
    }
    let mut seen = HashSet::new();
    let mut copies = 0;
    while seen.len() < kept {
        let delivery = next(&mut consumption).await;
        if !seen.insert(body(&delivery)) {
            // RabbitMQ 3.10 can stop reading from a connection over a quorum queue that is deleted under it; then
            // what was unanswered went out again, and says so.
            assert!(delivery.message.headers.contains("taskq-resent"), "a second copy that does not say so");
            copies += 1;
        }
        delivery.acker.ack();
    }
    println!("{kind:?}: {copies} second copies");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_publications_on_quorum_queues() {
    mixed_publications(QueueKind::Quorum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_publications_on_classic_queues() {
    mixed_publications(QueueKind::Classic).await;
}

/// Every second publication has no queue at all. None of the errors may land on its neighbour.
#[tokio::test(flavor = "multi_thread")]
async fn every_unroutable_one_is_reported() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let here = queue(&*broker, QueueKind::Quorum).await;
    let nowhere: Arc<str> = "rabbitmq.nowhere".into();
    for round in 0..5 {
        let answers: Vec<_> = (0..2000)
            .map(|number| send(&*broker, if number % 3 == 0 { &nowhere } else { &here }, &number.to_string()))
            .collect();
        for (number, answer) in join_all(answers).await.into_iter().enumerate() {
            let unroutable = matches!(&answer, Err(PublishError::Unroutable { queue }) if queue == "rabbitmq.nowhere");
            assert_eq!(unroutable, number % 3 == 0, "round {round}, publication {number}: {answer:?}");
        }
    }
    broker.close().await;
}

/// The consumer is told, declares its queue again and goes on with all of its queues.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_under_its_consumer_comes_back() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let queues = [queue(&*broker, QueueKind::Quorum).await, queue(&*broker, QueueKind::Quorum).await];
    let mut consumption = broker.consume(&queues, 10).await.expect("the queues exist");
    let (_raw, channel) = raw(&url).await;
    channel.queue_delete((&*queues[0]).into(), QueueDeleteOptions::default()).await.expect("the queue exists");
    for (round, queue) in [&queues[1], &queues[0]].into_iter().enumerate() {
        // The queue may not be back yet; that is an error to the publisher, and not the end of it.
        let expected = format!("round {round}");
        let delivery = loop {
            let sent = send(&*broker, queue, &expected).await;
            if sent.is_ok() {
                break next(&mut consumption).await;
            }
            // A quorum queue that goes away refuses what it has not yet stored.
            assert!(matches!(sent, Err(PublishError::Unroutable { .. } | PublishError::Nacked { .. })), "{sent:?}");
            // Reading is what notices.
            let _ = timeout(Duration::from_millis(50), consumption.deliveries.next()).await;
        };
        assert_eq!((&*delivery.queue, body(&delivery)), (&**queue, expected));
        delivery.acker.ack();
    }
    let live = timeout(PATIENCE, async {
        while !consumption.control.is_live() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    live.await.expect("both queues are consumed from");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_while_its_consumer_rests_is_consumed_from_again() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let name = queue(&*broker, QueueKind::Quorum).await;
    let mut consumption = broker.consume(std::slice::from_ref(&name), 4).await.expect("the queue exists");
    send(&*broker, &name, "before").await.expect("it is there");
    next(&mut consumption).await.acker.ack();
    consumption.control.fetch_control().expect("RabbitMQ has it").suspend_fetching().await;
    let (_raw, channel) = raw(&url).await;
    channel.queue_delete((&*name).into(), QueueDeleteOptions::default()).await.expect("the queue exists");
    let other = connect(&url).await;
    other.declare(&QueueSpec::quorum(&*name)).await.expect("it can be declared");
    for number in 0..5 {
        send(&*other, &name, &number.to_string()).await.expect("it is there");
    }
    for number in 0..5 {
        let delivery = next(&mut consumption).await;
        assert_eq!(body(&delivery), number.to_string());
        delivery.acker.ack();
    }
    broker.close().await;
    other.close().await;
}

/// Somebody sends and declares at the very moment at which consumers come back: none of the queues that are made then
/// may keep messages to itself.
#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_deleted_again_and_again_are_consumed_from_each_time() {
    let Some(url) = amqp_url() else { return };
    for kind in [QueueKind::Quorum, QueueKind::Classic] {
        a_queue_that_is_deleted_again_and_again_is_consumed_from_each_time(&url, kind).await;
    }
}

async fn a_queue_that_is_deleted_again_and_again_is_consumed_from_each_time(url: &str, kind: QueueKind) {
    const ROUNDS: u16 = 12;
    const MESSAGES: u64 = 40;
    let sender = connect(url).await;
    let spec = if kind == QueueKind::Quorum { QueueSpec::quorum } else { QueueSpec::classic };
    let spec = spec(queue(&*sender, kind).await);
    let (seen, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = Vec::new();
    for _ in 0..2 {
        let broker = connect(url).await;
        broker.declare(&spec).await.expect("it exists");
        let Consumption { mut deliveries, control, .. } =
            broker.consume(std::slice::from_ref(&spec.name), 8).await.expect("it exists");
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.next().await {
                let number = body(&delivery);
                delivery.acker.ack();
                // The test may have failed already.
                let _ = seen.send(number);
            }
        });
        consumers.push((broker, control));
    }
    let (_raw, channel) = raw(url).await;
    for round in 0..ROUNDS {
        // A client that does not notice the deletion declares the queue again at once, before the broker has told the
        // consumers; the first one learns of it from a message that has no queue.
        let unaware = if round % 2 == 1 { Some(connect(url).await) } else { None };
        channel.queue_delete((&*spec.name).into(), QueueDeleteOptions::default()).await.expect("it exists");
        if let Some(unaware) = &unaware {
            unaware.declare(&spec).await.expect("a queue can be declared");
        }
        let sender = unaware.as_ref().unwrap_or(&sender);
        let mut missing = HashSet::new();
        for number in 0..MESSAGES {
            let text = format!("{round}.{number}");
            while let Err(error) = send(&**sender, &spec.name, &text).await {
                let lost = matches!(error, PublishError::Unroutable { .. } | PublishError::Nacked { .. });
                assert!(lost, "{error}");
                sender.declare(&spec).await.expect("a queue can be declared");
            }
            missing.insert(text);
        }
        // As workers do when the load changes.
        for (_, control) in &consumers {
            control.set_prefetch(8 + 10 * (round % 5));
        }
        while !missing.is_empty() {
            let number = timeout(PATIENCE, arrived.recv()).await;
            let number = number.unwrap_or_else(|_| panic!("{kind:?}, round {round}: {missing:?} stay in the queue"));
            missing.remove(&number.expect("the consumers live as long as this test"));
        }
    }
    println!(
        "{kind:?}: {ROUNDS} deletions, {} messages sent afterwards, 0 not delivered",
        u64::from(ROUNDS) * MESSAGES
    );
    for (broker, _) in consumers {
        broker.close().await;
    }
    sender.close().await;
}

/// A queue that exists with other arguments is used as it is, and the difference is named; `strict` refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn other_arguments_are_named() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let name = queue(&*broker, QueueKind::Classic).await;
    let other = connect(&url).await;
    let Declared::Differs(difference) = other.declare(&QueueSpec::quorum(Arc::clone(&name))).await.expect("a warning")
    else {
        panic!("the difference was not seen");
    };
    assert!(difference.contains("classic") || difference.contains("none"), "{difference}");
    assert!(difference.contains("asked for"), "{difference}");
    send(&*other, &name, "used as it is").await.expect("the queue exists");
    let mut consumption = other.consume(std::slice::from_ref(&name), 1).await.expect("the queue exists");
    let delivery = next(&mut consumption).await;
    delivery.acker.ack();
    let options = BrokerOptions::default().with(|options| options.strict = true);
    let strict = broker::connect(&url, options).await.expect("the test broker is up");
    let error = strict.declare(&QueueSpec::quorum(Arc::clone(&name))).await.expect_err("it is strict");
    assert!(matches!(error, BrokerError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains(&difference) && error.to_string().contains("strict"), "{error}");
    strict.declare(&QueueSpec::classic(name)).await.expect("nothing differs");
    for broker in [broker, other, strict] {
        broker.close().await;
    }
}

/// Queues named as Celery's are exactly Celery's, so that Celery's own declaration of them succeeds afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn celery_may_declare_its_queues_after_us() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let name = queue(&*broker, QueueKind::Celery).await;
    let (_raw, channel) = raw(&url).await;
    let exchange = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared =
        channel.exchange_declare((&*name).into(), ExchangeKind::Direct, exchange, FieldTable::default()).await;
    declared.expect("the exchange is as Celery declares it");
    let declared = channel.queue_declare((&*name).into(), QueueDeclareOptions::durable(), FieldTable::default()).await;
    declared.expect("the queue is as Celery declares it");
    // Bound, so that what is sent to the exchange arrives.
    let (exchange, key) = ((&*name).into(), (&*name).into());
    let sent = channel
        .basic_publish(exchange, key, BasicPublishOptions::default(), b"celery", BasicProperties::default())
        .await;
    sent.expect("the channel is open");
    let mut consumption = broker.consume(std::slice::from_ref(&name), 1).await.expect("the queue exists");
    let delivery = next(&mut consumption).await;
    assert_eq!(body(&delivery), "celery");
    delivery.acker.ack();
    broker.close().await;
}

/// Each error is at most two lines, says what to do, and never shows the password.
#[tokio::test(flavor = "multi_thread")]
async fn connection_errors_say_what_to_do() {
    let Some(url) = amqp_url() else { return };
    let (start, place) = url.split_once('@').expect("the test URL has a user");
    let host = place.split('/').next().expect("split gives one part at least");
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    };
    for (url, kind, remedy) in [
        (format!("{start}@127.0.0.1:{nobody}/%2f"), "unreachable", "start RabbitMQ"),
        (format!("{start}@does-not-exist.invalid/%2f"), "unreachable", "correct host and port"),
        (format!("amqp://guest:swordfish@{host}/%2f"), "refused", "rabbitmqctl change_password guest"),
        (format!("amqp://nobody:swordfish@{host}/%2f"), "refused", "user \"nobody\""),
        (format!("{start}@{host}/missing"), "refused", "rabbitmqctl add_vhost"),
        (format!("{start}@{host}:x/"), "url", "write amqp://"),
        (format!("amqps://guest:swordfish@{host}/"), "unreachable", "does not speak TLS"),
    ] {
        let error = broker::connect(&url, BrokerOptions::default()).await.expect_err("it cannot be connected to");
        let actual = match &error {
            BrokerError::Unreachable { .. } => "unreachable",
            BrokerError::Refused { .. } => "refused",
            BrokerError::Url { .. } => "url",
            _ => "other",
        };
        let text = error.to_string();
        println!("{text}");
        assert_eq!(actual, kind, "{text}");
        assert!(text.contains(remedy), "no {remedy:?} in: {text}");
        assert!(!text.contains("swordfish") && text.lines().count() <= 2, "{text}");
    }
}

/// Somebody with larger frames can send headers that do not fit ours. They are taken, and can be sent on.
#[tokio::test(flavor = "multi_thread")]
async fn headers_larger_than_our_frames_get_through() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let name = queue(&*broker, QueueKind::Quorum).await;
    let mut consumption = broker.consume(std::slice::from_ref(&name), 10).await.expect("the queue exists");
    let (_raw, channel) = raw(&url).await;
    let large = "x".repeat(40_000);
    let mut headers = FieldTable::default();
    headers.insert("large".into(), AMQPValue::LongString(large.as_str().into()));
    let properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), (&*name).into(), options, b"from afar", properties)
        .await
        .expect("the channel is open");
    let delivery = next(&mut consumption).await;
    assert_eq!(delivery.message.headers.get("large"), Some(&json!(large)));
    let onward = Publication::new(Arc::clone(&name), delivery.message.clone());
    broker.publish(onward).await.expect("what can be read can be sent");
    delivery.acker.ack();
    let delivery = next(&mut consumption).await;
    assert_eq!(delivery.message.headers.get("large"), Some(&json!(large)));
    delivery.acker.ack();
    broker.close().await;
}

/// An undeliverable message ends in the dead queue: a delayed message whose queue was deleted while it waited.
#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_without_a_queue_ends_in_the_dead_queue() {
    // With a dead queue of its own, which nobody else reads.
    let Some(vhost) = Servers::from_env().and_then(|servers| Vhost::create(&servers)) else { return };
    let url = vhost.servers.amqp.clone();
    let broker = connect(&url).await;
    let name = queue(&*broker, QueueKind::Quorum).await;
    let id = TaskId::new().to_string();
    let properties = Properties::default().with(|properties| properties.correlation_id = Some(id.clone()));
    let message = WireMessage { properties, body: "lost".into(), ..WireMessage::default() };
    let (_raw, channel) = raw(&url).await;
    // The first delayed message has the delay queues declared, which takes long on a busy machine.
    let first = Publication::new(Arc::clone(&name), WireMessage { body: "first".into(), ..WireMessage::default() });
    broker.publish(first.delayed(Some(Duration::from_millis(1)))).await.expect("the ladder takes it");
    // Longer than the deletion may take: a queue that is deleted later takes the message with it.
    let delay = Some(Duration::from_secs(3));
    broker.publish(Publication::new(Arc::clone(&name), message).delayed(delay)).await.expect("the ladder takes it");
    channel.queue_delete((&*name).into(), QueueDeleteOptions::default()).await.expect("the queue exists");
    let found = timeout(PATIENCE, async {
        loop {
            let mut browse = broker.browse(broker::DEAD_QUEUE, 1000).await.expect("the dead queue exists");
            let at = browse
                .deliveries
                .iter()
                .position(|delivery| delivery.message.properties.correlation_id.as_deref() == Some(&*id));
            let found = at.map(|at| browse.deliveries.remove(at));
            if let Some(delivery) = found {
                let noted = |key: &str| delivery.message.headers.text(key).map(str::to_owned);
                assert_eq!(noted("x-death-reason").as_deref(), Some("no-queue"));
                assert_eq!(noted("x-death-queue").as_deref(), Some(&*name), "and none of the ladder's");
                delivery.acker.ack();
                browse.finish().await;
                return;
            }
            browse.finish().await;
            sleep(Duration::from_millis(50)).await;
        }
    });
    found.await.expect("it arrives in the dead queue");
    broker.close().await;
}

/// Queues that an earlier program has made, without the arguments that new ones get, are used as they are, and `strict`
/// accepts them: a queue of tasks, the one for messages that come late, and a level of the delay ladder.
#[tokio::test(flavor = "multi_thread")]
async fn queues_without_the_arguments_of_new_ones_are_as_asked() {
    let Some(servers) = Servers::from_env() else { return };
    let Some(vhost) = Vhost::create(&servers) else { return };
    let url = &vhost.servers.amqp;
    let (_connection, channel) = raw(url).await;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let declare = async |name: &str, next: &str, more: (&str, i64)| {
        let mut arguments = FieldTable::default();
        for (key, value) in [
            ("x-queue-type", "quorum"),
            ("x-dead-letter-exchange", next),
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-overflow", "reject-publish"),
        ] {
            arguments.insert(key.into(), text(value));
        }
        arguments.insert(more.0.into(), AMQPValue::LongLongInt(more.1));
        let options = QueueDeclareOptions::durable();
        channel.queue_declare(name.into(), options, arguments).await.expect("it is new");
    };
    declare("tasks", "taskq.dead", ("x-delivery-limit", 1000)).await;
    declare("taskq.delay.late", "taskq.delay.late.delivery", ("x-message-ttl", 10_000)).await;
    declare("taskq.delay.2", "taskq.delay.1", ("x-message-ttl", 400)).await;

    let strict = BrokerOptions::default().with(|options| options.strict = true);
    let broker = broker::connect(url, strict.clone()).await.expect("the test broker is up");
    let tasks = QueueSpec::quorum("tasks");
    assert_eq!(broker.declare(&tasks).await.expect("strict accepts it"), Declared::AsAsked);
    let mut consumption = broker.consume(std::slice::from_ref(&tasks.name), 10).await.expect("it is there");
    let message = WireMessage { body: "delayed".to_owned().into(), ..WireMessage::default() };
    let delayed = Publication::new("tasks", message).delayed(Duration::from_millis(700));
    broker.publish(delayed.clone()).await.expect("the ladder is there, of old queues and new ones");
    next(&mut consumption).await.acker.ack();
    // And by the next program, for which there is nothing new in it.
    let later = broker::connect(url, strict.clone()).await.expect("the test broker is up");
    assert_eq!(later.declare(&tasks).await.expect("strict accepts it"), Declared::AsAsked);
    later.publish(delayed).await.expect("the ladder is there");
    next(&mut consumption).await.acker.ack();
    // What differs otherwise is told as before.
    declare("other", "elsewhere", ("x-delivery-limit", 1000)).await;
    let error = later.declare(&QueueSpec::quorum("other")).await.expect_err("it dead-letters elsewhere");
    assert!(
        matches!(&error, BrokerError::Mismatch { difference, .. } if difference.contains("x-dead-letter-exchange"))
    );
    consumption.control.close().await;
    later.close().await;
    broker.close().await;
}

/// Classic queues with a `max_priority` order by priority on every version.
#[tokio::test(flavor = "multi_thread")]
async fn a_classic_queue_with_priorities_serves_the_largest_first() {
    let Some(url) = amqp_url() else { return };
    let broker = connect(&url).await;
    let name: Arc<str> = format!("rabbitmq.{}", TaskId::new()).into();
    let mut spec = QueueSpec::classic(Arc::clone(&name));
    spec.max_priority = Some(9);
    broker.declare(&spec).await.expect("it can be declared");
    for (body, priority) in [("none", None), ("0", Some(0)), ("9", Some(9)), ("1", Some(1)), ("200", Some(200))] {
        let properties = Properties::default().with(|properties| properties.priority = priority);
        let message = WireMessage { properties, body: body.to_owned().into(), ..WireMessage::default() };
        broker.publish(Publication::new(Arc::clone(&name), message)).await.expect("the queue exists");
    }
    let mut consumption = broker.consume(&[name], 10).await.expect("it is there");
    for expected in ["9", "200", "1", "none", "0"] {
        let delivery = next(&mut consumption).await;
        assert_eq!(&*delivery.message.body, expected.as_bytes(), "{delivery:?}");
        delivery.acker.ack();
    }
    consumption.control.close().await;
    broker.close().await;
}
