//! A worker inside a program that does other things too: it works for as long as those take.

use std::time::Duration;

use taskq::definition::Registry;
use taskq::{Client, Context, TaskId, TaskState, task};
use taskq_worker::{Worker, WorkerError};
use tokio::sync::oneshot;

#[task]
async fn double(x: i64) -> i64 {
    2 * x
}

/// Ends only when it is told to.
#[task]
async fn patient(ctx: &Context) -> bool {
    ctx.cancelled().await;
    true
}

async fn client() -> Client {
    let url = format!("memory:{}", TaskId::new());
    Client::builder().broker(&url).results(&url).build().await.expect("the memory broker is always there")
}

#[tokio::test]
async fn it_works_until_the_rest_is_done_and_drains() {
    let client = client().await;
    let worker = Worker::builder(client.clone()).concurrency(2).grace(Duration::ZERO);
    let program = async {
        let handle = patient().send(&client).await.expect("it is taken");
        let doubled = double(21).send(&client).await.expect("it is taken").get().await.expect("it runs");
        (doubled, handle)
    };
    let (doubled, handle) = worker.run_until(program).await.expect("it drains");
    assert_eq!(doubled, 42);
    // The drain told it to stop, and waited for its end.
    assert_eq!(handle.status().await.expect("there is a backend").state, TaskState::Success);

    // Nobody is left who would take this one.
    let late = double(1).send(&client).await.expect("it is taken");
    assert_eq!(client.broker().stats("default").await.expect("the queue is there").ready, 1);
    assert_eq!(late.status().await.expect("there is a backend").state, TaskState::Pending);
}

#[tokio::test]
async fn a_worker_that_cannot_begin_lets_the_rest_go() {
    let (kept, mut dropped) = oneshot::channel::<()>();
    let program = async {
        let _kept = kept;
        std::future::pending::<()>().await;
    };
    let worker = Worker::builder(client().await).registry(Registry::default());
    let error = worker.run_until(program).await.expect_err("it has no tasks");
    assert!(matches!(error, WorkerError::Registry(_)), "{error}");
    assert_eq!(dropped.try_recv(), Err(oneshot::error::TryRecvError::Closed), "the program is gone");
}
