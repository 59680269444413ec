//! Faults of messages that no library writes, some each second: each must end in the dead set, and cost no other task
//! anything.

use std::sync::Arc;
use std::time::Duration;

use taskq::broker::BrokerError;
use taskq::{BoxError, TaskId, TaskState};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::context::MOMENT_BOUND;
use super::{StrikeContext, health};
use crate::torture::bomb::bomb;
use crate::torture::catalog::Fault;
use crate::torture::ledger::{Affected, Fact};
use crate::torture::processes;
use crate::torture::stranger::{RawProperties, Stranger, entry, nested, text};
use crate::torture::workload::Expect;

/// The pause between two hostile messages.
const SEND_EVERY: Duration = Duration::from_millis(200);

/// The pause between two bodies that grow.
const BOMB_EVERY: Duration = Duration::from_secs(5);

/// The most memory that a process may have had resident once bodies have grown in it: about what it needs otherwise,
/// and the text of a few bodies.
const PEAK_KB_MAX: u64 = 500_000;

/// The number of copies of 258 bytes in a body that grows to 60 MB.
const COPIES: usize = 60_000_000 / 258;

/// A task that fails in each of its attempts, so that it is sent on once and then goes to the dead set.
const HOPELESS: (&str, &[u8]) = ("torture.hopeless", br#"[[{"do":"hopeless"},0],{},{}]"#);

/// A task that fails in more attempts than it has, without a panic: if its next attempt cannot be sent, its record says
/// that, and has no place for where it panicked.
const FLAKY: (&str, &[u8]) = ("torture.flaky", br#"[[{"do":"flaky","until":1000},0],{},{}]"#);

/// A task that succeeds if it is ever run.
const HARMLESS: (&str, &[u8]) = ("torture.work", br#"[[{"do":"work","ms":0},0],{},{}]"#);

/// A hostile message: its properties and its body.
struct HostileMessage {
    properties: RawProperties,
    body: Arc<[u8]>,
}

impl HostileMessage {
    /// A call of a task, with further headers.
    fn call((task, body): (&str, &[u8]), id: &TaskId, more: Vec<Vec<u8>>) -> Self {
        Self::of(b"application/json", task, id, more, body.into())
    }

    fn of(content_type: &[u8], task: &str, id: &TaskId, more: Vec<Vec<u8>>, body: Arc<[u8]>) -> Self {
        let headers = [vec![text("task", task), text("id", id.as_str())], more].concat();
        Self { properties: RawProperties::of(content_type, &headers), body }
    }
}

/// Sends messages that cannot be parsed, or cannot be sent on, while the fault is held.
pub(super) async fn besiege(fault: Fault, context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let message = match fault {
        Fault::DeepHeaders => deep_headers,
        Fault::BrokenText => broken_text,
        _ => unsendable,
    };
    context.struck(fault, Affected::Nobody)?;
    attack(context, SEND_EVERY, message).await?;
    context.over(fault)
}

fn deep_headers(number: usize, id: &TaskId) -> HostileMessage {
    // The broker takes seconds to confirm the deepest that a frame has room for.
    let deep = nested("x-deep", if number % 5 < 4 { 1_400 } else { 26_000 });
    HostileMessage::call(HARMLESS, id, vec![deep])
}

fn broken_text(number: usize, id: &TaskId) -> HostileMessage {
    let (task, body) = HARMLESS;
    if number.is_multiple_of(2) {
        return HostileMessage::of(b"application/json\xff", task, id, Vec::new(), body.into());
    }
    // A name of two bytes, and the value `true`.
    HostileMessage::call(HARMLESS, id, vec![vec![2, 0xC3, 0x28, b't', 1]])
}

fn unsendable(number: usize, id: &TaskId) -> HostileMessage {
    // One more attempt is left, which has to be sent.
    let retries = entry("retries", b'I', &19_u32.to_be_bytes());
    let more = |name, length| HostileMessage::call(FLAKY, id, vec![retries.clone(), text(name, &"x".repeat(length))]);
    match number % 5 {
        0 => more("baggage", 129_300),
        1 => more("argsrepr", 125_000),
        2 => more("taskq-baggage", 120_000),
        3 => more("taskq-origin-queue", 120_000),
        _ => HostileMessage::call((&"n".repeat(120_000), FLAKY.1), id, Vec::new()),
    }
}

/// Returns the names of two queues that have nothing to do with the run: one that exists, and one that does not.
pub(in crate::torture) fn other_queues(queues: &[String]) -> [String; 2] {
    ["payroll", "absent"].map(|name| format!("{}.{name}", queues[0]))
}

/// Sends messages whose headers name other queues: nothing may arrive there.
pub(super) async fn deputy(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let [payroll, absent] = other_queues(context.queues);
    context.client.declare(&payroll).await?;
    context.struck(Fault::Deputy, Affected::Nobody)?;
    attack(context, SEND_EVERY, |number, id| {
        let named = |names: &[&str], queue: &str| names.iter().map(|name| text(name, queue)).collect();
        let letter = ["taskq-dead-queue", "taskq-dead-fingerprint", "taskq-dead-error", "x-death-queue"];
        let headers = match number % 6 {
            0 => named(&["taskq-origin-queue"], &payroll),
            1 => named(&["taskq-origin-queue"], &absent),
            2 => named(&["taskq-origin-queue", "taskq-alone"], "amq.x"),
            3 => named(&["taskq-alone"], &payroll),
            4 => named(&letter, &payroll),
            _ => named(&letter, &absent),
        };
        HostileMessage::call(HOPELESS, id, headers)
    })
    .await?;
    context.over(Fault::Deputy)?;
    let broker = context.client.broker();
    let arrived = broker.stats(&payroll).await?.ready;
    context.figure("arrived_elsewhere", arrived)?;
    if arrived > 0 {
        context.wrong(format!("{arrived} messages arrived in {payroll}, which only their headers named"))?;
    }
    match broker.stats(&absent).await {
        Err(BrokerError::NoQueue { .. }) => Ok(()),
        Ok(_) => context.wrong(format!("{absent} came into being, which only headers named")),
        Err(error) => Err(error.into()),
    }
}

/// Sends compressed bodies that grow to 60 MB each.
pub(super) async fn bombs(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let [many, deep]: [Arc<[u8]>; 2] = spawn_blocking(|| {
        let values = |head: &[u8]| Arc::from(bomb(head, *b"0,", COPIES, b"0], {}, null]"));
        // The text ends one list too early to be a body.
        [values(b"[["), values(b"[[{\"__type__\": 0}, [")]
    })
    .await?;
    context.struck(Fault::Bombs, Affected::Nobody)?;
    attack(context, BOMB_EVERY, |number, id| {
        let body = if number.is_multiple_of(2) { &many } else { &deep };
        let compression = vec![text("compression", "application/x-gzip")];
        HostileMessage::of(b"application/json", HARMLESS.0, id, compression, Arc::clone(body))
    })
    .await?;
    context.over(Fault::Bombs)?;
    let peak = context.fleet.processes().into_iter().filter_map(processes::resident_peak_kb).max();
    context.figure("memory_peak_kb", peak.unwrap_or_default())?;
    if peak.is_some_and(|kb| kb > PEAK_KB_MAX) {
        context.wrong(format!("a process has had {} kB resident, and {PEAK_KB_MAX} are allowed", peak.unwrap_or(0)))?;
    }
    Ok(())
}

/// Sends messages to the run's queues while the fault is held, probes health meanwhile, and waits until the messages
/// are over.
async fn attack(
    context: &StrikeContext<'_>,
    every: Duration,
    message: impl Fn(usize, &TaskId) -> HostileMessage,
) -> Result<(), BoxError> {
    let (sent, ()) = tokio::try_join!(send(context, every, message), health::probe(context))?;
    context.figure("hostile_messages", sent.len() as u64)?;
    // Those that are not over by then are found lost in the end.
    let is_over = |context: &StrikeContext<'_>| {
        context.look(|timeline| sent.iter().all(|id| timeline.last_end(id).is_some())).then_some(())
    };
    context.until(MOMENT_BOUND, is_over).await;
    Ok(())
}

/// Sends messages to the run's queues in turn, and returns the ids of those that the broker has confirmed.
async fn send(
    context: &StrikeContext<'_>,
    every: Duration,
    message: impl Fn(usize, &TaskId) -> HostileMessage,
) -> Result<Vec<String>, BoxError> {
    let expect = Expect { state: Some(TaskState::Failure), waits: true, ..Expect::nothing() };
    let url = context.client.settings().broker_url().to_owned();
    let mut stranger = spawn_blocking(move || Stranger::connect(&url)).await??;
    let until = Instant::now() + context.hold();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        ticks.tick().await;
        if Instant::now() >= until {
            break;
        }
        let id = context.producer.next_id();
        let HostileMessage { properties, body } = message(number, &id);
        let id = id.to_string();
        context.ledger.note(Fact::Attempted { id: id.clone(), expect: expect.clone() })?;
        // Every second message of each kind goes to the other queue.
        let queue = context.queues[number / 2 % context.queues.len()].clone();
        let published;
        (stranger, published) = spawn_blocking(move || {
            let published = stranger.publish("", queue.as_bytes(), &properties, &body);
            (stranger, published)
        })
        .await?;
        published?;
        context.ledger.note(Fact::Acknowledged { id: id.clone() })?;
        acknowledged.push(id);
    }
    Ok(acknowledged)
}
