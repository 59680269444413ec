//! From a definition in the registry and the arguments of a message to the outcome of an attempt.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use taskq::definition::{ArgumentError, Arguments, Body, ContextParts, Definition, Directive, Registry, TaskResult};
use taskq::message::TaskId;
use taskq::{Call, Context, TaskError, task};

#[task]
async fn join(left: String, right: Option<String>, times: Option<u8>) -> String {
    format!("{left}{}", right.unwrap_or_default()).repeat(times.map_or(1, usize::from))
}

#[task]
fn on_the_blocking_pool(text: String) -> usize {
    text.len()
}

#[task]
async fn with_context(ctx: &Context, suffix: String) -> String {
    tokio::task::yield_now().await;
    format!("{}{suffix}", ctx.id())
}

#[task]
async fn with_owned_context(ctx: taskq::Context) -> u32 {
    ctx.retries()
}

#[task]
fn blocking_with_context(context: &taskq::Context, suffix: String) -> String {
    format!("{}{suffix}", context.id())
}

#[derive(Debug)]
struct Wrapper(TaskError);

impl std::fmt::Display for Wrapper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("while shipping")
    }
}

impl std::error::Error for Wrapper {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[derive(Debug)]
enum Shipping {
    NoSuchAddress,
    StreetClosed,
    Directed(TaskError),
}

impl std::fmt::Display for Shipping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Shipping {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Directed(error) => Some(error),
            _ => None,
        }
    }
}

impl Shipping {
    fn is_transient(&self) -> bool {
        matches!(self, Self::StreetClosed)
    }
}

#[task(retry_if = Shipping::is_transient)]
async fn ship(how: u8) -> Result<(), Shipping> {
    match how {
        0 => Ok(()),
        1 => Err(Shipping::NoSuchAddress),
        2 => Err(Shipping::StreetClosed),
        _ => Err(Shipping::Directed(TaskError::snooze(Duration::from_secs(5)))),
    }
}

#[task]
async fn wrapped() -> Result<(), Wrapper> {
    Err(Wrapper(TaskError::retry_in(Duration::from_secs(7), "the bank is closed")))
}

/// The positional arguments of a call, as the JSON text that travels.
pub(super) fn positional<T>(call: &Call<T>) -> String {
    let arguments = &call.parts().arguments;
    let payload = taskq::internal::codec::body::encode(
        |body| arguments.write_json(body),
        taskq::internal::codec::Serializer::Json,
    )
    .expect("JSON can be written");
    let parts: Vec<&RawValue> = serde_json::from_slice(&payload.body).expect("it was just written");
    parts[0].get().to_owned()
}

fn definition(name: &str) -> &'static Definition {
    Registry::collect().expect("all names differ").get(name).expect("the task is registered")
}

fn context(name: &'static str) -> Context {
    let mut parts = ContextParts::new(TaskId::parse("the-id").expect("it is a short text"), name);
    parts.retries = 2;
    parts.retries_left = 1;
    Context::new(parts)
}

/// Runs the task `name` with the arguments of a message, as a worker would.
pub(super) async fn run(name: &'static str, args: &str, kwargs: &str) -> Result<TaskResult, ArgumentError> {
    let args: Vec<&RawValue> = serde_json::from_str(args).expect("the tests write JSON");
    let kwargs: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(kwargs).expect("the tests write JSON");
    let arguments = Arguments::new(args, kwargs.into_iter().collect());
    let context = context(name);
    match (definition(name).start)(context.clone(), &arguments)? {
        Body::Async(future) => Ok(context.scope(future).await),
        Body::Blocking(function) => Ok(context.sync_scope(function)),
    }
}

#[tokio::test]
async fn arguments_come_by_position_and_by_name() {
    for (args, kwargs, expected) in [
        (r#"["a", "b", 2]"#, "{}", r#""abab""#),
        (r#"["a"]"#, r#"{"right": "b"}"#, r#""ab""#),
        ("[]", r#"{"times": 3, "left": "a"}"#, r#""aaa""#),
        (r#"["a", null]"#, "{}", r#""a""#),
        (r#"["a"]"#, "{}", r#""a""#),
    ] {
        let answer = run(join::NAME, args, kwargs).await.expect("the arguments fit");
        assert_eq!(answer.expect("it cannot fail").get(), expected, "{args} {kwargs}");
    }
}

#[tokio::test]
async fn what_a_call_sends_is_what_the_task_takes() {
    let call = join("a", "b", 2);
    let answer = run(join::NAME, &positional(&call), "{}").await.expect("the arguments fit");
    assert_eq!(answer.expect("it cannot fail").get(), r#""abab""#);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_named() {
    let task = join::NAME;
    for (args, kwargs, expected) in [
        ("[]", "{}", format!("{task}() is missing the argument `left: String`")),
        (r#"["a", "b", 1, 2]"#, "{}", format!("{task}() takes 3 arguments but 4 were given")),
        (r#"["a"]"#, r#"{"left": "b"}"#, format!("{task}() got two values for `left`")),
        (
            r#"["a"]"#,
            r#"{"rigth": "b"}"#,
            format!("{task}() has no parameter `rigth`; it has `left`, `right`, `times`"),
        ),
        (
            "[7]",
            "{}",
            format!("{task}() takes `left: String`, and got an integer: expected a string at line 1 column 1"),
        ),
        (
            r#"["a", "b", 300]"#,
            "{}",
            format!(
                "{task}() takes `times: Option<u8>`, and got an integer: invalid value: an integer, expected u8 at line 1 column 3"
            ),
        ),
    ] {
        let error = run(task, args, kwargs).await.expect_err("the arguments do not fit");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn plain_functions_are_blocking_and_async_ones_are_not() {
    for (name, args, blocking) in [(on_the_blocking_pool::NAME, r#"["four"]"#, true), (join::NAME, r#"["a"]"#, false)] {
        let args: Vec<&RawValue> = serde_json::from_str(args).expect("it is JSON");
        let body = (definition(name).start)(context(name), &Arguments::new(args, vec![])).expect("they fit");
        assert_eq!(matches!(body, Body::Blocking(_)), blocking, "{name}");
    }
    let answer = run(on_the_blocking_pool::NAME, r#"["four"]"#, "{}").await.expect("the argument fits");
    assert_eq!(answer.expect("it cannot fail").get(), "4");
}

#[tokio::test]
async fn the_context_is_handed_in_and_is_no_argument() {
    for name in [with_context::NAME, blocking_with_context::NAME] {
        let answer = run(name, r#"["!"]"#, "{}").await.expect("the argument fits");
        assert_eq!(answer.expect("it cannot fail").get(), r#""the-id!""#);
        let parameters: Vec<_> = definition(name).parameters.iter().map(|parameter| parameter.name).collect();
        assert_eq!(parameters, ["suffix"]);
    }
    let answer = run(with_owned_context::NAME, "[]", "{}").await.expect("there are no arguments");
    assert_eq!(answer.expect("it cannot fail").get(), "2");
    assert_eq!(with_context::run(&context("x"), "?".to_owned()).await, "the-id?");
}

#[tokio::test]
async fn retry_if_decides_about_ordinary_errors_only() {
    for (how, expected) in
        [("[1]", Directive::Permanent), ("[2]", Directive::Retry), ("[3]", Directive::Snooze(Duration::from_secs(5)))]
    {
        let error = run(ship::NAME, how, "{}").await.expect("the argument fits").expect_err("it fails");
        assert_eq!(error.directive(), expected, "{how}");
    }
    assert!(run(ship::NAME, "[0]", "{}").await.expect("the argument fits").is_ok());
}

#[tokio::test]
async fn a_directive_is_found_behind_a_wrapper() {
    let error = run(wrapped::NAME, "[]", "{}").await.expect("there are no arguments").expect_err("it fails");
    assert_eq!(error.directive(), Directive::RetryIn(Duration::from_secs(7)));
    assert_eq!(error.to_string(), "while shipping: the bank is closed");
}
