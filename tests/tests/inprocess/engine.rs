//! The engine, end to end in one process: what each kind of attempt leads to. On the memory broker and backend, so that
//! it runs anywhere; the same paths over real servers are tested by `process`, `rabbitmq` and `crash`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use taskq::broker::{DEAD_QUEUE, Publication};
use taskq::client::DeadFilter;
use taskq::message::{Headers, Properties, WireMessage};
use taskq::{Call, Client, Context, Error, Handle, TaskError, TaskId, TaskState, task};
use taskq_worker::{Worker, WorkerBuilder, WorkerControl, WorkerError, WorkerSummary};
use tokio::task::JoinHandle;

/// Far longer than anything here takes; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client and a worker that share a broker nobody else has.
struct Fixture {
    client: Client,
    control: WorkerControl,
    worker: JoinHandle<Result<WorkerSummary, WorkerError>>,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(|worker| worker).await
    }

    async fn with(configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        let client = client().await;
        let builder = configure(Worker::builder(client.clone()).concurrency(8));
        let worker = builder.build().await.expect("the memory broker is always there");
        Self { client, control: worker.control(), worker: tokio::spawn(worker.run()) }
    }

    async fn send<T>(&self, call: Call<T>) -> Handle<T> {
        call.send(&self.client).await.expect("the memory broker takes it")
    }

    async fn get<T: taskq::canvas::TaskOutput>(&self, call: Call<T>) -> Result<T, Error> {
        self.send(call).await.get_timeout(PATIENCE).await
    }

    async fn stop(self) -> WorkerSummary {
        self.control.drain();
        self.worker.await.expect("the worker does not panic").expect("the worker drains")
    }

    async fn dead(&self, id: &TaskId) -> taskq::client::DeadEntry {
        until("the task is in the dead set", || async { self.client.dead().get(id).await.ok() }).await
    }
}

async fn client() -> Client {
    let url = format!("memory:{}", TaskId::new());
    let builder = Client::builder().broker(&url).results(&url).unknown_task_grace("2s");
    builder.build().await.expect("the memory broker is always there")
}

/// Waits until `fact` gives something.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut fact: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(found) = fact().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[task(name = "engine.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task]
fn total(orders: Vec<Order>, bonus: Option<u32>) -> Result<u32, String> {
    Ok(orders.iter().map(|order| order.count).sum::<u32>() + bonus.unwrap_or(0))
}

#[tokio::test]
async fn results_come_back_typed() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.get(add(2, 3)).await.expect("it adds"), 5);
    let orders = vec![Order { item: "pen".into(), count: 2 }, Order { item: "ink".into(), count: 3 }];
    assert_eq!(fixture.get(total(orders.clone(), None)).await.expect("it counts"), 5);
    assert_eq!(fixture.get(total(orders, 10)).await.expect("it counts"), 15);
    assert_eq!(add::run(2, 3).await, 5);
    assert_eq!(add::NAME, "engine.add");
    let summary = fixture.stop().await;
    assert_eq!((summary.succeeded, summary.failed), (3, 0));
}

#[tokio::test]
async fn many_at_once_are_reported_one_by_one() {
    let fixture = Fixture::start().await;
    let mut calls: Vec<_> = (0..2000).map(|n| add(n, 1)).collect();
    calls.insert(7, add(0, 0).countdown("soonish"));
    let report = fixture.client.send_all(calls).await;
    assert_eq!((report.sent.len(), report.failed.len()), (2000, 1));
    assert_eq!(report.failed[0].0, 7);
    assert!(report.failed[0].1.to_string().contains("\"soonish\" is not a length of time"), "{}", report.failed[0].1);
    let sums = join_all(report.sent.iter().map(|(_, handle)| handle.get_timeout(PATIENCE))).await;
    for (n, sum) in sums.into_iter().enumerate() {
        assert_eq!(sum.expect("each adds"), n as i64 + 1);
    }
    fixture.stop().await;
}

#[task(retries = 5, backoff = "1ms..2ms")]
async fn third_time(ctx: &Context) -> Result<u32, String> {
    if ctx.retries() < 2 { Err(format!("attempt {} fails", ctx.retries())) } else { Ok(ctx.retries_left()) }
}

#[task(retries = 2, backoff = "1ms..2ms")]
async fn never(counter: String) -> Result<(), String> {
    let _ = counter;
    Err("it never works".to_owned())
}

#[tokio::test]
async fn errors_are_retried_and_then_final() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.get(third_time()).await.expect("the third attempt works"), 3);

    let handle = fixture.send(never("x")).await;
    let Err(Error::Failed { failure, .. }) = handle.get_timeout(PATIENCE).await else { panic!("it fails for good") };
    assert_eq!(failure.message(), "it never works");
    assert_eq!(handle.status().await.expect("there is a record").attempt, 2);
    let entry = fixture.dead(handle.id()).await;
    assert_eq!((entry.letter.reason.as_str(), entry.letter.attempts), ("failed", 3));
    assert_eq!(entry.letter.error, "it never works");
    let summary = fixture.stop().await;
    assert_eq!((summary.succeeded, summary.failed, summary.retried), (1, 1, 4));
}

#[task]
async fn directed(what: String) -> Result<(), TaskError> {
    Err(match what.as_str() {
        "permanent" => TaskError::permanent("no use"),
        "cancel" => TaskError::cancel("not wanted any more"),
        _ => TaskError::retry_in(Duration::from_millis(1), "again"),
    })
}

#[tokio::test]
async fn a_task_can_say_what_its_error_means() {
    let fixture = Fixture::start().await;
    let permanent = fixture.send(directed("permanent")).await;
    assert!(matches!(permanent.get_timeout(PATIENCE).await, Err(Error::Failed { .. })));
    assert_eq!(permanent.status().await.expect("recorded").attempt, 0, "no retry");

    let cancelled = fixture.send(directed("cancel")).await;
    let Err(Error::Revoked { failure, .. }) = cancelled.get_timeout(PATIENCE).await else { panic!("it is revoked") };
    assert_eq!(failure.message(), "not wanted any more");

    let again = fixture.send(directed("again")).await;
    assert!(matches!(again.get_timeout(PATIENCE).await, Err(Error::Failed { .. })));
    assert_eq!(again.status().await.expect("recorded").attempt, 3, "three retries by default");
    fixture.stop().await;
}

#[task]
async fn patient(ctx: Context) -> Result<u32, TaskError> {
    let rounds = ctx.state::<AtomicU32>().fetch_add(1, Ordering::SeqCst);
    if rounds < 3 { Err(TaskError::snooze(Duration::from_millis(5))) } else { Ok(ctx.retries()) }
}

#[tokio::test]
async fn a_snooze_costs_no_attempt() {
    let fixture = Fixture::with(|worker| worker.state(AtomicU32::new(0))).await;
    assert_eq!(fixture.get(patient()).await.expect("the fourth run answers"), 0);
    fixture.stop().await;
}

#[task(retries = 1, backoff = "1ms..1ms")]
async fn panics(ctx: &Context) -> u32 {
    assert!(ctx.retries() > 0, "the first attempt panics");
    ctx.retries()
}

#[task(retries = 0)]
fn panics_blocking() -> u32 {
    panic!("with {}", "a message")
}

#[task]
async fn wants_a_database(ctx: &Context) -> String {
    ctx.state::<String>().to_string()
}

#[tokio::test]
async fn a_panic_is_a_failure_with_message_and_place() {
    let fixture = Fixture::with(|worker| worker.concurrency(1)).await;
    assert_eq!(fixture.get(panics()).await.expect("the second attempt works"), 1);
    let Err(Error::Failed { failure, .. }) = fixture.get(panics_blocking()).await else { panic!("it fails") };
    assert_eq!(failure.exc_type, "Panic");
    assert!(failure.message().contains("with a message") && failure.message().contains("engine.rs:"), "{failure}");
    // Fifty panics in a row leave the one slot as it was.
    for _ in 0..50 {
        assert!(fixture.get(panics_blocking()).await.is_err());
    }
    assert_eq!(fixture.get(add(1, 1)).await.expect("the worker goes on"), 2);
    fixture.stop().await;
}

#[tokio::test]
async fn state_is_found_by_type_and_its_absence_is_named() {
    let with = Fixture::with(|worker| worker.state("postgres".to_owned())).await;
    assert_eq!(with.get(wants_a_database()).await.expect("it is there"), "postgres");
    with.stop().await;
}

#[task(time_limit = "200ms", retries = 3)]
async fn endless() {
    std::future::pending::<()>().await;
}

#[task(soft_time_limit = "150ms", retries = 0)]
async fn stops_when_told(ctx: &Context) -> Result<(), String> {
    ctx.cancelled().await;
    Err("half done".to_owned())
}

#[tokio::test]
async fn limits_are_kept() {
    let fixture = Fixture::start().await;
    let Err(Error::Failed { failure, .. }) = fixture.get(endless()).await else { panic!("it is stopped") };
    assert_eq!(failure.to_string(), "TimeLimitExceeded: 0.2");
    let Err(Error::Failed { failure, .. }) = fixture.get(stops_when_told()).await else { panic!("it stops") };
    assert_eq!(failure.to_string(), "SoftTimeLimitExceeded: half done");
    let overridden = fixture.get(endless().time_limit("100ms")).await;
    assert!(matches!(overridden, Err(Error::Failed { failure, .. }) if failure.message() == "0.1"));
    fixture.stop().await;
}

#[task]
async fn climbs(ctx: &Context, steps: u64) {
    for step in 1..=steps {
        ctx.progress(step, steps, format!("step {step}"));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn progress_is_pushed_and_the_last_word_arrives() {
    let fixture = Fixture::start().await;
    let handle = fixture.send(climbs(20)).await;
    let mut updates = handle.watch().await.expect("there is a backend");
    let mut seen = Vec::new();
    let mut last = None;
    while let Some(status) = tokio::time::timeout(PATIENCE, updates.next()).await.expect("updates keep coming") {
        let status = status.expect("our own records can be read");
        seen.extend(status.progress.map(|progress| progress.current));
        last = Some(status.state);
    }
    assert_eq!(last, Some(TaskState::Success));
    assert!(seen.is_sorted() && seen.len() >= 2, "{seen:?}");
    assert_eq!(seen.last(), Some(&20), "{seen:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn a_long_task_is_seen_as_started() {
    let fixture = Fixture::start().await;
    let handle = fixture.send(climbs(0)).await;
    handle.get_timeout(PATIENCE).await.expect("it has no steps");
    let long = fixture.send(stops_when_told().soft_time_limit("2s")).await;
    let status = until("the task is noted as started", || async {
        Some(long.status().await.expect("there is a backend")).filter(|status| status.state == TaskState::Started)
    })
    .await;
    assert!(status.worker.is_some_and(|worker| worker.starts_with("taskq@")));
    assert!(status.started_at.is_some());
    fixture.stop().await;
}

#[tokio::test]
async fn a_countdown_is_not_early_and_expired_tasks_do_not_run() {
    let fixture = Fixture::start().await;
    let sent = fixture.client.clock().now();
    let handle = fixture.send(add(1, 1).countdown("300ms")).await;
    handle.get_timeout(PATIENCE).await.expect("it runs in the end");
    let finished = handle.status().await.expect("recorded").finished_at.expect("it has ended");
    assert!((finished - sent).num_milliseconds() >= 300);

    let late = fixture.send(add(1, 1).countdown("300ms").expires("100ms")).await;
    let Err(Error::Revoked { failure, .. }) = late.get_timeout(PATIENCE).await else { panic!("it is expired") };
    assert_eq!(failure.message(), "expired");
    fixture.stop().await;
}

#[tokio::test]
async fn queues_of_taskqs_own_are_refused_wherever_one_is_named() {
    let fixture = Fixture::start().await;
    let client = &fixture.client;
    for queue in [DEAD_QUEUE, "taskq.delay.3", "taskq.renew.here.mail"] {
        let refused = add(1, 2).queue(queue).send(client).await.expect_err("nobody may send there");
        assert!(refused.to_string().contains("names that begin with `taskq.` belong to taskq"), "{refused}");
        let report = client.send_all([add(1, 2).queue(queue)]).await;
        assert_eq!((report.sent.len(), report.failed.len()), (0, 1));
        let refused = Worker::builder(client.clone()).queues(["default", queue]).build().await;
        let refused = refused.err().expect("nobody may take from there").to_string();
        assert!(refused.contains("choose another name"), "{refused}");
    }
    assert_eq!(client.broker().stats(DEAD_QUEUE).await.expect("it is there").ready, 0);
    // A header of a stranger leads there no more than a name does.
    let message = WireMessage {
        properties: Properties::default().with(|properties| properties.content_type = Some("application/json".into())),
        headers: Headers::from_iter([
            ("task", never::NAME),
            ("id", "led-astray"),
            ("taskq-origin-queue", "taskq.delay.3"),
        ]),
        body: "[[\"astray\"], {}, {}]".into(),
    };
    let queue = client.declare("default").await.expect("it can be declared");
    client.publish(Publication::new(queue, message)).await.expect("the broker takes anything");
    let entry = fixture.dead(&TaskId::parse("led-astray").expect("it is an id")).await;
    assert_eq!((entry.letter.queue.as_str(), entry.letter.attempts), ("default", 3));
    fixture.stop().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_dead_with_a_reason_and_the_worker_goes_on() {
    let fixture = Fixture::start().await;
    let queue = fixture.client.declare("default").await.expect("it can be declared");
    let send = |id: &str, task: &str, body: &str| {
        let message = WireMessage {
            properties: Properties::default().with(|properties| {
                properties.content_type = Some("application/json".into());
                properties.content_encoding = Some("utf-8".into());
            }),
            headers: Headers::from_iter([("task", task.to_owned()), ("id", id.to_owned())]),
            body: body.to_owned().into(),
        };
        fixture.client.publish(Publication::new(Arc::clone(&queue), message))
    };
    let cases = [
        ("too-many", add::NAME, "[[1, 2, 3], {}, {}]", "arguments", "takes 2 arguments but 3 were given"),
        ("missing", add::NAME, "[[1], {}, {}]", "arguments", "missing the argument `y: i64`"),
        ("unknown-name", add::NAME, "[[1], {\"z\": 1}, {}]", "arguments", "no parameter `z`"),
        ("twice", add::NAME, "[[1, 2], {\"y\": 1}, {}]", "arguments", "two values for `y`"),
        (
            "type",
            add::NAME,
            "[[1, \"two\"], {}, {}]",
            "arguments",
            "takes `y: i64`, and got a text of 3 characters: expected i64",
        ),
        ("truncated", add::NAME, "[[1, 2], {}", "decode", "not a list of arguments"),
        ("unknown", "nobody.knows", "[[], {}, {}]", "unknown-task", "nobody.knows"),
    ];
    for (id, task, body, ..) in cases {
        send(id, task, body).await.expect("the broker takes anything");
    }
    for (id, _, _, reason, text) in cases {
        let id = TaskId::parse(id).expect("a good id");
        let entry = fixture.dead(&id).await;
        assert_eq!(entry.letter.reason, reason, "{id}");
        assert!(entry.letter.error.contains(text), "{id}: {}", entry.letter.error);
        let outcome = fixture.client.handle::<i64>(id.clone()).get_timeout(PATIENCE).await;
        let Err(Error::Failed { failure, .. }) = outcome else { panic!("{id} ends in FAILURE, not {outcome:?}") };
        assert!(failure.message().contains(text), "{id}: {failure}");
    }
    assert_eq!(fixture.get(add(2, 2)).await.expect("the worker goes on"), 4);
    fixture.stop().await;
}

#[task(retries = 0)]
async fn works_the_second_time(ctx: &Context) -> Result<String, String> {
    match ctx.state::<AtomicU32>().fetch_add(1, Ordering::SeqCst) {
        0 => Err("not yet".to_owned()),
        _ => Ok("now".to_owned()),
    }
}

#[tokio::test]
async fn dead_tasks_can_be_put_back() {
    let fixture = Fixture::with(|worker| worker.state(AtomicU32::new(0))).await;
    let handle = fixture.send(works_the_second_time()).await;
    assert!(handle.get_timeout(PATIENCE).await.is_err());
    fixture.dead(handle.id()).await;
    let ids = [handle.id().clone()];
    assert_eq!(fixture.client.dead().retry(&DeadFilter::Ids(&ids)).await.expect("it is there"), 1);
    let again =
        until("the second generation has succeeded", || async { handle.get_timeout(PATIENCE).await.ok() }).await;
    assert_eq!(again, "now");
    assert_eq!(fixture.client.broker().stats(DEAD_QUEUE).await.expect("it exists").ready, 0);
    fixture.stop().await;
}

#[tokio::test]
async fn a_unique_call_is_sent_once_however_many_race() {
    let fixture = Fixture::start().await;
    let racing = (0..50).map(|n| add(n, 0).unique("nightly", "1h").send(&fixture.client));
    let handles: Vec<_> = join_all(racing).await.into_iter().map(|sent| sent.expect("each has a handle")).collect();
    let first = handles[0].id();
    assert!(handles.iter().all(|handle| handle.id() == first));
    let sum = handles[0].get_timeout(PATIENCE).await.expect("one of them ran");
    let later = fixture.send(add(99, 99).unique("nightly", "1h")).await;
    assert_eq!(later.id(), first, "finished, and still the same");
    assert_eq!(later.get_timeout(PATIENCE).await.expect("the result is there"), sum);
    let other = fixture.send(add(99, 99).unique("weekly", "1h")).await;
    assert_ne!(other.id(), first);
    other.get_timeout(PATIENCE).await.expect("it runs");
    assert_eq!(fixture.stop().await.succeeded, 2);
}

#[task]
async fn parent(ctx: &Context) -> Result<(String, String), TaskError> {
    let client = ctx.client().ok_or_else(|| TaskError::permanent("a worker has a client"))?;
    let child = whose().send(&client).await.map_err(TaskError::permanent)?;
    let (its_parent, root) = child.get().await.map_err(TaskError::permanent)?;
    assert_eq!(its_parent.as_deref(), Some(ctx.id().as_str()));
    // Without naming a client: the worker's own.
    let sum = add(1, 1).get().await.map_err(TaskError::permanent)?;
    Ok((root, sum.to_string()))
}

#[task]
async fn whose(ctx: &Context) -> (Option<String>, String) {
    (ctx.parent_id().map(ToString::to_string), ctx.root_id().to_string())
}

#[tokio::test]
async fn tasks_call_tasks() {
    let fixture = Fixture::start().await;
    let handle = fixture.send(parent()).await;
    let (root, sum) = handle.get_timeout(PATIENCE).await.expect("both children answer");
    assert_eq!((root.as_str(), sum.as_str()), (handle.id().as_str(), "2"));
    fixture.stop().await;
}

#[task]
async fn naps(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_gives_the_rest_back() {
    let fixture = Fixture::with(|worker| worker.concurrency(2)).await;
    let calls = (0..10).map(|_| naps(300));
    let handles = fixture.client.send_all(calls).await.all().expect("all are taken");
    until("two of them run", || async {
        let mut started = 0;
        for handle in &handles {
            started += usize::from(handle.status().await.expect("there is a backend").state == TaskState::Started);
        }
        (started == 2).then_some(())
    })
    .await;
    let client = fixture.client.clone();
    let summary = fixture.stop().await;
    assert_eq!((summary.interrupted, summary.succeeded), (0, 2));
    let left = until("what was not begun is back in the queue", || async {
        let stats = client.broker().stats("default").await.expect("it exists");
        (stats.ready == 10 - summary.succeeded).then_some(stats)
    })
    .await;
    assert_eq!(left.consumers, 0);
}

#[tokio::test]
async fn what_outlives_the_grace_is_given_back_with_its_attempt_unspent() {
    let fixture = Fixture::with(|worker| worker.grace(Duration::from_millis(100))).await;
    let client = fixture.client.clone();
    let handle = fixture.send(naps(60_000)).await;
    until("it runs", || async {
        (handle.status().await.expect("there is a backend").state == TaskState::Started).then_some(())
    })
    .await;
    assert_eq!(fixture.stop().await.interrupted, 1);
    let stats = client.broker().stats("default").await.expect("it exists");
    assert_eq!(stats.ready, 1);
    let browse = client.broker().browse("default", 1).await.expect("it exists");
    assert!(browse.deliveries[0].message.headers.get("retries").is_none(), "still the first attempt");
    browse.finish().await;
}

#[tokio::test]
async fn waiting_for_what_never_comes_ends() {
    let client = client().await;
    let nobody = client.handle::<i64>(TaskId::new());
    let outcome = nobody.get_timeout(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(Error::NoResultYet { .. })), "{outcome:?}");
    assert_eq!(nobody.status().await.expect("there is a backend").state, TaskState::Pending);
}

#[tokio::test]
async fn several_clients_live_side_by_side() {
    let (one, two) = (Fixture::start().await, Fixture::start().await);
    let handle = one.send(add(1, 2)).await;
    assert_eq!(handle.get_timeout(PATIENCE).await.expect("its own worker ran it"), 3);
    let elsewhere = two.client.handle::<i64>(handle.id().clone());
    assert_eq!(elsewhere.status().await.expect("there is a backend").state, TaskState::Pending);
    handle.clone().forget().await.expect("there is a backend");
    assert_eq!(handle.status().await.expect("there is a backend").state, TaskState::Pending);
    assert_eq!(one.stop().await.succeeded, 1);
    assert_eq!(two.stop().await.succeeded, 0);
}

#[tokio::test]
async fn results_that_nobody_wants_are_not_stored() {
    let fixture = Fixture::start().await;
    let handle = fixture.send(add(1, 1).ignore_result(true)).await;
    let marker = fixture.send(add(1, 1)).await;
    marker.get_timeout(PATIENCE).await.expect("it runs");
    let client = fixture.client.clone();
    assert_eq!(fixture.stop().await.succeeded, 2);
    assert_eq!(
        client.handle::<i64>(handle.id().clone()).status().await.expect("there is a backend").state,
        TaskState::Pending
    );
}
