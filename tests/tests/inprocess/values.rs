//! Values through a client, a broker, a worker and a store, on memory and in a file, with both serializers: each comes
//! back as it was, or the call or the task fails by name.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskq::settings::Serializer;
use taskq::{Client, Error, Handle, TaskId, task};
use taskq_tests::harness::{BOUND, Embedded};
use taskq_worker::Worker;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    value: f64,
    rate: f32,
    count: i128,
    by_name: BTreeMap<String, Option<f64>>,
}

#[task(name = "values.echo")]
async fn echo(reading: Reading, plain: f64) -> (Reading, f64) {
    (reading, plain)
}

#[task(name = "values.divide")]
async fn divide(x: f64, y: f64) -> Vec<Option<f64>> {
    vec![None, Some(x / y)]
}

/// Floats of any size, the same in each run.
fn floats() -> impl Iterator<Item = f64> {
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::from_fn(move || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(f64::from_bits(bits))
    })
    .filter(|float| float.is_finite())
}

/// The parts of a value by their bits.
fn bits((reading, plain): &(Reading, f64)) -> (u64, u32, i128, Vec<Option<u64>>, u64) {
    let by_name = reading.by_name.values().map(|value| value.map(f64::to_bits)).collect();
    (reading.value.to_bits(), reading.rate.to_bits(), reading.count, by_name, plain.to_bits())
}

async fn check(url: &str, serializer: Serializer, counts: impl Iterator<Item = i128>) {
    let client = Client::builder().broker(url).results(url).serializer(serializer).build().await;
    let client = client.expect("it is in this process");
    let worker = Worker::builder(client.clone()).concurrency(8).build().await.expect("it is in this process");
    let control = worker.control();
    let running = tokio::spawn(worker.run());

    let known = [985.690_694_632_869_5, 0.1, -0.0, 5e-324, f64::MAX, f64::MIN_POSITIVE, 1e23, 9_007_199_254_740_993.0];
    let sent = known.into_iter().chain(floats()).zip(counts).map(|(float, count)| {
        let rate = f32::from_bits(float.to_bits() as u32);
        let rate = if rate.is_finite() { rate } else { f32::MIN_POSITIVE };
        let by_name = BTreeMap::from([("x".to_owned(), Some(float)), ("y".to_owned(), None)]);
        (Reading { value: float, rate, count, by_name }, float)
    });
    let sent: Vec<_> = sent.collect();
    let calls = sent.iter().map(|(reading, plain)| echo(reading.clone(), *plain).send(&client));
    for (handle, sent) in join_all(calls).await.into_iter().zip(&sent) {
        let handle: Handle<(Reading, f64)> = handle.expect("it is accepted");
        let back = handle.get_timeout(BOUND).await.expect("it succeeds");
        assert_eq!(bits(&back), bits(sent), "{url}, {serializer:?}: {sent:?}");
    }

    let none = BTreeMap::from([("x".to_owned(), Some(f64::NAN))]);
    let (reading, _) = sent[0].clone();
    for (call, parameter) in [
        (echo(reading.clone(), f64::INFINITY), "`plain`"),
        (echo(Reading { rate: f32::NAN, ..reading.clone() }, 1.0), "`reading`"),
        (echo(Reading { by_name: none, ..reading }, 1.0), "`reading`"),
    ] {
        let refused = call.send(&client).await.expect_err("JSON has no form for it").to_string();
        assert!(refused.contains(parameter) && refused.contains("JSON has no form"), "{refused}");
    }
    let divided = divide(1.0, 0.0).send(&client).await.expect("it is accepted");
    let Err(Error::Failed { failure, .. }) = divided.get_timeout(BOUND).await else {
        panic!("JSON has no form for it")
    };
    assert!(failure.message().contains("inf") && failure.message().contains("Vec"), "{failure}");
    control.drain();
    let summary = running.await.expect("it does not panic").expect("it drains");
    assert_eq!(summary.failed, 1, "it is not tried again");
    client.dead().get(divided.id()).await.expect("it is in the dead set");
}

#[tokio::test]
async fn what_is_sent_comes_back_bit_for_bit_or_is_refused_by_name() {
    let file = Embedded::new();
    let large = || [i128::MIN, i128::MAX, 1 << 100, -(1 << 64)].into_iter().chain(0..200);
    let small = || [i64::MIN.into(), i64::MAX.into(), u64::MAX.into()].into_iter().chain(0..200);
    for url in [format!("memory:{}", TaskId::new()), file.url()] {
        check(&url, Serializer::Json, large()).await;
        check(&format!("{url}2"), Serializer::Msgpack, small()).await;
    }
}

#[tokio::test]
async fn an_integer_that_a_type_has_no_room_for_is_refused_by_name() {
    let url = format!("memory:{}", TaskId::new());
    let client = Client::builder().broker(&url).results(&url).serializer(Serializer::Msgpack).build().await;
    let client = client.expect("it is in this process");
    let reading = Reading { value: 0.0, rate: 0.0, count: 1 << 64, by_name: BTreeMap::new() };
    let refused = echo(reading, 1.0).send(&client).await.expect_err("MessagePack has 64 bits").to_string();
    assert!(refused.contains("argument 1 holds a number of more than 64 bits"), "{refused}");

    let url = format!("memory:{}", TaskId::new());
    let client = Client::builder().broker(&url).results(&url).build().await.expect("it is in this process");
    let reading = Reading { value: 0.0, rate: 0.0, count: 1 << 64, by_name: BTreeMap::new() };
    let handle = echo(reading, 1.0).send(&client).await.expect("it is accepted");
    let worker = Worker::builder(client.clone()).build().await.expect("it is in this process");
    let control = worker.control();
    let running = tokio::spawn(worker.run());
    handle.get_timeout(BOUND).await.expect("it has room");
    let as_value = client.handle::<Value>(handle.id().clone()).get_timeout(BOUND).await;
    let Err(Error::ResultType { source, .. }) = as_value else { panic!("a value has 64 bits: {as_value:?}") };
    assert!(source.to_string().contains("an integer of more than 64 bits"), "{source}");
    control.drain();
    running.await.expect("it does not panic").expect("it drains");
}
