//! Tasks that wait for other tasks, in a worker with and without a free slot.

use taskq::{Context, Error, task};

use super::*;

#[task]
async fn child() -> u32 {
    7
}

/// Waits for the result of a child until the gate is open. Tells whether the child has ended by then.
async fn until_opened(child: Handle<u32>, gate: &str) -> Result<bool, Error> {
    let gate = Gate::state(gate);
    let opened = async {
        while !gate.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        value = child.get() => value.map(|value| value == 7),
        () = opened => Ok(false),
    }
}

/// Waits for a child until its gate is open; whether the child has ended by then.
#[task(retries = 0)]
async fn parent(gate: String, countdown_ms: u64) -> Result<bool, Error> {
    until_opened(child().countdown(Duration::from_millis(countdown_ms)).await?, &gate).await
}

/// Waits for a child on a thread.
#[task(retries = 0)]
fn parent_on_a_thread(gate: String) -> Result<bool, Error> {
    let waits = async { Context::current().expect("it is a task").client().expect("of a worker") };
    let client = tokio::runtime::Handle::current().block_on(waits);
    let waits = async { until_opened(child().send(&client).await?, &gate).await };
    tokio::runtime::Handle::current().block_on(waits)
}

/// The warnings about a task.
fn warnings(id: &TaskId) -> Vec<String> {
    log::lines_with(&[id.as_str(), "waits for the result of another one"])
}

#[tokio::test]
async fn a_task_that_waits_for_its_own_slot_is_named_once() {
    log::listen();
    let client = client().await;
    let bench = SupervisedFixture::with(&client, 2, false, |worker| worker.concurrency(1)).await;
    for on_a_thread in [false, true] {
        let gate = Gate::new();
        let (name, call) = if on_a_thread {
            (parent_on_a_thread::NAME, parent_on_a_thread(gate.0.clone()))
        } else {
            (parent::NAME, parent(gate.0.clone(), 0))
        };
        let waiting = bench.send(call).await;
        let line = until("it is named", async || warnings(waiting.id()).pop()).await;
        for word in [name, child::NAME, "concurrency"] {
            assert!(line.contains(word), "{word} is not in {line}");
        }
        gate.open();
        assert!(!waiting.get_timeout(PATIENCE).await.expect("it gives up"), "the child needed its slot");
        assert_eq!(warnings(waiting.id()).len(), 1);
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_task_whose_child_can_begin_is_not_named() {
    log::listen();
    let client = client().await;
    let bench = SupervisedFixture::with(&client, 2, false, |worker| worker.concurrency(2)).await;
    let gate = Gate::new();
    // One child runs in the other slot at once. One begins later than a wait is suspicious, while all slots are taken.
    assert!(bench.send(parent(gate.0.clone(), 0)).await.get_timeout(PATIENCE).await.expect("the child runs"));
    let late = [bench.send(parent(gate.0.clone(), 1500)).await, bench.send(parent(gate.0.clone(), 600_000)).await];
    let begun = Instant::now();
    until("a suspicious wait would have been looked at", async || {
        (begun.elapsed() > Duration::from_millis(1300)).then_some(())
    })
    .await;
    gate.open();
    for handle in &late {
        handle.get_timeout(PATIENCE).await.expect("it gives up");
        assert_eq!(warnings(handle.id()), [""; 0]);
    }
    bench.stop().await;
}
