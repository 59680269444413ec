//! Waits for results that cannot come, and clients without a tokio runtime.

use std::time::Duration;

use taskq::canvas::ArgumentList;
use taskq::{Call, Client, Error, TaskId, TaskState, task};
use taskq_tests::harness::{Folder, block_on, in_own_process, unique};
use taskq_worker::{Worker, WorkerError};

/// Far longer than anything here takes; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Too short for any result to come by itself.
const AT_ONCE: Duration = Duration::from_millis(1);

#[task(name = "waiting.double")]
async fn double(x: i64) -> i64 {
    2 * x
}

#[task(name = "waiting.forgets", ignore_result)]
async fn forgets(x: i64) -> i64 {
    x
}

async fn memory() -> Client {
    let url = format!("memory:{}", TaskId::new());
    Client::builder().broker(&url).results(&url).build().await.expect("memory")
}

/// A worker beside `client`, on a runtime of its own, until the process ends.
fn work_for(client: &Client) {
    let client = client.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Worker::builder(client).run())
    });
}

#[tokio::test]
async fn a_result_that_is_not_stored_is_not_waited_for() {
    let client = memory().await;
    let ignored = |error: &Error| matches!(error, Error::ResultIgnored { .. });
    let handles = [
        forgets(1).send(&client).await.expect("it is taken"),
        double(1).ignore_result(true).send(&client).await.expect("it is taken"),
        forgets(1).unique("first", "1h").send(&client).await.expect("it is taken"),
        client.send_all([forgets(1)]).await.all().expect("it is taken").remove(0).clone(),
        client.send_all([forgets(1).unique("second", "1h")]).await.all().expect("it is taken").remove(0),
    ];
    for handle in handles {
        let error = handle.get_timeout(PATIENCE).await.expect_err("there will be no result");
        assert!(ignored(&error) && error.to_string().contains(".ignore_result(false)"), "{error}");
        assert!(ignored(&handle.get().await.expect_err("there will be no result")));
        assert!(ignored(&handle.watch().await.expect_err("there will be no change")));
        assert_eq!(handle.status().await.expect("it can be asked").state, TaskState::Pending);
    }
    // What stores a result, and what this client cannot know.
    let (asked, second) = (forgets(1).ignore_result(false), forgets(1).unique("first", "1h"));
    for handle in [asked.send(&client).await, second.send(&client).await] {
        let outcome = handle.expect("it is taken").get_timeout(AT_ONCE).await;
        assert!(matches!(outcome, Err(Error::NoResultYet { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_call_whose_result_cannot_come_is_not_even_sent() {
    if !in_own_process(concat!(module_path!(), "::a_call_whose_result_cannot_come_is_not_even_sent")) {
        return;
    }
    let waiting = async |client: &Client| {
        client.declare("default").await.expect("memory");
        client.broker().stats("default").await.expect("it is declared").ready
    };
    let client = memory().await.install();
    let error = forgets(1).get().await.expect_err("there will be no result");
    assert!(matches!(&error, Error::Call { mistake, .. } if mistake.contains("ignore_result")), "{error}");
    assert_eq!(waiting(&client).await, 0);
    let url = format!("memory:{}", TaskId::new());
    let client = Client::builder().broker(url).results("none").build().await.expect("memory").install();
    assert!(matches!(double(1).get().await, Err(Error::NoResultBackend)));
    assert_eq!(waiting(&client).await, 0);
}

/// Everything that a client does, with a worker elsewhere.
async fn use_all(client: &Client) {
    let handle = double(21).send(client).await.expect("it is taken");
    assert_eq!(handle.get_timeout(PATIENCE).await.expect("it runs"), 42);
    assert_eq!(handle.status().await.expect("it is stored").state, TaskState::Success);
    let mut updates = handle.watch().await.expect("it is stored");
    assert_eq!(updates.next().await.expect("there is an end").expect("it can be read").state, TaskState::Success);
    let delayed = double(1).countdown("10ms").send(client).await.expect("it is taken");
    assert_eq!(delayed.get().await.expect("it runs"), 2);
    let key = unique("key");
    let twice = [double(4).unique(&key, "1h"), double(4).unique(&key, "1h")];
    let handles = client.send_all(twice).await.all().expect("both are taken");
    assert_eq!(handles[0].id(), handles[1].id());
    assert_eq!(handles[1].get_timeout(PATIENCE).await.expect("it runs"), 8);
    let nobody = client.handle::<i64>(TaskId::new()).get_timeout(AT_ONCE).await;
    assert!(matches!(nobody, Err(Error::NoResultYet { .. })), "{nobody:?}");
    let unknown: Call<i64> = Call::named("waiting.nobody", ArgumentList::new()).queue(unique("elsewhere"));
    let outcome = unknown.send(client).await.expect("it is taken").get_timeout(AT_ONCE).await;
    assert!(matches!(outcome, Err(Error::NoResultYet { .. })), "{outcome:?}");
    assert!(client.dead().list(1).await.expect("it can be looked into").is_empty());
    client.broker().info().await.expect("it tells");
}

#[test]
fn a_client_needs_no_runtime() {
    let folder = Folder::new("no-runtime");
    let file = format!("sqlite:{}", folder.path().join("taskq.db").display());
    let places = [(format!("memory:{}", TaskId::new()), "memory:no-runtime".to_owned()), (file.clone(), file)];
    for (broker, results) in places {
        let queue = unique("no-runtime");
        let builder = Client::builder().broker(&broker).results(results).default_queue(&queue);
        let client = block_on(builder.build()).expect("it can be reached");
        work_for(&client);
        block_on(use_all(&client));
        // From a thread of a runtime as well, which no other future can use meanwhile.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(use_all(&client));
    }
}

#[test]
fn a_worker_without_a_runtime_says_what_is_missing() {
    let client = block_on(memory());
    let error = block_on(Worker::builder(client).build()).err().expect("it could run nothing");
    assert!(matches!(error, WorkerError::NoRuntime) && error.to_string().contains("#[tokio::main]"), "{error}");
}
