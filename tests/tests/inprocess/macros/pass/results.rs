//! The types that a task may return, and the values that its callers get.

use std::io;

use serde::{Deserialize, Serialize};
use taskq::{Call, TaskError, task};

use super::attempts::run;

type Shop<T> = Result<T, io::Error>;
type ShopResult<T> = Result<T, io::Error>;
type UnitResult = std::result::Result<(), String>;

/// Not a `Result`, whatever it is called.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SearchResult {
    hits: u64,
}

#[task]
async fn nothing() {}

#[task]
async fn unit() -> () {}

#[task]
async fn in_full() -> Result<i64, io::Error> {
    Ok(1)
}

#[task]
async fn by_path() -> std::result::Result<Vec<i64>, Box<dyn std::error::Error + Send + Sync>> {
    Ok(vec![1])
}

#[task]
fn of_io() -> io::Result<String> {
    Err(io::Error::other("disk on fire"))
}

#[task]
async fn of_fmt() -> std::fmt::Result {
    Err(std::fmt::Error)
}

#[task]
async fn own_alias(fine: bool) -> ShopResult<i64> {
    if fine { Ok(1) } else { Err(io::Error::other("closed")) }
}

#[task]
async fn own_unit_alias() -> UnitResult {
    Err("no".to_owned())
}

#[task]
async fn search() -> SearchResult {
    SearchResult { hits: 3 }
}

#[task(retry_if = never)]
async fn alias_with_retry_if() -> ShopResult<()> {
    Err(io::Error::other("closed for good"))
}

fn never(_: &io::Error) -> bool {
    false
}

/// An alias whose name does not say what it is, written out where the task is declared.
#[task]
async fn through_the_back_door() -> Result<i64, io::Error> {
    let answer: Shop<i64> = Ok(2);
    answer
}

#[task]
async fn text() -> Result<(), String> {
    Err("just text".to_owned())
}

#[task]
async fn static_text() -> Result<(), &'static str> {
    Err("just text")
}

#[task]
async fn task_error() -> Result<(), TaskError> {
    Err(TaskError::cancel("not wanted"))
}

/// JSON has no word for this key, so the result cannot be written.
#[task]
async fn unspeakable() -> std::collections::HashMap<Vec<u8>, i64> {
    std::collections::HashMap::from([(vec![1], 1)])
}

#[test]
fn callers_get_the_value_without_the_result_around_it() {
    let _: [Call<()>; 2] = [nothing(), unit()];
    let _: Call<i64> = in_full();
    let _: Call<Vec<i64>> = by_path();
    let _: Call<String> = of_io();
    let _: Call<()> = of_fmt();
    let _: Call<i64> = own_alias(true);
    let _: Call<()> = own_unit_alias();
    let _: Call<SearchResult> = search();
    let _: Call<()> = alias_with_retry_if();
}

#[tokio::test]
async fn values_become_json() {
    for (name, json) in [
        (nothing::NAME, "null"),
        (unit::NAME, "null"),
        (in_full::NAME, "1"),
        (by_path::NAME, "[1]"),
        (search::NAME, r#"{"hits":3}"#),
        (through_the_back_door::NAME, "2"),
    ] {
        let answer = run(name, "[]", "{}").await.expect("there are no arguments");
        assert_eq!(answer.expect(name).get(), json, "{name}");
    }
    let answer = run(own_alias::NAME, "[true]", "{}").await.expect("the argument fits");
    assert_eq!(answer.expect("it is fine").get(), "1");
}

#[tokio::test]
async fn errors_become_failures_also_behind_aliases() {
    use taskq::definition::Directive::{Cancel, Permanent, Retry};
    for (name, arguments, directive, exc_type, message) in [
        (of_io::NAME, "[]", Retry, "Error", "disk on fire"),
        (of_fmt::NAME, "[]", Retry, "Error", "an error occurred when formatting an argument"),
        (own_alias::NAME, "[false]", Retry, "Error", "closed"),
        (own_unit_alias::NAME, "[]", Retry, "TaskError", "no"),
        (alias_with_retry_if::NAME, "[]", Permanent, "Error", "closed for good"),
        (text::NAME, "[]", Retry, "TaskError", "just text"),
        (static_text::NAME, "[]", Retry, "TaskError", "just text"),
        (task_error::NAME, "[]", Cancel, "TaskRevokedError", "not wanted"),
    ] {
        let error = run(name, arguments, "{}").await.expect("the arguments fit").expect_err(name);
        assert_eq!((error.directive(), error.to_string().as_str()), (directive, message), "{name}");
        assert_eq!(error.failure().exc_type, exc_type, "{name}");
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_not_tried_again() {
    let error = run(unspeakable::NAME, "[]", "{}").await.expect("there are no arguments").expect_err("no such key");
    assert_eq!(error.directive(), taskq::definition::Directive::Permanent);
    let message = error.to_string();
    assert!(message.contains("HashMap") && message.contains("cannot be written as JSON"), "{message}");
}
