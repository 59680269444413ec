//! `taskq::testing`: the search among enqueued calls, and the messages of failing assertions.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use serde_json::json;
use taskq::canvas::ArgumentList;
use taskq::testing::{self, TestQueue};
use taskq::{Call, TaskError, task};

#[task(name = "shop.welcome", queue = "mail")]
async fn welcome(user: u64, note: Option<String>) -> u64 {
    let _ = note;
    user
}

#[task(name = "shop.report")]
async fn report(title: String) -> Result<(), String> {
    Err(format!("no paper for {title}"))
}

#[task(name = "shop.again")]
async fn again() -> Result<(), taskq::Error> {
    again().await?;
    Ok(())
}

#[task(name = "shop.hourly")]
async fn hourly() -> Result<(), taskq::Error> {
    hourly().countdown("1h").await?;
    Ok(())
}

#[task(name = "shop.sleepy")]
async fn sleepy() -> Result<(), TaskError> {
    Err(TaskError::snooze(std::time::Duration::ZERO))
}

/// Returns the text with which `check` panics.
fn failure(check: impl FnOnce()) -> String {
    text(std::panic::catch_unwind(AssertUnwindSafe(check)).expect_err("it fails"))
}

fn text(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&'static str>().expect("panics have texts")).to_owned(),
    }
}

async fn some_calls() -> TestQueue {
    let queue = testing::start();
    welcome(41, None).await.expect("it is taken");
    welcome(42, "hi").countdown("10s").priority(3).expires("1h").header("tenant", "acme").await.expect("it is taken");
    report("sales").queue("paper").await.expect("it is taken");
    queue
}

#[tokio::test]
async fn calls_are_found_by_task_and_arguments() {
    let queue = some_calls().await;
    testing::assert_enqueued!(welcome(41, None));
    testing::assert_enqueued!(welcome(42, "hi"));
    testing::assert_not_enqueued!(welcome(43, "hi"));
    testing::assert_not_enqueued!(welcome(42, None));
    assert_eq!(queue.find(&welcome(41, None)).len(), 1);
    // An argument given by name, by position, or left out: the task sees equal calls.
    let by_name = ArgumentList::from_json(&[], json!({"user": 41}).as_object().expect("a map")).expect("JSON");
    testing::assert_enqueued!(Call::<u64>::named("shop.welcome", by_name));
    welcome(41, None).await.expect("it is taken");
    assert_eq!(queue.find(&welcome(41, None)).len(), 2);
}

#[tokio::test]
async fn options_are_compared_where_they_are_named() {
    let queue = some_calls().await;
    testing::assert_enqueued!(welcome(41, None).queue("mail").countdown("0s"));
    testing::assert_enqueued!(welcome(42, "hi").countdown("10s").priority(3).expires("1h").header("tenant", "acme"));
    testing::assert_enqueued!(welcome(42, "hi").eta(queue.now() + std::time::Duration::from_secs(10)));
    testing::assert_not_enqueued!(welcome(42, "hi").countdown("9s"));
    testing::assert_not_enqueued!(welcome(42, "hi").priority(4));
    testing::assert_not_enqueued!(welcome(42, "hi").expires("2h"));
    testing::assert_not_enqueued!(welcome(42, "hi").header("tenant", "other"));
    testing::assert_not_enqueued!(welcome(41, None).time_limit("1s"));
    testing::assert_not_enqueued!(welcome(41, None).queue("low"));
    testing::assert_not_enqueued!(welcome(41, None).id("another"));
    // Delays are compared by the time that is left.
    queue.advance("3s");
    testing::assert_enqueued!(welcome(42, "hi").countdown("7s").expires("59m 57s"));
    queue.advance("7s");
    testing::assert_enqueued!(welcome(42, "hi").countdown("0s"));
}

#[tokio::test]
async fn a_failure_shows_the_nearest_and_all_others() {
    let _queue = some_calls().await;
    let text = failure(|| testing::assert_enqueued!(welcome(42, "ho").queue("low").countdown("20s").priority(3)));
    assert_eq!(
        text,
        "not enqueued: welcome(42, \"ho\").queue(\"low\").countdown(\"20s\").priority(3)\n\
         nearest: shop.welcome(42, \"hi\") in \"mail\", due in 10s, priority 3, expires in 1h\n    \
             `note` is \"hi\", not \"ho\"\n    \
             the queue is \"mail\", not \"low\"\n    \
             the time when it is due is in 10s, not in 20s\n\
         3 calls are enqueued:\n    \
             shop.welcome(41, null) in \"mail\", due now\n    \
             shop.report(\"sales\") in \"paper\", due now\n    \
             shop.welcome(42, \"hi\") in \"mail\", due in 10s, priority 3, expires in 1h"
    );
    let text = failure(|| testing::assert_enqueued!(again()));
    assert!(text.starts_with("not enqueued: again()\n3 calls are enqueued:"), "{text}");
    let text = failure(|| testing::assert_not_enqueued!(welcome(41, None)));
    assert!(
        text.starts_with("enqueued, and should not be: welcome(41, None)\nfound: shop.welcome(41, null) in"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failure_says_so_if_there_is_nothing_at_all() {
    let _queue = testing::start();
    assert_eq!(failure(|| testing::assert_enqueued!(again())), "not enqueued: again()\nnothing is enqueued");
}

#[tokio::test]
async fn a_call_that_could_not_be_sent_is_no_expectation() {
    let queue = testing::start();
    let text = failure(|| testing::assert_not_enqueued!(again().countdown("soon")));
    assert!(text.starts_with("the call of shop.again cannot be sent: \"soon\" is not a length of time"), "{text}");
    assert!(failure(|| queue.advance("soon")).starts_with("\"soon\" is not a length of time"));
    let text = failure(|| drop(testing::builder().set("default_que", "x")));
    assert!(text.contains("did you mean `default_queue`?"), "{text}");
}

#[tokio::test]
async fn an_assertion_without_a_queue_says_how_to_begin() {
    let text = failure(|| testing::assert_enqueued!(again()));
    assert!(text.contains("let queue = taskq::testing::start();"), "{text}");
}

#[tokio::test]
async fn runs_that_did_not_succeed_are_listed() {
    let queue = testing::start();
    welcome(7, None).await.expect("it is taken");
    report("sales").id("r-1").await.expect("it is taken");
    let drained = queue.drain().await;
    let text = failure(|| _ = drained.assert_ok());
    let retry = drained.runs[1].to_string();
    assert_eq!(text, format!("1 of 2 runs did not succeed:\n    {retry}"));
    assert!(retry.starts_with("shop.report(\"sales\"), attempt 0: failed, retried in "), "{retry}");
    assert!(retry.ends_with(": TaskError: no paper for sales"), "{retry}");
    assert_eq!(
        drained.to_string(),
        format!("2 runs:\n    shop.welcome(7, null), attempt 0: succeeded with 7\n    {retry}")
    );
}

/// Returns the text with which a drain panics.
async fn panic_of(drain: impl Future<Output = testing::Report>) -> String {
    text(AssertUnwindSafe(drain).catch_unwind().await.expect_err("it does not end"))
}

#[tokio::test]
async fn tasks_that_never_end_are_named() {
    let queue = testing::start();
    welcome(7, None).await.expect("it is taken");
    again().await.expect("it is taken");
    let text = panic_of(queue.drain()).await;
    assert!(text.starts_with("not drained after 10000 runs; 9999 of them were of shop.again: "), "{text}");
    // The run that panicked left no trace: the call is still enqueued.
    testing::assert_enqueued!(again());
    drop(queue);

    for (queue, hours) in [(testing::builder().runs_max(5), false), (testing::builder().runs_max(24), true)] {
        let queue = queue.start();
        sleepy().await.expect("it is taken");
        hourly().await.expect("it is taken");
        let text = if hours {
            queue.client().broker().purge("default").await.expect("memory");
            hourly().await.expect("it is taken");
            panic_of(queue.drain_all()).await
        } else {
            panic_of(queue.drain()).await
        };
        let expected = if hours {
            "not drained after 24 runs; 24 of them were of shop.hourly"
        } else {
            "not drained after 5 runs"
        };
        assert!(text.starts_with(expected), "{text}");
    }
}
