//! What a program does to its workers before they run tasks: [`main_with`](super::main_with).

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use taskq::BoxError;
use taskq::internal::fault::full_message;

use super::exit::Exit;
use super::failure::Failure;
use crate::engine::WorkerBuilder;

type Prepare = dyn Fn(WorkerBuilder) -> LocalBoxFuture<'static, Result<WorkerBuilder, BoxError>> + Send + Sync;

/// What is done to each worker; by default nothing.
#[derive(Clone, Default)]
pub(super) struct Setup(Option<Arc<Prepare>>);

impl Setup {
    pub(super) fn new<Prepared, E>(prepare: impl Fn(WorkerBuilder) -> Prepared + Send + Sync + 'static) -> Self
    where
        Prepared: Future<Output = Result<WorkerBuilder, E>> + 'static,
        E: Into<BoxError>,
    {
        Self(Some(Arc::new(move |worker| {
            let prepared = prepare(worker);
            Box::pin(async move { prepared.await.map_err(Into::into) })
        })))
    }

    /// The worker with what the program gives it.
    pub(super) async fn apply(&self, worker: WorkerBuilder) -> Result<WorkerBuilder, Failure> {
        let Some(prepare) = &self.0 else { return Ok(worker) };
        prepare(worker).await.map_err(|error| {
            let why = format!("the program's own setup failed: {}", full_message(&*error));
            // Most likely a server of the program's own: a later start may come through.
            Failure::new(Exit::Unreachable, why)
        })
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Setup(of the program)" } else { "Setup(none)" })
    }
}
