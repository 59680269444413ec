//! The tasks of the shop.
//!
//! Their names, parameters and results are what tests in Rust, in Python and on the command line rely on: add to
//! them, and leave what is there as it is.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taskq::{Context, Secret, TaskError, task};
use taskq_cli::torture::ledger::{Fact, Ledger};

use crate::harness::now_ms;

/// The sum.
#[task(name = "shop.add")]
pub async fn add(x: i64, y: i64) -> i64 {
    x + y
}

/// Twice a number, and what was given beside it.
#[task(name = "shop.double")]
pub async fn double(number: i128, beside: Option<Value>) -> (i128, Option<Value>) {
    (2 * number, beside)
}

/// The sum of many.
#[task(name = "shop.sum")]
pub async fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

/// A greeting; "Hello" if none is given.
#[task(name = "shop.greet")]
pub async fn greet(name: String, greeting: Option<String>) -> String {
    format!("{}, {name}", greeting.as_deref().unwrap_or("Hello"))
}

/// Returns its argument.
#[task(name = "shop.echo")]
pub async fn echo(value: Value) -> Value {
    value
}

/// The number of characters of a text that nobody else may read. Fails in its first attempts, so many of them.
#[task(name = "shop.sealed", sealed, retries = 2, backoff = "100ms..200ms")]
pub async fn sealed(ctx: &Context, text: String, failures: u32) -> Result<usize, TaskError> {
    if ctx.retries() < failures {
        Err(TaskError::retry_in(Duration::from_millis(100), "not yet"))
    } else {
        Ok(text.chars().count())
    }
}

/// Something to sell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The name of the item.
    pub name: String,
    /// How many.
    pub count: u32,
    /// The price of one, in cents.
    pub cents: u64,
}

/// The price of all items together, in cents.
#[task(name = "shop.price")]
pub async fn price(items: Vec<Item>) -> u64 {
    items.iter().map(|item| u64::from(item.count) * item.cents).sum()
}

/// Charges a card, which nobody is to see; fails for good if there is nothing to charge it for.
#[task(name = "shop.charge")]
pub async fn charge(card: Secret<String>, cents: u32) -> Result<Secret<String>, TaskError> {
    if cents == 0 {
        return Err(TaskError::permanent(format!("nothing to charge {card} for")));
    }
    Ok(card)
}

/// Goes to the queue `shop.letters` unless the caller says otherwise; gives the text back.
#[task(name = "shop.letter", queue = "shop.letters")]
pub async fn letter(text: String) -> String {
    text
}

/// Stores no result.
#[task(name = "shop.forgotten", ignore_result)]
pub async fn forgotten(x: i64) -> i64 {
    x
}

/// The task's context: `id, task, attempt, retries_left, root_id, parent_id, headers, pid`.
#[task(name = "shop.about")]
pub async fn about(ctx: &Context) -> Value {
    let headers: serde_json::Map<String, Value> =
        ctx.headers().iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    json!({
        "id": ctx.id(),
        "task": ctx.task(),
        "attempt": ctx.retries(),
        "retries_left": ctx.retries_left(),
        "root_id": ctx.root_id(),
        "parent_id": ctx.parent_id(),
        "headers": headers,
        "pid": std::process::id(),
    })
}

/// Sends `shop.add` to the default queue, and gives the id of that task.
#[task(name = "shop.relay")]
pub async fn relay(x: i64, y: i64) -> Result<String, taskq::Error> {
    Ok(add(x, y).await?.id().to_string())
}

/// The state that the tasks of one process share: the number of the process that it was made in.
#[derive(Debug)]
pub struct Stock(pub u32);

/// In which process what it shares was made, and in which it runs.
#[task(name = "shop.stock")]
pub async fn stock(ctx: &Context) -> (u32, u32) {
    (ctx.state::<Stock>().0, std::process::id())
}

/// Fails for good, with this message.
#[task(name = "shop.fail")]
pub async fn fail(message: String) -> Result<(), TaskError> {
    Err(TaskError::permanent(message))
}

/// Fails each time, by the policy: two retries within 200 ms each.
#[task(name = "shop.fail_retried", retries = 2, backoff = "100ms..200ms")]
pub async fn fail_retried(message: String) -> Result<(), String> {
    Err(message)
}

/// Fails until the attempt of this number (0 first), and gives that number. Retried after `retry_ms`, 100 if not given.
#[task(name = "shop.flaky", retries = 20)]
pub async fn flaky(ctx: &Context, succeed_on_attempt: u32, retry_ms: Option<u64>) -> Result<u32, TaskError> {
    succeed_on(ctx, succeed_on_attempt, retry_ms)
}

/// Panics, and is not retried.
#[task(name = "shop.panic", retries = 0)]
pub async fn panic(message: String) {
    panic!("{message}");
}

/// Panics as a plain function, and is not retried.
#[task(name = "shop.plain_panic", retries = 0)]
pub fn plain_panic(message: String) {
    panic!("{message}");
}

/// Ends as revoked, with this reason.
#[task(name = "shop.cancel")]
pub async fn cancel(why: String) -> Result<(), TaskError> {
    Err(TaskError::cancel(why))
}

/// Puts itself off by `step_ms` until the clock shows `until_ms` (milliseconds since 1970). Gives its attempt, which
/// is 0 if snoozing costs none.
#[task(name = "shop.snooze")]
pub async fn snooze(ctx: &Context, until_ms: u64, step_ms: u64) -> Result<u32, TaskError> {
    if now_ms() < until_ms {
        return Err(TaskError::snooze(Duration::from_millis(step_ms)));
    }
    Ok(ctx.retries())
}

/// Reports `steps` steps of progress (`step 1`, `step 2`, …), `step_ms` apart, and gives their number.
#[task(name = "shop.progress")]
pub async fn progress(ctx: &Context, steps: u64, step_ms: u64) -> u64 {
    for step in 1..=steps {
        ctx.progress(step, steps, format!("step {step}"));
        tokio::time::sleep(Duration::from_millis(step_ms)).await;
    }
    steps
}

/// Takes `ms` milliseconds, whatever it is told, and gives them back.
#[task(name = "shop.slow")]
pub async fn slow(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// Sleeps as a plain function, which blocks its thread.
#[task(name = "shop.slow_blocking")]
pub fn slow_blocking(ms: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(ms));
    ms
}

/// Takes `ms` milliseconds, and is stopped after 500; not retried.
#[task(name = "shop.limited", time_limit = "500ms", retries = 0)]
pub async fn limited(ms: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ms
}

/// Takes `ms` milliseconds and gives "done", or is asked to stop after 300 and gives "stopped".
#[task(name = "shop.soft", soft_time_limit = "300ms")]
pub async fn soft(ctx: &Context, ms: u64) -> String {
    tokio::select! {
        () = ctx.cancelled() => "stopped".to_owned(),
        () = tokio::time::sleep(Duration::from_millis(ms)) => "done".to_owned(),
    }
}

/// Sleeps `ms` milliseconds, then notes `line` in the ledger at `path`; see
/// [`harness::Ledger`](crate::harness::Ledger).
#[task(name = "shop.ledger")]
pub async fn ledger(ctx: &Context, path: String, line: String, ms: u64) -> Result<(), io::Error> {
    note(ctx, &path, &line, ms).await
}

/// Notes `line` after `ms` milliseconds, as a plain function.
#[task(name = "shop.ledger_blocking")]
pub fn ledger_blocking(ctx: &Context, path: String, line: String, ms: u64) -> Result<(), io::Error> {
    std::thread::sleep(Duration::from_millis(ms));
    append(ctx, &path, &line)
}

/// Notes `line` after `ms` milliseconds, and stores no result.
#[task(name = "shop.ledger_forgotten", ignore_result)]
pub async fn ledger_forgotten(ctx: &Context, path: String, line: String, ms: u64) -> Result<(), io::Error> {
    note(ctx, &path, &line, ms).await
}

/// Notes `line` after `ms` milliseconds, and fails then, until the attempt of this number. Retried after `retry_ms`,
/// 100 if not given.
#[task(name = "shop.ledger_flaky", retries = 20)]
pub async fn ledger_flaky(
    ctx: &Context,
    path: String,
    line: String,
    ms: u64,
    succeed_on_attempt: u32,
    retry_ms: Option<u64>,
) -> Result<u32, TaskError> {
    note(ctx, &path, &line, ms).await.map_err(TaskError::permanent)?;
    succeed_on(ctx, succeed_on_attempt, retry_ms)
}

/// Notes `line` after `ms` milliseconds, and fails for good.
#[task(name = "shop.ledger_fail")]
pub async fn ledger_fail(ctx: &Context, path: String, line: String, ms: u64) -> Result<(), TaskError> {
    note(ctx, &path, &line, ms).await.map_err(TaskError::permanent)?;
    Err(TaskError::permanent("noted, and failed"))
}

/// Notes `line` each time it is called, and puts itself off by `step_ms` until the clock shows `until_ms` (milliseconds
/// since 1970).
#[task(name = "shop.ledger_snooze")]
pub async fn ledger_snooze(
    ctx: &Context,
    path: String,
    line: String,
    until_ms: u64,
    step_ms: u64,
) -> Result<(), TaskError> {
    note(ctx, &path, &line, 0).await.map_err(TaskError::permanent)?;
    if now_ms() < until_ms {
        return Err(TaskError::snooze(Duration::from_millis(step_ms)));
    }
    Ok(())
}

async fn note(ctx: &Context, path: &str, line: &str, ms: u64) -> Result<(), io::Error> {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    append(ctx, path, line)
}

fn append(ctx: &Context, path: &str, line: &str) -> Result<(), io::Error> {
    let effect = Fact::Effect { id: ctx.id().to_string(), attempt: ctx.retries(), note: Some(line.to_owned()) };
    Ledger::open(path.as_ref(), true)?.note(effect)
}

fn succeed_on(ctx: &Context, attempt: u32, retry_ms: Option<u64>) -> Result<u32, TaskError> {
    if ctx.retries() >= attempt {
        return Ok(ctx.retries());
    }
    let delay = Duration::from_millis(retry_ms.unwrap_or(100));
    Err(TaskError::retry_in(delay, format!("attempt {} fails as it should", ctx.retries())))
}

/// Aborts its process, after `ms` milliseconds, none if not given.
#[task(name = "shop.abort")]
pub async fn abort(ms: Option<u64>) {
    tokio::time::sleep(Duration::from_millis(ms.unwrap_or(0))).await;
    std::process::abort();
}

/// Writes where nothing may be written, as faults in foreign code do.
#[task(name = "shop.segfault")]
#[allow(unsafe_code, reason = "a fault that the compiler allowed would be a fault of the compiler")]
pub async fn segfault() {
    // SAFETY: there is none. The page is never mapped, so the system ends the process.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
}

/// Ends its process by a recursion that does not end.
#[task(name = "shop.overflow")]
pub async fn overflow() -> u64 {
    deeper(1)
}

/// Ends its process with this exit code.
#[task(name = "shop.exit")]
pub async fn exit(code: i32) {
    std::process::exit(code);
}

/// Never gives its thread back.
#[task(name = "shop.spin")]
pub async fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

/// Makes its process unresponsive the first time: the thread of its connections, on which it also talks with its
/// supervisor, never comes back. That it did so is noted in the file at `path`. Afterwards it only gives that there is
/// one.
#[task(name = "shop.freeze")]
pub async fn freeze(path: String) -> Result<bool, io::Error> {
    if std::fs::exists(&path)? {
        return Ok(true);
    }
    std::fs::write(&path, "")?;
    taskq::internal::io::spawn(async { std::thread::sleep(Duration::MAX) });
    std::future::pending().await
}

/// Keeps so many MiB for as long as its process lives.
#[task(name = "shop.hog_memory")]
pub async fn hog_memory(mib: usize) {
    static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; mib << 20]);
}

/// Writes a line to the stdout of its process.
#[task(name = "shop.print")]
pub async fn print(line: String) {
    println!("{line}");
}

/// Leaves a process behind that nobody waits for and that ends after `ms` milliseconds; gives its id.
#[task(name = "shop.orphan")]
pub fn orphan(ms: u64) -> Result<u32, TaskError> {
    let script = format!("sleep {}.{:03} > /dev/null 2>&1 & echo $!", ms / 1000, ms % 1000);
    let output = std::process::Command::new("sh").args(["-c", &script]).output().map_err(TaskError::permanent)?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(TaskError::permanent)
}

/// Leaves a copy of its process behind, with all that it has open; gives the copy's id.
#[task(name = "shop.fork")]
#[allow(unsafe_code, reason = "the standard library does not fork")]
pub fn fork() -> i32 {
    // SAFETY: the copy only sleeps, which it may whatever other threads were in the middle of.
    let pid = unsafe { libc::fork() };
    if pid > 0 {
        return pid;
    }
    loop {
        // SAFETY: it waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Leaves a process behind that has a session of its own, and so a process group; gives its id.
#[task(name = "shop.daemon")]
pub fn daemon() -> Result<u32, io::Error> {
    use std::process::{Command, Stdio};
    let mut command = Command::new("setsid");
    command.args(["sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?.id())
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    deeper(depth + 1) + room[(depth % 512) as usize]
}
