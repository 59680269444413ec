//! From a call to a published message.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;

use super::Client;
use crate::broker::{Publication, PublishError, QueueSpec};
use crate::canvas::CallParts;
use crate::codec;
use crate::definition::Context;
use crate::error::Error;
use crate::message::{Envelope, TaskId, TimeLimits};

/// A message that has been handed to the broker, and the future of its confirm.
pub(super) struct PendingConfirm {
    pub(super) id: TaskId,
    pub(super) confirm: BoxFuture<'static, Result<(), Error>>,
}

/// The outcome of enqueuing a call without waiting.
pub(super) enum TryEnqueue {
    /// The call is enqueued, its confirm pending.
    Enqueued(PendingConfirm),
    /// The call, returned: its queue has to be declared first.
    Undeclared(Box<CallParts>, TaskId),
}

impl Client {
    /// Enqueues the call. Waits only where its queue has not been declared yet.
    pub(super) async fn enqueue(&self, parts: CallParts, id: TaskId, resent: bool) -> Result<PendingConfirm, Error> {
        let (mut parts, mut id) = (parts, id);
        loop {
            match self.try_enqueue(parts, id, resent)? {
                TryEnqueue::Enqueued(pending) => return Ok(pending),
                TryEnqueue::Undeclared(returned, same) => (parts, id) = (*returned, same),
            }
            self.declare(self.queue_of(&parts)).await?;
        }
    }

    /// Enqueues the call if its queue is known: the hot path, without waiting.
    pub(super) fn try_enqueue(&self, parts: CallParts, id: TaskId, resent: bool) -> Result<TryEnqueue, Error> {
        self.require_own_process()?;
        let queue = self.queue_of(&parts);
        // Checked first, since the dead set is a declared queue as well.
        QueueSpec::check_named(queue).map_err(Error::Broker)?;
        let Some(queue) = self.router().known(queue) else {
            return Ok(TryEnqueue::Undeclared(Box::new(parts), id));
        };
        let mut outbound = outbound_message(parts, id.clone(), self, Context::current().as_ref())?;
        outbound.envelope.resent = resent;
        let message = codec::encode(outbound.envelope);
        let confirm = self.publish(Publication { queue, message, delay: outbound.delay });
        Ok(TryEnqueue::Enqueued(PendingConfirm { id, confirm }))
    }

    /// Returns the queue of a call: the call's own, else the task's, else the default.
    fn queue_of<'a>(&'a self, parts: &'a CallParts) -> &'a str {
        let named = parts.options.queue.as_deref().or(parts.task_options.queue);
        named.unwrap_or(&self.settings().default_queue)
    }
}

/// A message to publish, and for how long the broker holds it back.
struct OutboundMessage {
    envelope: Envelope,
    delay: Option<Duration>,
}

/// Makes the message of a call. Options of the task that every worker knows (retries, backoff) are not part of it;
/// options that only the caller knows are.
fn outbound_message(
    parts: CallParts,
    id: TaskId,
    client: &Client,
    parent: Option<&Context>,
) -> Result<OutboundMessage, Error> {
    if let Some(mistake) = parts.mistake {
        return Err(Error::Call { task: parts.task.into_owned(), mistake });
    }
    let now = client.clock().now();
    let options = parts.options;
    let mistake = |mistake: String| Error::Call { task: parts.task.clone().into_owned(), mistake };
    let eta = match (options.countdown, options.eta) {
        (Some(delay), _) => {
            Some(later(now, delay).ok_or_else(|| mistake("its countdown ends after the end of time".into()))?)
        }
        (None, eta) => eta,
    }
    .filter(|eta| *eta > now);
    let expires = match options.expires.or(parts.task_options.expires) {
        Some(after) => Some(later(now, after).ok_or_else(|| mistake("it expires after the end of time".into()))?),
        None => None,
    };
    let payload = codec::body::encode(|body| parts.arguments.write_json(body), client.settings().serializer)
        .map_err(|error| mistake(error.to_string()))?;
    let (size, limit) = (payload.body.len(), client.settings().max_message_bytes);
    if size > limit {
        return Err(Error::Publish(PublishError::TooLarge { size, limit, setting: PublishError::OUR_LIMIT }));
    }
    let payload = if parts.task_options.sealed || options.sealed {
        client.seal(&payload, &id, &parts.task).map_err(|fault| mistake(fault.to_string()))?
    } else {
        payload
    };
    let delay_served = eta.is_some() && options.countdown.is_some_and(|delay| delay <= Envelope::DELAY_MAX);
    let envelope = Envelope {
        eta,
        delay_served,
        sender_clock: expires.and_then(|_| client.store_clock_ahead()),
        expires,
        priority: options.priority.or(parts.task_options.priority),
        limits: TimeLimits { soft: options.soft_time_limit, hard: options.time_limit },
        root_id: parent.map(|parent| parent.root_id().clone()),
        parent_id: parent.map(|parent| parent.id().clone()),
        origin: Some(client.origin().to_owned()),
        ignore_result: options.ignore_result,
        scheduled: options.scheduled,
        headers: options.headers,
        ..Envelope::new(id, parts.task, payload)
    };
    let delay = eta.and_then(|eta| (eta - now).to_std().ok());
    Ok(OutboundMessage { envelope, delay })
}

fn later(now: DateTime<Utc>, by: Duration) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(by).ok()?)
}
