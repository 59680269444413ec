//! The queues of a client: the declaration of each, and the set of those that have been declared.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::broker::{Broker, BrokerError, DEAD_QUEUE, Declared, PublishError, QUARANTINE_SUFFIX, QueueKind, QueueSpec};
use crate::error::Error;
use crate::settings::{QueueSettings, Settings};

/// The queue that belongs to Celery by its name alone.
const CELERY_QUEUE: &str = "celery";

/// The queues as the settings describe them, and those that have been declared.
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

    /// Returns the declaration of `queue`.
    pub(super) fn spec(&self, queue: &str) -> QueueSpec {
        match queue.strip_suffix(QUARANTINE_SUFFIX) {
            // The quarantine of a queue is declared like the queue, except that Celery does not use it.
            Some(origin) if !self.queues.contains_key(queue) => {
                let like = self.spec(origin);
                let kind = if like.kind == QueueKind::Celery { QueueKind::default() } else { like.kind };
                QueueSpec { name: queue.into(), kind, ..like }
            }
            _ => self.own_spec(queue),
        }
    }

    fn own_spec(&self, queue: &str) -> QueueSpec {
        let settings = self.queues.get(queue).copied().unwrap_or_default();
        let celery = queue == CELERY_QUEUE || self.interop.iter().any(|name| name == queue);
        let kind = if celery { QueueKind::Celery } else { settings.kind };
        QueueSpec { name: queue.into(), kind, max_priority: settings.max_priority }
    }

    /// Returns the name of `queue` as the broker port takes it, if it was declared before. The hot path: no waiting.
    pub(super) fn known(&self, queue: &str) -> Option<Arc<str>> {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    /// Returns the name of `queue` as the broker port takes it, declaring the queue first if it was not declared
    /// before.
    pub(super) async fn declared(&self, broker: &dyn Broker, queue: &str) -> Result<Arc<str>, Error> {
        if let Some(name) = self.known(queue) {
            return Ok(name);
        }
        self.declare_as(broker, &self.spec(queue)).await
    }

    /// Declares a queue as `spec` describes it, regardless of the settings. Of taskq's own queues the dead set alone is
    /// declared here.
    pub(super) async fn declare_as(&self, broker: &dyn Broker, spec: &QueueSpec) -> Result<Arc<str>, Error> {
        if *spec.name != *DEAD_QUEUE {
            QueueSpec::check_named(&spec.name).map_err(Error::Broker)?;
        }
        match broker.declare(spec).await? {
            Declared::AsAsked | Declared::Found => {}
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

    /// Forgets that `queue` was declared: a message could not be routed to it, so it was deleted. The next call
    /// declares it again.
    pub(super) fn forget(&self, queue: &str) {
        self.declared.write().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    /// Converts the error of a publish, and forgets a queue to which nothing could be routed.
    pub(super) fn publish_error(&self, error: PublishError) -> Error {
        match error {
            PublishError::Unroutable { queue } => {
                self.forget(&queue);
                Error::Publish(PublishError::Unroutable { queue })
            }
            PublishError::Broker(BrokerError::Closed) => Error::Broker(BrokerError::Closed),
            other => Error::Publish(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quarantine_of_a_queue_is_declared_like_the_queue() {
        let mut settings = Settings::default();
        settings.queues.insert("mail".into(), QueueSettings { kind: QueueKind::Classic, max_priority: Some(9) });
        settings.queues.insert("odd.quarantine".into(), QueueSettings { kind: QueueKind::Classic, max_priority: None });
        settings.interop.push("python".into());
        let router = Router::new(&settings);
        let spec = |name: &str, kind, max_priority| QueueSpec { name: name.into(), kind, max_priority };
        assert_eq!(router.spec("default.quarantine"), spec("default.quarantine", QueueKind::Quorum, None));
        assert_eq!(router.spec("mail.quarantine"), spec("mail.quarantine", QueueKind::Classic, Some(9)));
        assert_eq!(router.spec("python"), spec("python", QueueKind::Celery, None));
        assert_eq!(router.spec("python.quarantine"), spec("python.quarantine", QueueKind::Quorum, None));
        assert_eq!(router.spec("celery.quarantine"), spec("celery.quarantine", QueueKind::Quorum, None));
        assert_eq!(
            router.spec("odd.quarantine"),
            spec("odd.quarantine", QueueKind::Classic, None),
            "its own settings count"
        );
    }
}
