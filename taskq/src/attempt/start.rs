//! The beginning of an attempt: from a message to a body that can be run.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use super::panics;
use super::verdict::Outcome;
use crate::codec::{self, MessageBody};
use crate::definition::{Body, Context, ContextParts, Definition, ProgressCell, RetryPolicy, TaskOptions};
use crate::message::{Envelope, Payload, TimeLimits};
use crate::protection::SealingKeys;
use crate::protection::sealed::{self, SEALED, SealFault};

/// The values that tasks ask for by type, and the client.
pub type StateMap = Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>;

/// Returns the limits of one attempt: the call's, else the task's.
pub fn limits(envelope: &Envelope, options: &TaskOptions) -> TimeLimits {
    TimeLimits {
        soft: envelope.limits.soft.or(options.soft_time_limit),
        hard: envelope.limits.hard.or(options.time_limit),
    }
}

/// Returns whether the result is not stored: the call's option, else the task's.
pub fn ignores_result(envelope: &Envelope, options: &TaskOptions) -> bool {
    envelope.ignore_result.unwrap_or(options.ignore_result)
}

/// Opens sealed arguments; `None` if they are not sealed. A task that takes sealed arguments takes no others.
fn opened(envelope: &Envelope, options: &TaskOptions, keys: &SealingKeys) -> Result<Option<Payload>, SealFault> {
    if envelope.payload.content_type == SEALED {
        return sealed::open(&envelope.payload, &envelope.id, &envelope.task, keys).map(Some);
    }
    if options.sealed { Err(SealFault::NotSealed) } else { Ok(None) }
}

/// An attempt that is about to begin.
pub struct Start<'a> {
    /// The task.
    pub definition: &'static Definition,
    /// The message.
    pub envelope: &'a Envelope,
    /// The policy by which the task is retried.
    pub policy: &'a RetryPolicy,
    /// The limits of the attempt; see [`limits`].
    pub limits: TimeLimits,
    /// The largest body that is read, in bytes.
    pub received_bytes_max: usize,
    /// The keys by which sealed arguments are opened.
    pub sealing_keys: &'a SealingKeys,
    /// The current time.
    pub now: DateTime<Utc>,
    /// Turns true when the attempt should stop.
    pub cancelled: watch::Receiver<bool>,
    /// The place for the attempt's progress.
    pub progress: Arc<ProgressCell>,
    /// The values that tasks ask for by type.
    pub state: StateMap,
}

impl Start<'_> {
    /// Decodes the arguments and returns the body with its context, or the end of an attempt that cannot begin.
    pub fn start(self) -> Result<(Body, Context), Outcome> {
        let Self {
            definition,
            envelope,
            policy,
            limits,
            received_bytes_max,
            sealing_keys,
            now,
            cancelled,
            progress,
            state,
        } = self;
        let bad_body = |error: codec::BodyError| Outcome::BadBody(error.to_string());
        let opened =
            opened(envelope, &definition.options, sealing_keys).map_err(|fault| Outcome::BadBody(fault.to_string()))?;
        let payload = opened.as_ref().unwrap_or(&envelope.payload);
        let message = MessageBody::read(payload, received_bytes_max).map_err(bad_body)?;
        let arguments = message.arguments(definition.parameters.len()).map_err(bad_body)?;
        let mut headers = envelope.headers.clone();
        headers.retain(|name| !codec::is_celery_header(name));
        let context = Context::new(ContextParts {
            id: envelope.id.clone(),
            task: definition.name,
            retries: envelope.attempt,
            retries_left: policy.retries.saturating_sub(envelope.attempt),
            root_id: envelope.root().clone(),
            parent_id: envelope.parent_id.clone(),
            headers,
            deadline: limits.hard.and_then(|limit| now.checked_add_signed(TimeDelta::from_std(limit).ok()?)),
            cancelled,
            progress,
            state,
        });
        // Decoding arguments runs the user's code, too.
        let started = AssertUnwindSafe(|| (definition.start)(context.clone(), &arguments));
        match std::panic::catch_unwind(started) {
            Ok(body) => Ok((body.map_err(Outcome::BadArguments)?, context)),
            Err(payload) => Err(Outcome::from(panics::panicked(payload))),
        }
    }
}
