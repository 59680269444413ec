//! Revoking tasks, in each of the places where they can be: the first end counts, and it is one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use taskq::remote::Destination;
use taskq::{Client, Context, Error, Handle, TaskId, TaskState, task};
use taskq_worker::{Worker, WorkerControl, WorkerError, WorkerSummary};
use tokio::task::JoinHandle;

/// Far longer than anything here takes; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

async fn client() -> Client {
    let url = format!("memory:{}", TaskId::new());
    Client::builder().broker(&url).results(&url).build().await.expect("the memory broker is always there")
}

struct RunningWorker {
    control: WorkerControl,
    running: JoinHandle<Result<WorkerSummary, WorkerError>>,
}

impl RunningWorker {
    async fn start(client: &Client, concurrency: usize) -> Self {
        let worker = Worker::builder(client.clone()).concurrency(concurrency).name("one@here").build().await;
        let worker = worker.expect("the memory broker is always there");
        Self { control: worker.control(), running: tokio::spawn(worker.run()) }
    }

    async fn stop(self) -> WorkerSummary {
        self.control.drain();
        self.running.await.expect("the worker does not panic").expect("the worker drains")
    }
}

/// Asserts that the task is revoked, and stays so.
async fn is_revoked<T: taskq::canvas::TaskOutput>(handle: &Handle<T>) {
    match handle.get_timeout(PATIENCE).await {
        Err(Error::Revoked { .. }) => {}
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(handle.status().await.expect("it can be read").state, TaskState::Revoked);
}

async fn until(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

static WAITING_RUNS: AtomicU32 = AtomicU32::new(0);

#[task(name = "revoking.waiting")]
async fn waiting() {
    WAITING_RUNS.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test]
async fn what_waits_is_not_run_also_by_a_worker_that_begins_later() {
    let client = client().await;
    let queued = waiting().send(&client).await.expect("it is taken");
    let delayed = waiting().countdown("300ms").send(&client).await.expect("it is taken");
    queued.revoke().await.expect("it is kept");
    // Those who wait are told now.
    is_revoked(&queued).await;
    let worker = RunningWorker::start(&client, 4).await;
    until("the worker knows", async || worker.control.revoked().await.contains(queued.id())).await;
    delayed.revoke().await.expect("it is kept");
    is_revoked(&delayed).await;
    let last = waiting().countdown("600ms").send(&client).await.expect("it is taken");
    last.get_timeout(PATIENCE).await.expect("it is not revoked");
    let summary = worker.stop().await;
    assert_eq!((WAITING_RUNS.load(Ordering::Relaxed), summary.succeeded), (1, 1));
    is_revoked(&queued).await;
    is_revoked(&delayed).await;
}

static SAW_IT: AtomicBool = AtomicBool::new(false);
static WENT_ON: AtomicBool = AtomicBool::new(false);

#[task(name = "revoking.listens", retries = 3)]
async fn listens(ctx: &Context) -> u32 {
    ctx.cancelled().await;
    SAW_IT.store(true, Ordering::Relaxed);
    7
}

#[task(name = "revoking.awaits")]
async fn awaits() {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    WENT_ON.store(true, Ordering::Relaxed);
}

static PLAIN_ENDED: AtomicBool = AtomicBool::new(false);

#[task(name = "revoking.plain")]
fn plain(ctx: &Context) -> u32 {
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    PLAIN_ENDED.store(true, Ordering::Relaxed);
    7
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_stopped_and_what_it_returns_does_not_count() {
    let client = client().await;
    let worker = RunningWorker::start(&client, 4).await;
    let listening = listens().send(&client).await.expect("it is taken");
    let awaiting = awaits().send(&client).await.expect("it is taken");
    let blocking = plain().send(&client).await.expect("it is taken");
    until("all of them run", async || {
        let snapshot = worker.control.snapshot().await.expect("it runs");
        snapshot.runs.iter().filter(|run| run.running_for.is_some()).count() == 3
    })
    .await;
    let ids = [listening.id(), awaiting.id(), blocking.id()].map(Clone::clone);
    client.revoke(ids).await.expect("it is kept");
    is_revoked(&listening).await;
    is_revoked(&awaiting).await;
    is_revoked(&blocking).await;
    until("nothing is in hand", async || worker.control.snapshot().await.expect("it runs").runs.is_empty()).await;
    until("the plain function has ended", async || PLAIN_ENDED.load(Ordering::Relaxed)).await;
    let summary = worker.stop().await;
    assert_eq!((summary.revoked, summary.succeeded, summary.retried), (3, 0, 0));
    assert!(SAW_IT.load(Ordering::Relaxed) && !WENT_ON.load(Ordering::Relaxed));
    is_revoked(&listening).await;
    is_revoked(&blocking).await;
}

#[task(name = "revoking.quick")]
async fn quick() -> u32 {
    7
}

#[tokio::test]
async fn what_has_ended_stays_what_it_was() {
    let client = client().await;
    let worker = RunningWorker::start(&client, 4).await;
    let done = quick().send(&client).await.expect("it is taken");
    assert_eq!(done.get_timeout(PATIENCE).await.expect("it runs"), 7);
    done.revoke().await.expect("it is kept");
    assert_eq!(done.get_timeout(PATIENCE).await.expect("it stays"), 7);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_has_one_end_however_the_revocation_races_with_it() {
    const TASKS: usize = 2000;
    let client = client().await;
    let worker = RunningWorker::start(&client, 8).await;
    let sent = client.send_all((0..TASKS).map(|_| quick())).await.all().expect("they are taken");
    let mut revoked = 0;
    for some in sent.chunks(50) {
        client.revoke(some.iter().map(|handle| handle.id().clone())).await.expect("it is kept");
    }
    for handle in &sent {
        let ended = handle.get_timeout(PATIENCE).await;
        let state = handle.status().await.expect("it can be read").state;
        match ended {
            Ok(7) => assert_eq!(state, TaskState::Success),
            Err(Error::Revoked { .. }) => {
                revoked += 1;
                assert_eq!(state, TaskState::Revoked);
            }
            other => panic!("{other:?}"),
        }
    }
    let summary = worker.stop().await;
    // Those who wait are told before the messages are taken, so some may be left.
    let left = client.broker().stats("default").await.expect("the queue exists").ready;
    assert_eq!(summary.succeeded + summary.revoked + left, TASKS as u64, "each was run or dropped, once: {summary:?}");
    println!("{TASKS} tasks, {revoked} of them revoked before they had ended");
}

#[tokio::test]
async fn a_worker_answers_what_it_is_asked() {
    let client = client().await;
    let worker = RunningWorker::start(&client, 4).await;
    let held = awaits().send(&client).await.expect("it is taken");
    until("it runs", async || {
        let snapshot = worker.control.snapshot().await.expect("it runs");
        snapshot.runs.iter().any(|run| run.running_for.is_some())
    })
    .await;
    let control = client.control().timeout(PATIENCE).destination(Destination::Nodes(vec!["one@here".to_owned()]));
    let pong = control.ask("ping", Default::default()).await.expect("it can be asked");
    assert_eq!((pong[0].node.as_str(), &pong[0].value), ("one@here", &serde_json::json!({"ok": "pong"})));
    let active = control.ask("active", Default::default()).await.expect("it can be asked");
    assert_eq!(active[0].value[0]["id"], held.id().as_str());
    let refused = control.ask("pool_grow", Default::default()).await.expect("it can be asked");
    assert!(refused[0].value["error"].as_str().is_some_and(|why| why.contains("pool_grow")), "{refused:?}");
    let unknown = control.ask("nonsense", Default::default()).await.expect("it can be asked");
    assert_eq!(unknown[0].value["error"], "KeyError('nonsense')");
    held.revoke().await.expect("it is kept");
    is_revoked(&held).await;
    worker.stop().await;
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_comes_in_by_no_other_door() {
    let url = format!("memory:{}", TaskId::new());
    let builder = Client::builder().broker(&url).results(&url).remote_commands("");
    let client = builder.build().await.expect("the memory broker is always there");
    let worker = RunningWorker::start(&client, 4).await;
    let id = TaskId::new();
    let asked = async |method: &str, arguments: serde_json::Value| {
        let control = client.control().timeout(PATIENCE).limit(1);
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        control.ask(method, arguments).await.expect("it can be asked").remove(0).value
    };
    let refused = asked("revoke", serde_json::json!({ "task_id": id })).await;
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("`remote_commands`")), "{refused}");
    let revoked = serde_json::json!({ "from_node": "other@there", "revoked": { id.as_str(): [0.0, id] } });
    assert_eq!(asked("hello", revoked).await["revoked"], serde_json::json!({}));
    assert!(worker.control.revoked().await.is_empty(), "another worker cannot have it revoked either");
    worker.stop().await;
}
