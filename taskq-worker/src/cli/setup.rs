//! The tasks of a worker process, and what its program does to a worker before it runs them:
//! [`main_with`](super::main_with).

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use taskq::BoxError;
use taskq::definition::{Registry, RegistryError};
use taskq::internal::fault::full_message;

use super::exit::Exit;
use super::failure::Failure;
use crate::engine::WorkerBuilder;

type Prepare = dyn Fn(WorkerBuilder) -> LocalBoxFuture<'static, Result<WorkerBuilder, BoxError>> + Send + Sync;

/// The tasks of a worker process, and the function that prepares its worker. By default the tasks are those linked into
/// the program, and nothing is prepared.
#[derive(Clone, Default)]
pub struct Setup {
    registry: Option<Registry>,
    prepare: Option<Arc<Prepare>>,
}

impl Setup {
    /// Prepares each worker with `prepare`.
    pub fn new<Prepared, E>(prepare: impl Fn(WorkerBuilder) -> Prepared + Send + Sync + 'static) -> Self
    where
        Prepared: Future<Output = Result<WorkerBuilder, E>> + 'static,
        E: Into<BoxError>,
    {
        let prepare: Arc<Prepare> = Arc::new(move |worker| {
            let prepared = prepare(worker);
            Box::pin(async move { prepared.await.map_err(Into::into) })
        });
        Self { registry: None, prepare: Some(prepare) }
    }

    /// Runs these tasks in place of those linked into the program.
    #[must_use]
    pub fn with_registry(self, registry: Registry) -> Self {
        Self { registry: Some(registry), ..self }
    }

    /// Returns the tasks. Fails if there are none.
    pub(super) fn registry(&self) -> Result<Registry, RegistryError> {
        match &self.registry {
            Some(registry) => Ok(registry.clone()),
            None => Registry::collect()?.require_tasks(),
        }
    }

    /// Prepares a worker.
    pub(super) async fn apply(&self, worker: WorkerBuilder) -> Result<WorkerBuilder, Failure> {
        let Some(prepare) = &self.prepare else { return Ok(worker) };
        prepare(worker).await.map_err(|error| {
            let why = format!("the program's own setup failed: {}", full_message(&*error));
            // Most likely a server of the program's own: a later start may come through.
            Failure::new(Exit::Unreachable, why)
        })
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.prepare.is_some() { "Setup(of the program)" } else { "Setup(none)" })
    }
}
