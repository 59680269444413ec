//! Calls that name no client. The client that they use belongs to the process, so the test has a process of its own.

use std::time::Duration;

use taskq::{Client, Error, Handle, TaskState, task};
use taskq_tests::harness::{Folder, in_own_process};
use taskq_worker::Worker;

const PATIENCE: Duration = Duration::from_secs(20);

#[task]
async fn double(x: i64) -> i64 {
    2 * x
}

/// A worker beside `client`, until the process ends.
async fn work_for(client: &Client) {
    let worker = Worker::builder(client.clone()).build().await.expect("the embedded broker is there");
    tokio::spawn(worker.run());
}

#[tokio::test]
async fn it_is_connected_on_first_use_and_can_be_replaced() {
    if !in_own_process(concat!(module_path!(), "::it_is_connected_on_first_use_and_can_be_replaced")) {
        return;
    }
    // The embedded file is made in the working directory.
    let here = Folder::new("default-client");
    std::env::set_current_dir(&here).expect("it is there");
    // Calls that race connect once.
    let (one, other) = tokio::join!(double(1), double(2));
    let (one, other) = (one.expect("nothing is configured"), other.expect("so it is embedded"));
    let lazy = taskq::client::current().await.expect("it was connected");
    work_for(&lazy).await;
    assert_eq!(one.get_timeout(PATIENCE).await.expect("it runs"), 2);
    assert_eq!(other.get_timeout(PATIENCE).await.expect("both are with the same broker"), 4);
    assert_eq!(double(3).get().await.expect("enqueued and waited for"), 6);
    let attached = Handle::<i64>::attach(one.id().clone());
    assert_eq!(attached.get_timeout(PATIENCE).await.expect("by id"), 2);
    assert!(here.path().join("taskq.db").exists(), "what it was embedded in");

    // An installed client takes its place, for calls and for handles that name none.
    let url = "memory:installed";
    let installed = Client::builder().broker(url).results(url).build().await.expect("memory").install();
    assert_eq!(attached.status().await.expect("there is a backend").state, TaskState::Pending, "another store");
    let queued = double(4).await.expect("it is taken");
    let nobody = queued.get_timeout(Duration::from_millis(100)).await;
    assert!(matches!(nobody, Err(Error::NoResultYet { .. })), "no worker there: {nobody:?}");
    work_for(&installed).await;
    assert_eq!(queued.get_timeout(PATIENCE).await.expect("now there is"), 8);

    // Naming one goes past it.
    let named = double(5).send(&lazy).await.expect("it is taken");
    assert_eq!(named.get_timeout(PATIENCE).await.expect("it runs there"), 10);
    assert_eq!(
        lazy.handle::<i64>(queued.id().clone()).status().await.expect("there is a backend").state,
        TaskState::Pending
    );
}

/// The client outlives the runtime it was made on: each test, and each `block_on`, may have its own.
#[test]
fn a_client_outlives_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let url = "memory:outlives";
    let client =
        runtime().block_on(async { Client::builder().broker(url).results(url).build().await.expect("memory") });
    let sum = runtime().block_on(async {
        work_for(&client).await;
        double(21).send(&client).await.expect("it is taken").get_timeout(PATIENCE).await.expect("it runs")
    });
    assert_eq!(sum, 42);
}
