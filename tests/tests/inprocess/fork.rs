//! Clients in a process that was forked from one with clients, as servers that fork their workers do.

use std::time::Duration;

use taskq::{Client, Error, TaskId, task};
use taskq_tests::harness::{Folder, in_fork, in_own_process};

/// Shorter than the bound of the test, which must not need it.
const PUBLISH_TIMEOUT: &str = "10s";

#[task(name = "fork.double")]
async fn double(x: i64) -> i64 {
    2 * x
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

async fn connect(broker: &str, results: &str, queue: &str) -> Client {
    let builder = Client::builder().broker(broker).results(results).default_queue(queue);
    builder.publish_timeout(PUBLISH_TIMEOUT).build().await.expect("it can be reached")
}

/// Whether each use of the parent's client is refused.
async fn is_refused(client: &Client) -> bool {
    let forked = |error: Option<Error>| {
        let is_forked = matches!(error, Some(Error::Forked));
        if !is_forked {
            eprintln!("not refused: {error:?}");
        }
        is_forked
    };
    let handle = client.handle::<i64>(TaskId::new());
    let mut refused = vec![
        forked(double(1).send(client).await.err()),
        forked(double(1).unique("key", "1h").send(client).await.err()),
        forked(client.send_all([double(1)]).await.all().err()),
        forked(handle.get_timeout(Duration::from_secs(600)).await.err()),
        forked(handle.status().await.err()),
        forked(client.dead().list(1).await.err()),
    ];
    client.close().await;
    refused.push(Error::Forked.to_string().contains("connect another one here"));
    refused.into_iter().all(|refused| refused)
}

#[test]
fn a_client_of_the_parent_is_refused_and_another_one_works() {
    if !in_own_process(concat!(module_path!(), "::a_client_of_the_parent_is_refused_and_another_one_works")) {
        return;
    }
    let folder = Folder::new("fork");
    let file = format!("sqlite:{}", folder.path().join("taskq.db").display());
    let client = block_on(connect(&file, &file, "jobs"));
    let sent = block_on(double(1).send(&client)).expect("it is taken");
    in_fork(|| {
        block_on(async {
            let own = connect(&file, &file, "jobs").await;
            let second = double(2).send(&own).await.expect("it is taken");
            let waiting = own.broker().stats("jobs").await.expect("it is there").ready;
            let of_parent = own.handle::<i64>(sent.id().clone());
            let status = of_parent.status().await.is_ok() && second.status().await.is_ok();
            own.close().await;
            waiting == 2 && status && is_refused(&client).await
        })
    });
    // The parent's is as it was.
    block_on(double(3).send(&client)).expect("it is taken");
}

#[test]
fn calls_that_name_no_client_connect_another_one() {
    if !in_own_process(concat!(module_path!(), "::calls_that_name_no_client_connect_another_one")) {
        return;
    }
    let folder = Folder::new("fork");
    let file = format!("sqlite:{}", folder.path().join("taskq.db").display());
    block_on(connect(&file, &file, "jobs")).install();
    block_on(async { double(1).await }).expect("it is taken");
    in_fork(|| {
        block_on(async {
            double(2).await.expect("it is taken");
            let client = taskq::client::current().await.expect("it was connected");
            client.broker().stats("jobs").await.expect("the parent's settings hold").ready == 2
        })
    });
}
