//! `taskq::testing`: the drain of each kind of task.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use taskq::broker::{DEAD_QUEUE, Publication};
use taskq::canvas::ArgumentList;
use taskq::message::{Headers, Properties, WireMessage};
use taskq::testing::{self, End};
use taskq::{Call, Client, Context, Error, Handle, TaskError, TaskState, task};

const MINUTE: Duration = Duration::from_secs(60);

#[task]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(retries = 2, backoff = "8s..1m")]
async fn third_time(ctx: &Context) -> Result<u32, String> {
    if ctx.retries() < 2 { Err(format!("attempt {} fails", ctx.retries())) } else { Ok(ctx.retries()) }
}

#[tokio::test]
async fn a_call_runs_when_it_is_drained_and_its_handle_knows() {
    let queue = testing::start();
    let handle = add(2, 3).await.expect("it is taken");
    assert_eq!(handle.status().await.expect("memory").state, TaskState::Pending);
    let report = queue.drain().await;
    let [run] = &report.runs[..] else { panic!("one call, one run: {report}") };
    assert_eq!((&run.id, run.task.as_str(), run.attempt), (handle.id(), add::NAME, 0));
    assert_eq!((run.queue.as_str(), &run.args[..]), ("default", &[2.into(), 3.into()][..]));
    assert_eq!((&run.end, run.value()), (&End::Succeeded(5.into()), Some(&5.into())));
    assert_eq!(handle.get().await.expect("it has run"), 5);
    let status = handle.status().await.expect("memory");
    assert_eq!(
        (status.state, status.finished_at, status.started_at),
        (TaskState::Success, Some(queue.now()), Some(queue.now()))
    );
    assert!(queue.drain().await.runs.is_empty(), "a call runs once");
}

#[derive(Debug, thiserror::Error)]
#[error("no such address")]
struct NoAddress;

#[task(retries = 1)]
async fn answers(how: String) -> Result<(), TaskError> {
    Err(match how.as_str() {
        "permanent" => TaskError::permanent(NoAddress),
        "snooze" => TaskError::snooze(MINUTE),
        "cancel" => TaskError::cancel("sold out"),
        "retry_in" => TaskError::retry_in(MINUTE, NoAddress),
        _ => panic!("lost {how}"),
    })
}

#[tokio::test]
async fn a_task_can_say_what_its_error_means() {
    let queue = testing::start();
    let permanent = answers("permanent").await.expect("it is taken");
    let snoozed = answers("snooze").await.expect("it is taken");
    let cancelled = answers("cancel").await.expect("it is taken");
    answers("retry_in").await.expect("it is taken");
    let report = queue.drain().await;
    assert_eq!(report.runs[0].failure().expect("it failed").to_string(), "TaskError: no such address");
    assert!(matches!(report.runs[0].end, End::Failed(_)), "{report}");
    assert_eq!(report.runs[1].end, End::Snoozed { after: MINUTE });
    assert!(matches!(&report.runs[2].end, End::Revoked(why) if why.message() == "sold out"), "{report}");
    assert!(matches!(report.runs[3].end, End::Retried { after: MINUTE, .. }), "{report}");
    assert!(matches!(permanent.get().await, Err(Error::Failed { .. })));
    assert!(matches!(cancelled.get().await, Err(Error::Revoked { .. })));
    let dead = queue.client().dead().get(permanent.id()).await.expect("it is dead");
    assert_eq!(
        (dead.letter.reason.as_str(), dead.letter.queue.as_str(), dead.letter.attempts),
        ("failed", "default", 1)
    );
    assert_eq!(dead.letter.at, Some(queue.now()));
    // A snooze costs no attempt, so a task may snooze without limit.
    for _ in 0..3 {
        queue.advance(MINUTE);
        let report = queue.drain().await;
        let snooze = report.runs.iter().find(|run| run.id == *snoozed.id()).expect("it comes again");
        assert_eq!(snooze.attempt, 0);
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_with_its_place() {
    let queue = testing::start();
    let handle = answers("luggage").await.expect("it is taken");
    let report = queue.drain_all().await;
    assert_eq!(report.runs.len(), 2, "one retry: {report}");
    let Error::Failed { failure, .. } = handle.get().await.expect_err("it panics") else { panic!("it failed") };
    assert_eq!(failure.exc_type, "Panic");
    let text = failure.message();
    assert!(text.starts_with("panicked at ") && text.contains("drain.rs") && text.ends_with("lost luggage"), "{text}");
}

#[task]
fn slow_sum(ctx: &Context, numbers: Vec<i64>) -> i64 {
    for (at, _) in numbers.iter().enumerate() {
        ctx.progress(at as u64 + 1, numbers.len() as u64, "adding");
    }
    // A synchronous task may block on futures: it runs on a thread of the blocking pool.
    tokio::runtime::Handle::current().block_on(async { add(1, 1).await }).expect("its worker's client takes it");
    numbers.iter().sum()
}

#[tokio::test]
async fn plain_functions_run_on_the_blocking_pool_and_progress_is_seen() {
    let queue = testing::start();
    let handle = slow_sum(vec![1, 2, 3]).await.expect("it is taken");
    let mut updates = handle.watch().await.expect("memory");
    queue.drain().await.assert_ok();
    let progress = updates.next().await.expect("it reported").expect("memory").progress.expect("progress");
    assert_eq!((progress.current, progress.total, progress.note.as_str()), (3, 3, "adding"));
    assert_eq!(updates.next().await.expect("it ended").expect("memory").state, TaskState::Success);
    assert_eq!(handle.get().await.expect("it adds"), 6);
}

#[task]
async fn parent(ctx: &Context, children: i64) -> Result<(), Error> {
    for n in 0..children {
        add(n, n).await?;
    }
    let client = ctx.client().expect("a task has its worker's client");
    add(0, 0).countdown("1h").header("from", ctx.id().as_str()).send(&client).await?;
    Ok(())
}

#[tokio::test]
async fn what_tasks_enqueue_runs_too() {
    let queue = testing::start();
    let handle = parent(3).await.expect("it is taken");
    let report = queue.drain().await;
    report.assert_ok();
    let tasks: Vec<&str> = report.runs.iter().map(|run| run.task.as_str()).collect();
    assert_eq!(tasks, [parent::NAME, add::NAME, add::NAME, add::NAME]);
    let [later] = &queue.enqueued()[..] else { panic!("one is not due") };
    assert_eq!((later.parent_id.as_ref(), later.due), (Some(handle.id()), Some(queue.now() + 60 * MINUTE)));
    assert_eq!(later.headers.text("from"), Some(handle.id().as_str()));
}

struct Outbox(AtomicU32);

#[task]
async fn send_mail(ctx: &Context) {
    ctx.state::<Outbox>().0.fetch_add(1, Ordering::SeqCst);
}

#[tokio::test]
async fn tasks_find_their_state() {
    let queue = testing::builder().state(Outbox(AtomicU32::new(7))).start();
    send_mail().await.expect("it is taken");
    queue.drain().await.assert_ok();
    drop(queue);
    let without = testing::start();
    send_mail().await.expect("it is taken");
    let report = without.drain().await;
    let failure = report.runs[0].failure().expect("it has no state").message();
    assert!(failure.contains("no state of type") && failure.contains("Outbox"), "{failure}");
}

#[tokio::test]
async fn a_body_can_be_called_itself() {
    let queue = testing::builder().state(Outbox(AtomicU32::new(7))).start();
    let context = queue.context(third_time::NAME);
    assert_eq!((context.retries(), context.retries_left(), context.is_cancelled()), (0, 2, false));
    third_time::run(&context).await.expect_err("the first attempt fails");
    send_mail::run(&context).await;
    assert_eq!(context.state::<Outbox>().0.load(Ordering::SeqCst), 8);
    parent::run(&context, 1).await.expect("its calls are taken");
    assert_eq!(queue.enqueued().len(), 2);
}

#[tokio::test]
async fn what_nobody_here_knows_is_put_back_and_then_dead() {
    let queue = testing::builder().unknown_task_grace("1m").start();
    let handle: Handle<()> = Call::named("python.add", ArgumentList::new()).await.expect("it is taken");
    let report = queue.drain().await;
    assert_eq!(report.runs[0].end, End::PutBack { after: Duration::from_secs(1) });
    assert_eq!(queue.enqueued()[0].task, "python.add", "it is still there");
    let report = queue.drain_all().await;
    assert_eq!(report.runs.last().expect("it ended").failure().expect("badly").exc_type, "NotRegistered");
    assert_eq!(queue.client().dead().get(handle.id()).await.expect("dead").letter.reason, "unknown-task");
}

#[tokio::test]
async fn what_cannot_be_read_is_dead() {
    let queue = testing::start();
    let name = queue.client().declare("default").await.expect("memory");
    let headers = Headers::from_iter([("id", "half-a-message")]);
    let message = WireMessage { headers, body: "{".into(), properties: Properties::default() };
    queue.client().publish(Publication::new(name, message)).await.expect("memory");
    assert!(queue.enqueued().is_empty(), "it is no call");
    let report = queue.drain().await;
    assert_eq!(report.runs[0].failure().expect("it is no message").exc_type, "DecodeError", "{report}");
    let stats = queue.client().broker().stats(DEAD_QUEUE).await.expect("it is declared");
    assert_eq!(stats.ready, 1);
    let status = queue.client().handle::<()>("half-a-message".parse().expect("an id")).status().await.expect("memory");
    assert_eq!(status.state, TaskState::Failure);
}

#[tokio::test]
async fn wrong_arguments_are_dead() {
    let queue = testing::start();
    let arguments = ArgumentList::from_json(&["two".into(), 3.into()], &serde_json::Map::new()).expect("JSON");
    let handle = Call::<i64>::named(add::NAME, arguments).await.expect("it is taken");
    let report = queue.drain().await;
    let text = report.runs[0].to_string();
    assert!(text.contains("add(\"two\", 3), attempt 0: failed for good: TypeError"), "{text}");
    assert_eq!(queue.client().dead().get(handle.id()).await.expect("dead").letter.reason, "arguments");
}

#[task(ack = "early", ignore_result = true)]
async fn at_most_once(client_is_there: bool) {
    assert_eq!(taskq::client::current().await.is_ok(), client_is_there);
}

#[tokio::test]
async fn results_that_nobody_wants_are_not_stored() {
    let queue = testing::start();
    let handle = at_most_once(true).await.expect("it is taken");
    queue.drain().await.assert_ok();
    assert_eq!(handle.status().await.expect("memory").state, TaskState::Pending);
}

#[tokio::test]
async fn dead_tasks_can_be_put_back() {
    let queue = testing::start();
    answers("permanent").await.expect("it is taken");
    queue.drain().await;
    assert_eq!(queue.client().dead().retry(&taskq::client::DeadFilter::All).await.expect("memory"), 1);
    assert_eq!(queue.drain().await.runs.len(), 1);
}

#[task]
async fn doubled(x: i64) -> i64 {
    2 * x
}

#[tokio::test]
async fn code_that_waits_for_results_gets_them() {
    /// Makes a second call with the result of the first, from a spawned task.
    async fn ask() -> Result<i64, Error> {
        let first = add(1, 2).get().await?;
        let second = tokio::spawn(async move { doubled(first).get().await }).await.expect("it does not panic")?;
        let answer = add(second, 1).get().await;
        doubled(0).await?; // for later
        answer
    }
    let queue = testing::start();
    let (answer, report) = queue.drain_until(ask()).await;
    assert_eq!(answer.expect("each step is run"), 7);
    let tasks: Vec<&str> = report.runs.iter().map(|run| run.task.as_str()).collect();
    assert_eq!(tasks, [add::NAME, doubled::NAME, add::NAME, doubled::NAME]);
}

#[task]
async fn asks_itself() -> Result<i64, Error> {
    add(1, 1).get().await
}

/// A drain runs one task after the other, so a task cannot wait for another one. Time is paused, so that the wait is
/// over at once.
#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_another_one_is_told_in_vain() {
    let queue = testing::start();
    asks_itself().await.expect("it is taken");
    let report = queue.drain().await;
    let failure = report.runs[0].failure().expect("nobody runs the other one").message();
    assert!(failure.ends_with("has no result after 5s"), "{failure}");
    assert_eq!(report.runs[1].value(), Some(&2.into()), "that is run next");
}

#[task]
async fn waits_for_ever() {
    std::future::pending::<()>().await;
}

/// A drain that is dropped half-way loses no call.
#[tokio::test]
async fn an_interrupted_drain_gives_back_what_it_had() {
    let queue = testing::start();
    waits_for_ever().await.expect("it is taken");
    {
        let drain = queue.drain();
        tokio::pin!(drain);
        assert!(futures_util::FutureExt::now_or_never(drain.as_mut()).is_none(), "it waits");
        assert!(queue.enqueued().is_empty(), "it is being run");
    }
    assert_eq!(queue.enqueued().len(), 1);
}

#[tokio::test]
async fn a_client_can_be_handed_over() {
    async fn with_client(client: &Client) -> Result<Handle<i64>, Error> {
        add(20, 22).send(client).await
    }
    let queue = testing::start();
    let handle = with_client(queue.client()).await.expect("it is taken");
    queue.drain().await.assert_ok();
    assert_eq!(handle.get().await.expect("it has run"), 42);
}
