//! Which queue a call goes to, and how that queue is declared.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::config::{QueueSettings, Settings};
use crate::broker::{Broker, BrokerError, Declared, QueueKind, QueueSpec};
use crate::error::Error;

/// The queue that belongs to Celery by its name alone.
const CELERY_QUEUE: &str = "celery";

/// Knows the queues: how each is declared, and which have been.
#[derive(Debug)]
pub(super) struct Router {
    queues: BTreeMap<String, QueueSettings>,
    interop: Vec<String>,
    declared: RwLock<HashMap<String, Arc<str>>>,
}

impl Router {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { queues: settings.queues.clone(), interop: settings.interop.clone(), declared: RwLock::default() }
    }

    /// How `queue` is to be declared.
    pub(super) fn spec(&self, queue: &str) -> QueueSpec {
        let settings = self.queues.get(queue).copied().unwrap_or_default();
        let celery = queue == CELERY_QUEUE || self.interop.iter().any(|name| name == queue);
        let kind = if celery { QueueKind::Celery } else { settings.kind };
        QueueSpec { name: queue.into(), kind, max_priority: settings.max_priority }
    }

    /// The name of `queue` as the broker port takes it, if it was declared before. The hot path: no waiting.
    pub(super) fn known(&self, queue: &str) -> Option<Arc<str>> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    /// The same, declaring the queue first if need be.
    pub(super) async fn declared(&self, broker: &dyn Broker, queue: &str) -> Result<Arc<str>, Error> {
        if let Some(name) = self.known(queue) {
            return Ok(name);
        }
        self.declare_as(broker, &self.spec(queue)).await
    }

    /// Declares a queue as `spec` says, whatever the settings say of it.
    pub(super) async fn declare_as(&self, broker: &dyn Broker, spec: &QueueSpec) -> Result<Arc<str>, Error> {
        QueueSpec::check_name(&spec.name).map_err(Error::Broker)?;
        match broker.declare(spec).await? {
            Declared::AsAsked => {}
            Declared::Differs(difference) => {
                tracing::warn!(
                    queue = &*spec.name,
                    difference,
                    "the queue exists with other arguments than asked for; it is used as it is"
                );
            }
        }
        let name = Arc::clone(&spec.name);
        self.declared.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), Arc::clone(&name));
        Ok(name)
    }

    /// Forgets that `queue` was declared: a message could not be routed to it, so somebody deleted it. The next call
    /// declares it again.
    pub(super) fn forget(&self, queue: &str) {
        self.declared.write().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}

/// The error of a message that could not be routed, with the router taking note.
pub(super) fn publish_error(router: &Router, error: crate::broker::PublishError) -> Error {
    match error {
        crate::broker::PublishError::Unroutable { queue } => {
            router.forget(&queue);
            Error::Publish(crate::broker::PublishError::Unroutable { queue })
        }
        crate::broker::PublishError::Broker(BrokerError::Closed) => Error::Broker(BrokerError::Closed),
        other => Error::Publish(other),
    }
}
