//! Loops over lapin without anything on top, to which taskq's speed is compared: in the same run, on queues of the
//! same kind, with the same bytes. For benchmarks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::time::Instant;

use super::address::Addresses;
use super::convert;
use super::places::Places;
use crate::fault::BoxError;
use crate::io;
use crate::message::WireMessage;
use crate::tls::TlsOptions;

/// The measurement of a loop.
#[derive(Debug, Clone, Copy)]
pub struct LoopRun {
    /// The number of messages or round trips.
    pub count: usize,
    /// The time that they took.
    pub took: Duration,
}

/// Publishes `message` to `queue` `count` times, with `window` of them unconfirmed at a time.
pub async fn publish(
    url: &str,
    queue: &str,
    message: WireMessage,
    count: usize,
    window: usize,
) -> Result<LoopRun, BoxError> {
    let (url, queue) = (url.to_owned(), queue.to_owned());
    io::run(async move {
        let (_connection, channel) = open(&url).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let properties = convert::to_amqp(&message, 0, false, 1 << 20)?;
        let begun = Instant::now();
        let mut unconfirmed: VecDeque<Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>> =
            VecDeque::with_capacity(window);
        for _ in 0..count {
            if unconfirmed.len() >= window
                && let Some(oldest) = unconfirmed.pop_front()
            {
                oldest.await?;
            }
            let mut sending = Box::pin(send(channel.clone(), queue.clone(), message.body.clone(), properties.clone()));
            // The first poll sends the message.
            if let Some(confirmed) = sending.as_mut().now_or_never() {
                confirmed?;
            } else {
                unconfirmed.push_back(sending);
            }
        }
        for confirm in unconfirmed {
            confirm.await?;
        }
        Ok(LoopRun { count, took: begun.elapsed() })
    })
    .await
}

/// Takes `count` messages from `queue` with this prefetch. Acknowledges together as many as half the prefetch, at most
/// 64.
pub async fn consume(url: &str, queue: &str, prefetch: u16, count: usize) -> Result<LoopRun, BoxError> {
    let (url, queue) = (url.to_owned(), queue.to_owned());
    let (connection, channel, mut consumer) = io::run(async move {
        let (connection, channel) = open(&url).await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
        Ok::<_, BoxError>((connection, channel, consumer))
    })
    .await?;
    let batch = usize::from(prefetch / 2).clamp(1, 64);
    let begun = Instant::now();
    let mut tag = 0;
    for taken in 1..=count {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        tag = delivery.delivery_tag;
        if taken % batch == 0 {
            // The first poll sends the acknowledgement.
            let _ = channel.basic_ack(tag, BasicAckOptions { multiple: true }).now_or_never();
        }
    }
    let took = begun.elapsed();
    io::run(async move {
        if !count.is_multiple_of(batch) {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
        connection.close(200, "done".into()).await?;
        Ok(LoopRun { count, took })
    })
    .await
}

/// Publishes to `there`, takes the message from there, publishes to `back`, takes it from there: `count` times, one at
/// a time. Returns the duration of each round trip, in order. Confirms are on, as for everything that taskq publishes,
/// but they are not awaited: they cost the broker time, above all on classic queues.
pub async fn round_trips(
    url: &str,
    there: &str,
    back: &str,
    message: WireMessage,
    count: usize,
) -> Result<Vec<Duration>, BoxError> {
    let (url, there, back) = (url.to_owned(), there.to_owned(), back.to_owned());
    io::run(async move {
        let (_caller, asking) = open(&url).await?;
        let (_worker, answering) = open(&url).await?;
        for channel in [&asking, &answering] {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
        }
        let options = BasicConsumeOptions::default();
        let mut requests =
            answering.basic_consume(there.as_str().into(), "".into(), options, FieldTable::default()).await?;
        let mut answers = asking.basic_consume(back.as_str().into(), "".into(), options, FieldTable::default()).await?;
        let properties = convert::to_amqp(&message, 0, false, 1 << 20)?;
        let (body, reply) = (message.body.clone(), properties.clone());
        let publish = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let worker = tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                answering.basic_publish("".into(), back.as_str().into(), publish, &body, reply.clone()).await?;
                answering.basic_ack(request.delivery_tag, BasicAckOptions::default()).await?;
            }
            Ok::<_, lapin::Error>(())
        });
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            let publish = BasicPublishOptions::default();
            asking.basic_publish("".into(), there.as_str().into(), publish, &message.body, properties.clone()).await?;
            let answer = answers.next().await.ok_or("the consumer ended")??;
            took.push(begun.elapsed());
            asking.basic_ack(answer.delivery_tag, BasicAckOptions::default()).await?;
        }
        worker.abort();
        Ok(took)
    })
    .await
}

/// Deletes the queues of a benchmark.
pub async fn delete_queues(url: &str, queues: &[String]) -> Result<(), BoxError> {
    let (url, queues) = (url.to_owned(), queues.to_owned());
    io::run(async move {
        let (connection, channel) = open(&url).await?;
        for queue in queues {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await?;
        Ok(())
    })
    .await
}

async fn open(url: &str) -> Result<(Connection, Channel), BoxError> {
    let connection = Places::new(Addresses::parse(url, &TlsOptions::default())?).connect_bare("taskq bare").await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn send(
    channel: Channel,
    queue: String,
    body: bytes::Bytes,
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish("".into(), queue.as_str().into(), options, &body, properties).await?.await
}
