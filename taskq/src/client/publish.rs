//! From a call to a message on its way.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;

use super::{Client, router};
use crate::broker::{Publication, PublishError};
use crate::canvas::CallParts;
use crate::codec;
use crate::definition::Context;
use crate::error::Error;
use crate::message::{Envelope, TaskId, TimeLimits};

/// A message that has been handed to the broker, and the broker's answer to come.
pub(super) struct Underway {
    pub(super) id: TaskId,
    pub(super) confirm: BoxFuture<'static, Result<(), Error>>,
}

/// What became of an attempt to put a call on its way without waiting.
pub(super) enum Dispatch {
    Underway(Underway),
    /// Its queue has to be declared first.
    Undeclared(Box<CallParts>, TaskId),
}

impl Client {
    /// Puts the call on its way. Waits only where its queue has not been declared yet.
    pub(super) async fn dispatch(&self, parts: CallParts, id: TaskId, resent: bool) -> Result<Underway, Error> {
        let (mut parts, mut id) = (parts, id);
        loop {
            match self.dispatch_now(parts, id, resent)? {
                Dispatch::Underway(underway) => return Ok(underway),
                Dispatch::Undeclared(returned, same) => (parts, id) = (*returned, same),
            }
            self.declare(self.queue_of(&parts)).await?;
        }
    }

    /// Puts the call on its way if its queue is known: the hot path, without waiting.
    pub(super) fn dispatch_now(&self, parts: CallParts, id: TaskId, resent: bool) -> Result<Dispatch, Error> {
        let Some(queue) = self.inner.router.known(self.queue_of(&parts)) else {
            return Ok(Dispatch::Undeclared(Box::new(parts), id));
        };
        let mut made = envelope(parts, id.clone(), self, Context::current().as_ref())?;
        made.envelope.resent = resent;
        let message = codec::encode(made.envelope);
        let confirm = self.publish(Publication { queue, message, delay: made.delay });
        Ok(Dispatch::Underway(Underway { id, confirm }))
    }

    /// Publishes a message to a queue that has been declared. On its way as soon as this returns; the future is the
    /// broker's answer. For workers: retries and everything else that follows a task go out here.
    pub fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), Error>> {
        let confirm = self.inner.broker.publish(publication);
        let client = self.clone();
        Box::pin(async move { confirm.await.map_err(|error| router::publish_error(&client.inner.router, error)) })
    }

    /// The queue a call goes to: the call's, else the task's, else the default.
    fn queue_of<'a>(&'a self, parts: &'a CallParts) -> &'a str {
        let named = parts.options.queue.as_deref().or(parts.task_options.queue);
        named.unwrap_or(&self.inner.settings.default_queue)
    }
}

/// A message and how long the broker holds it back.
struct Made {
    envelope: Envelope,
    delay: Option<Duration>,
}

/// The message that a call becomes. What the task's options say and every worker knows (retries, backoff) does not
/// travel; what only the caller knows does.
fn envelope(parts: CallParts, id: TaskId, client: &Client, parent: Option<&Context>) -> Result<Made, Error> {
    if let Some(mistake) = parts.mistake {
        return Err(Error::Call { task: parts.task.into_owned(), mistake });
    }
    let now = client.inner.clock.now();
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
    let payload = codec::body::encode(|body| parts.arguments.write_json(body), client.inner.settings.serializer)
        .map_err(|error| mistake(error.to_string()))?;
    let (size, limit) = (payload.body.len(), client.inner.settings.max_message_bytes);
    if size > limit {
        return Err(Error::Publish(PublishError::TooLarge { size, limit }));
    }
    let envelope = Envelope {
        eta,
        expires,
        priority: options.priority.or(parts.task_options.priority),
        limits: TimeLimits { soft: options.soft_time_limit, hard: options.time_limit },
        root_id: parent.map(|parent| parent.root_id().clone()),
        parent_id: parent.map(|parent| parent.id().clone()),
        origin: Some(client.inner.origin.clone()),
        ignore_result: options.ignore_result,
        scheduled: options.scheduled,
        headers: options.headers,
        ..Envelope::new(id, parts.task, payload)
    };
    let delay = eta.and_then(|eta| (eta - now).to_std().ok());
    Ok(Made { envelope, delay })
}

fn later(now: DateTime<Utc>, by: Duration) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(by).ok()?)
}
