//! Faults of messages: broken ones, unknown ones, unroutable ones.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use taskq::BoxError;
use taskq::broker::{Publication, PublishError};
use taskq::canvas::ArgumentList;
use taskq::internal::codec;
use taskq::message::{Envelope, Payload, TaskState, WireMessage};
use taskq::{Call, TaskId};
use tokio::time::Instant;

use super::StrikeContext;
use crate::torture::catalog::Fault;
use crate::torture::dice::Dice;
use crate::torture::ledger::{Affected, Fact};
use crate::torture::workload::Expect;

/// The number of messages of each strike.
const UNROUTABLE: u64 = 20;
const MALFORMED: u64 = 1000;
const UNKNOWN: u64 = 10;

/// The time in milliseconds within which a publish to a missing queue must be refused.
const REFUSED_WITHIN_MS: u64 = 1000;

/// Publishes to a queue that does not exist, without the declaration that calls make: each publish must be refused.
pub(super) async fn unroutable(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::Unroutable, Affected::Nobody)?;
    let queue: Arc<str> = format!("{}.nowhere", context.queues[0]).into();
    let begun = Instant::now();
    let message = codec::encode(Envelope::new(TaskId::new(), "torture.work", Payload::default()));
    let sent: Vec<_> = (0..UNROUTABLE)
        .map(|_| {
            let publication = Publication::new(Arc::clone(&queue), message.clone());
            context.client.broker().publish(publication)
        })
        .collect();
    let mut refused = 0;
    for answer in sent {
        match answer.await {
            Err(PublishError::Unroutable { .. }) => refused += 1,
            Ok(()) => context.wrong("a message to a queue that is not there was accepted")?,
            Err(error) => context.wrong(format!("a message to a queue that is not there: {error}"))?,
        }
    }
    let took = begun.elapsed().as_millis() as u64;
    context.figure("unroutable_refused", refused)?;
    context.figure("unroutable_refused_within_ms", took)?;
    if took > REFUSED_WITHIN_MS {
        context.wrong(format!("that there is no such queue was said after {took} ms"))?;
    }
    context.over(Fault::Unroutable)
}

/// Sends messages that are broken in many ways. None may vanish.
pub(super) async fn malformed(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::Malformed, Affected::Nobody)?;
    let mut messages = Vec::new();
    for _ in 0..MALFORMED {
        let id = context.producer.next_id();
        messages.push((broken(&mut context.dice, &id), id));
    }
    // It is not known whether a broken message can still be read, only that it must not vanish.
    let expect = Expect { waits: true, ..Expect::nothing() };
    let attempted = messages.iter().map(|(_, id)| Fact::Attempted { id: id.to_string(), expect: expect.clone() });
    context.ledger.note_all(attempted)?;
    let queue: Arc<str> = context.queues[0].as_str().into();
    let sent: Vec<_> = messages
        .into_iter()
        .map(|(message, id)| (context.client.broker().publish(Publication::new(Arc::clone(&queue), message)), id))
        .collect();
    for (answer, id) in sent {
        let id = id.to_string();
        context.ledger.note(match answer.await {
            Ok(()) => Fact::Acknowledged { id },
            Err(error) => Fact::Refused { id, why: error.to_string() },
        })?;
    }
    context.over(Fault::Malformed)
}

/// Returns a message with the headers of a good one, and something wrong.
fn broken(dice: &mut Dice, id: &TaskId) -> WireMessage {
    let good = br#"[[{"do":"work","ms":0},0],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#;
    let payload = Payload {
        content_type: "application/json".into(),
        content_encoding: "utf-8".into(),
        compression: None,
        body: Bytes::from_static(good),
    };
    let mut message = codec::encode(Envelope::new(id.clone(), "torture.work", payload));
    let mut body = good.to_vec();
    match dice.between(0, 9) {
        0 => body.truncate(dice.between(0, body.len() as u64) as usize),
        1 => {
            for _ in 0..dice.between(1, 8) {
                let at = dice.between(0, body.len() as u64) as usize;
                body[at] = dice.roll() as u8;
            }
        }
        2 => body = (0..dice.between(0, 300)).map(|_| dice.roll() as u8).collect(),
        3 => {
            let depth = dice.between(100, 5000) as usize;
            body = ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes();
        }
        4 => body.extend_from_slice(b"]]}}{{,"),
        5 => message.properties.content_type = Some("application/x-python-serialize".into()),
        6 => drop(message.headers.set("compression", "application/x-gzip")),
        7 => drop(message.headers.set("retries", json!({ "many": -1 }))),
        _ => drop(message.headers.set("eta", "the day after tomorrow")),
    }
    message.body = body.into();
    message
}

/// Calls a task that no worker knows: the messages are put back until the grace for that is over, then dead.
pub(super) async fn unknown_task(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::UnknownTask, Affected::Nobody)?;
    calls(context, "torture.nobody-knows", &json!([{ "do": "work", "ms": 0 }, 0])).await?;
    context.over(Fault::UnknownTask)
}

/// Calls tasks with arguments as another version of the program would send them.
pub(super) async fn arguments(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    context.struck(Fault::Arguments, Affected::Nobody)?;
    for arguments in
        [json!([]), json!([{ "do": "fly" }, 0]), json!([{ "do": "work", "ms": 0 }, "soon"]), json!([1, 2, 3])]
    {
        calls(context, "torture.work", &arguments).await?;
    }
    context.over(Fault::Arguments)
}

/// Sends calls that must fail.
async fn calls(context: &StrikeContext<'_>, task: &str, arguments: &serde_json::Value) -> Result<(), BoxError> {
    let list = ArgumentList::from_json(arguments.as_array().map_or(&[], Vec::as_slice), &serde_json::Map::new())?;
    // A dead message of an unknown task counts attempt 0, although that never ran.
    let expect = Expect { state: Some(TaskState::Failure), last_attempt: Some(0), waits: true, ..Expect::nothing() };
    for _ in 0..UNKNOWN {
        let id = context.producer.next_id();
        context.ledger.note(Fact::Attempted { id: id.to_string(), expect: expect.clone() })?;
        let call = Call::<()>::named(task, list.clone()).queue(context.queues[0].clone()).id(id.as_str());
        let id = id.to_string();
        context.ledger.note(match call.send(context.client).await {
            Ok(_) => Fact::Acknowledged { id },
            Err(error) => Fact::Refused { id, why: error.to_string() },
        })?;
    }
    Ok(())
}
