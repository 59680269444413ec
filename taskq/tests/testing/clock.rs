//! `taskq::testing`: the clock that tests move.

use std::time::Duration;

use taskq::internal::clock::Clock;
use taskq::testing::{self, End};
use taskq::{Client, Context, Error, TaskState, task};

const MINUTE: Duration = Duration::from_secs(60);

#[task(name = "clock.add")]
async fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "clock.third_time", retries = 2, backoff = "8s..1m")]
async fn third_time(ctx: &Context) -> Result<u32, String> {
    if ctx.retries() < 2 { Err(format!("attempt {} fails", ctx.retries())) } else { Ok(ctx.retries()) }
}

#[tokio::test]
async fn retries_come_when_the_clock_says_so() {
    let queue = testing::start();
    let handle = third_time().await.expect("it is taken");
    for attempt in 0..2 {
        let report = queue.drain().await;
        let End::Retried { after, failure } = &report.runs[0].end else { panic!("{report}") };
        assert_eq!((report.runs.len(), report.runs[0].attempt), (1, attempt));
        assert_eq!(failure.message(), format!("attempt {attempt} fails"));
        let status = handle.status().await.expect("memory");
        assert_eq!((status.state, status.retry_at), (TaskState::Retry, Some(queue.now() + *after)));
        let a_millisecond = Duration::from_millis(1);
        queue.advance(after.saturating_sub(a_millisecond));
        assert!(queue.drain().await.runs.is_empty(), "a millisecond early is early");
        assert_eq!(queue.enqueued()[0].attempt, attempt + 1);
        queue.advance(a_millisecond);
    }
    assert_eq!(queue.drain().await.assert_ok().runs[0].value(), Some(&2.into()));
    assert_eq!(handle.get().await.expect("the third attempt"), 2);
}

#[tokio::test]
async fn it_can_be_run_to_its_end_however_long_that_takes() {
    let queue = testing::start();
    let began = queue.now();
    let retried = third_time().await.expect("it is taken");
    let late = add(1, 1).countdown("3h").await.expect("it is taken");
    let report = queue.drain_all().await;
    assert_eq!((report.of(third_time::NAME).count(), report.of(add::NAME).count()), (3, 1));
    assert_eq!((retried.get().await.expect("run"), late.get().await.expect("run")), (2, 2));
    assert_eq!(queue.now() - began, chrono::TimeDelta::hours(3));
    assert_eq!(queue.advance_to_next(), None);
}

#[tokio::test]
async fn countdowns_and_etas_wait() {
    let queue = testing::start();
    add(1, 1).countdown("10s").await.expect("it is taken");
    add(2, 2).eta(queue.now() + MINUTE).await.expect("it is taken");
    add(3, 3).eta(queue.now() - MINUTE).await.expect("it is taken");
    assert_eq!(queue.drain().await.runs[0].value(), Some(&6.into()), "what should have been is due");
    assert_eq!(queue.advance_to_next(), Some(Duration::from_secs(10)));
    assert_eq!(queue.drain().await.runs[0].value(), Some(&2.into()));
    queue.advance(Duration::from_secs(49));
    assert!(queue.drain().await.runs.is_empty());
    queue.advance("1s");
    assert_eq!(queue.drain().await.runs[0].value(), Some(&4.into()));
}

#[tokio::test]
async fn what_has_expired_is_not_run() {
    let queue = testing::start();
    let late = add(1, 1).expires("1m").await.expect("it is taken");
    let in_time = add(1, 1).expires("61s").await.expect("it is taken");
    queue.advance(MINUTE);
    let report = queue.drain().await;
    assert_eq!((&report.runs[0].end, &report.runs[1].end), (&End::Expired, &End::Succeeded(2.into())));
    assert!(matches!(late.get().await, Err(Error::Revoked { .. })));
    assert_eq!(in_time.get().await.expect("a second was left"), 2);
}

#[tokio::test]
async fn unique_keys_last_as_long_as_the_clock_says() {
    let queue = testing::start();
    let first = add(1, 1).unique("only one", "1h").await.expect("it is taken");
    let second = add(1, 1).unique("only one", "1h").await.expect("it is found");
    assert_eq!((first.id(), queue.enqueued().len()), (second.id(), 1));
    queue.drain().await.assert_ok();
    queue.advance("59m");
    assert_eq!(add(1, 1).unique("only one", "1h").await.expect("it is found").id(), first.id());
    queue.advance("1m");
    assert_ne!(add(1, 1).unique("only one", "1h").await.expect("it is taken").id(), first.id());
    assert_eq!(queue.drain().await.runs.len(), 1);
}

#[tokio::test]
async fn results_last_as_long_as_the_clock_says() {
    let queue = testing::builder().result_ttl("1h").start();
    let handle = add(1, 1).await.expect("it is taken");
    queue.drain().await.assert_ok();
    queue.advance("59m 59s");
    assert_eq!(handle.status().await.expect("memory").state, TaskState::Success);
    queue.advance("1s");
    assert_eq!(handle.status().await.expect("memory").state, TaskState::Pending);
}

#[task(soft_time_limit = "5s", time_limit = "10s")]
async fn waits(ctx: &Context, heeds: bool) -> Result<(), String> {
    ctx.cancelled().await;
    if heeds {
        return Err("told to stop".to_owned());
    }
    std::future::pending().await
}

/// Paused, so that the limits are over as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn limits_are_kept() {
    let queue = testing::start();
    waits(true).await.expect("it is taken");
    waits(false).await.expect("it is taken");
    let report = queue.drain().await;
    let failures: Vec<&str> = report.runs.iter().map(|run| run.failure().expect("both").exc_type.as_str()).collect();
    assert_eq!(failures, ["SoftTimeLimitExceeded", "TimeLimitExceeded"]);
    assert!(matches!(report.runs[1].end, End::Failed(_)), "a hard limit is final");
}

/// A client with a clock of its own uses it, also without a testing queue.
#[tokio::test]
async fn delays_in_memory_go_by_the_clients_clock() {
    let clock = Clock::manual(chrono::DateTime::UNIX_EPOCH);
    let url = "memory:delays_in_memory_go_by_the_clients_clock";
    let client = Client::builder().broker(url).results(url).clock(clock.clone()).build().await.expect("memory");
    add(1, 1).countdown("1h").send(&client).await.expect("it is taken");
    let ready = async || client.broker().stats("default").await.expect("it is declared").ready;
    clock.advance(chrono::TimeDelta::minutes(59));
    assert_eq!(ready().await, 0);
    clock.advance(chrono::TimeDelta::minutes(1));
    assert_eq!(ready().await, 1, "it is there as soon as the clock has moved");
}
