//! `taskq::testing`: the queue that a call goes to. The tests run in parallel, and some of them use many threads.

use std::sync::Barrier;

use taskq::testing::{self, TestQueue};
use taskq::{Error, task};

#[task]
async fn note(who: u64) -> u64 {
    who
}

/// A call as in a user's code: it names no client.
async fn sign_up(who: u64) -> Result<(), Error> {
    note(who).await?;
    Ok(())
}

fn who_is_enqueued(queue: &TestQueue) -> Vec<u64> {
    let mut found: Vec<u64> = queue.enqueued().iter().map(|call| call.args[0].as_u64().expect("a number")).collect();
    found.sort_unstable();
    found
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn tests_in_many_threads_do_not_see_each_other() {
    const TESTS: u64 = 16;
    let barrier = Barrier::new(TESTS as usize);
    std::thread::scope(|scope| {
        for test in 0..TESTS {
            let barrier = &barrier;
            scope.spawn(move || {
                runtime().block_on(async {
                    let queue = testing::start();
                    barrier.wait();
                    for round in 0..50 {
                        sign_up(1000 * test + round).await.expect("it is taken");
                        testing::assert_enqueued!(note(1000 * test + round));
                    }
                    assert_eq!(who_is_enqueued(&queue), (1000 * test..1000 * test + 50).collect::<Vec<_>>());
                    let report = queue.drain().await;
                    assert_eq!(report.assert_ok().runs.len(), 50);
                });
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_from_spawned_tasks_and_blocking_threads_are_found() {
    let queue = testing::start();
    let mut spawned = tokio::task::JoinSet::new();
    for who in 0..20 {
        spawned.spawn(sign_up(who));
    }
    spawned.spawn_blocking(|| tokio::runtime::Handle::current().block_on(sign_up(20)));
    while let Some(sent) = spawned.join_next().await {
        sent.expect("it does not panic").expect("it is taken");
    }
    let asserted = tokio::spawn(async { testing::assert_enqueued!(note(20)) });
    asserted.await.expect("assertions find it there, too");
    assert_eq!(who_is_enqueued(&queue), (0..=20).collect::<Vec<_>>());
    let draining = queue.clone();
    let report = tokio::spawn(async move { draining.drain().await }).await.expect("it can be drained there, too");
    assert_eq!(report.assert_ok().runs.len(), 21);
}

#[tokio::test]
async fn calls_from_outside_do_not_go_to_a_server() {
    let queue = testing::start();
    let elsewhere = std::thread::spawn(|| runtime().block_on(sign_up(1)));
    let error = elsewhere.join().expect("it does not panic").expect_err("it is not this test's runtime");
    assert!(matches!(error, Error::OutsideTest), "{error}");
    assert!(error.to_string().contains("TestQueue::scope"), "{error}");
    let client = queue.client().clone();
    let named = std::thread::spawn(move || runtime().block_on(async { note(2).send(&client).await.map(|_| ()) }));
    named.join().expect("it does not panic").expect("a client that is named is used anywhere");
    let scope = queue.scope(sign_up(3));
    std::thread::spawn(|| runtime().block_on(scope)).join().expect("it does not panic").expect("and so is a scope");
    assert_eq!(who_is_enqueued(&queue), [2, 3]);
    drop(queue);
    assert!(matches!(sign_up(4).await, Err(Error::OutsideTest)), "the test is over");
}

#[tokio::test]
async fn a_second_queue_on_one_runtime_is_refused() {
    let queue = testing::start();
    let second = std::panic::catch_unwind(testing::start).expect_err("which one would be meant?");
    let text = second.downcast::<String>().expect("it says why");
    assert!(text.contains("isolation.rs") && text.contains("detached()"), "{text}");
    sign_up(1).await.expect("the first one is still there");
    assert_eq!(who_is_enqueued(&queue), [1]);
    drop(queue);
    let next = testing::start();
    sign_up(2).await.expect("one after the other is well");
    assert_eq!(who_is_enqueued(&next), [2]);
}

#[test]
fn there_is_no_runtime_to_start_on() {
    let payload = std::panic::catch_unwind(testing::start).expect_err("no runtime");
    let text = payload.downcast::<&'static str>().expect("it says why");
    assert!(text.contains("#[tokio::test]"), "{text}");
}

#[tokio::test]
async fn detached_queues_share_a_runtime() {
    let (one, other) = (testing::builder().detached(), testing::builder().detached());
    assert!(matches!(sign_up(0).await, Err(Error::OutsideTest)), "neither is the runtime's");
    let in_one = one.scope(async {
        sign_up(1).await?;
        testing::assert_enqueued!(note(1));
        testing::assert_not_enqueued!(note(2));
        // The innermost scope counts.
        other.scope(sign_up(20)).await
    });
    let (first, second) = tokio::join!(in_one, other.scope(sign_up(2)));
    first.and(second).expect("both are taken");
    assert_eq!((who_is_enqueued(&one), who_is_enqueued(&other)), (vec![1], vec![2, 20]));
    // Calls made during a drain go to the queue that is drained.
    assert_eq!(other.drain().await.assert_ok().runs.len(), 2);
    assert_eq!(who_is_enqueued(&one), [1]);
}

#[test]
fn a_detached_queue_needs_no_runtime() {
    let queue = testing::builder().detached();
    futures_util::FutureExt::now_or_never(queue.scope(sign_up(1))).expect("memory does not wait").expect("it is taken");
    let report = futures_util::FutureExt::now_or_never(queue.drain()).expect("nor does this task");
    assert_eq!(report.assert_ok().runs.len(), 1);
}
