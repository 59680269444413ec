//! Two builds of one program, as during a deploy: the newer one has given a task another parameter.

use std::time::Duration;

use taskq::canvas::TaskArgument;
use taskq::definition::{ArgumentError, Arguments, Body, Context, Definition, Parameter, Registry, SourceLocation};
use taskq::{Call, Client, TaskId, TaskState, task};
use taskq_tests::harness::BOUND;
use taskq_worker::{Worker, WorkerControl};
use tokio::task::JoinHandle;

/// The task in the older build.
#[task(name = "builds.total")]
async fn total(x: i64, y: i64) -> i64 {
    x + y
}

/// The task in the newer build. The attribute would link both under one name.
static NEWER: Definition =
    Definition::new("builds.total", SourceLocation::new(env!("CARGO_PKG_NAME"), file!(), line!()), start)
        .with_parameters(&PARAMETERS)
        .with_result("i64");

static PARAMETERS: [Parameter; 3] =
    [Parameter::new("x", "i64"), Parameter::new("y", "i64"), Parameter::new("z", "Option<i64>")];

fn start(_: Context, arguments: &Arguments<'_>) -> Result<Body, ArgumentError> {
    arguments.check(NEWER.name, &PARAMETERS)?;
    let x = i64::take(arguments, NEWER.name, 0, &PARAMETERS[0])?;
    let y = i64::take(arguments, NEWER.name, 1, &PARAMETERS[1])?;
    let z = <Option<i64> as TaskArgument>::take(arguments, NEWER.name, 2, &PARAMETERS[2])?;
    let sum = x + y + z.unwrap_or(0);
    Ok(Body::Async(Box::pin(async move { Ok(serde_json::value::to_raw_value(&sum).expect("a number is JSON")) })))
}

async fn worker(client: &Client, registry: Registry) -> (WorkerControl, JoinHandle<()>) {
    let worker = Worker::builder(client.clone()).registry(registry).queues(["default"]).build().await;
    let worker = worker.expect("memory");
    let control = worker.control();
    let running = tokio::spawn(async move {
        worker.run().await.expect("it drains");
    });
    (control, running)
}

async fn until(what: &str, fact: impl AsyncFn() -> bool) {
    let wait = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("still not after {BOUND:?}: {what}"));
}

#[tokio::test]
async fn a_call_with_an_argument_more_waits_for_a_worker_of_the_newer_build() {
    let url = format!("memory:{}", TaskId::new());
    let client = Client::builder().broker(&url).results(&url).build().await.expect("memory");
    let call = |arguments: serde_json::Value, named: serde_json::Value| {
        let positional = arguments.as_array().expect("a list").clone();
        let named = named.as_object().expect("a map").clone();
        let arguments = taskq::canvas::ArgumentList::from_json(&positional, &named).expect("it is JSON already");
        Call::<i64>::named(total::NAME, arguments)
    };
    let none = || serde_json::json!({});
    let one_more = call(serde_json::json!([1, 2, 3]), none()).send(&client).await.expect("memory");
    let another_name =
        call(serde_json::json!([1, 2]), serde_json::json!({"z": 4})).send(&client).await.expect("memory");
    let wrong = call(serde_json::json!([1, "two"]), none()).send(&client).await.expect("memory");
    let (older, running) = worker(&client, Registry::collect().expect("each name once")).await;
    // What no build takes is told at once.
    wrong.get_timeout(BOUND).await.expect_err("it is no number");
    until("the older worker has looked at them", async || {
        client.broker().stats("default").await.expect("memory").ready == 0
    })
    .await;
    older.drain();
    running.await.expect("it does not panic");
    assert_eq!(one_more.status().await.expect("memory").state, TaskState::Pending, "it is not dead");

    let (newer, running) = worker(&client, Registry::of([&NEWER]).expect("one task")).await;
    assert_eq!(one_more.get_timeout(BOUND).await.expect("the newer build takes it"), 6);
    assert_eq!(another_name.get_timeout(BOUND).await.expect("the newer build knows the name"), 7);
    // The calls of the older build are as good as before.
    let old = total(20, 3).send(&client).await.expect("memory");
    assert_eq!(old.get_timeout(BOUND).await.expect("the parameter may be left out"), 23);
    newer.drain();
    running.await.expect("it does not panic");
    let dead = client.dead().list(10).await.expect("memory");
    assert_eq!(dead.iter().map(|entry| entry.id.as_ref()).collect::<Vec<_>>(), [Some(wrong.id())]);
}
