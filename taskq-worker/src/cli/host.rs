//! The surroundings of a process that runs tasks: a supervisor, or nothing.

use std::collections::BTreeMap;

use taskq::Client;

use super::failure::Failure;
use super::lifecycle_lines::{self, WorkerFacts};
use super::session::Session;
use super::signals::Stops;
use crate::engine::{WorkerBuilder, WorkerControl, WorkerSummary};
use crate::telemetry;

/// The surroundings to which a process that runs tasks reports, and from which it takes requests.
pub(super) trait WorkerHost {
    /// Returns whether the log goes to a terminal.
    fn has_terminal(&self) -> bool;

    /// Returns whether this is the first process of the worker, which says what all would say.
    fn is_first(&self) -> bool;

    /// Returns whether this process itself must watch for a new build.
    fn watches_for_builds(&self) -> bool;

    /// Starts to listen for requests to stop, and passes them on to `stops`.
    fn listen(&self, stops: &Stops);

    /// Adds to the worker what the surroundings ask of it.
    fn build(&self, builder: WorkerBuilder, concurrency: usize) -> Result<WorkerBuilder, Failure>;

    /// Reports that the process takes work.
    async fn ready(
        &self,
        session: &Session,
        facts: &WorkerFacts,
        client: &Client,
        control: WorkerControl,
    ) -> Result<(), Failure>;

    /// Reports that the process was asked to stop before it took any work.
    async fn stopped_before_ready(&self);

    /// Reports what the process did, as the last thing.
    async fn ended(&self, session: &Session, node: &str, summary: &WorkerSummary) -> Result<(), Failure>;
}

/// No surroundings: the process is the whole worker.
pub(super) struct Unsupervised;

impl WorkerHost for Unsupervised {
    fn has_terminal(&self) -> bool {
        telemetry::has_terminal()
    }

    fn is_first(&self) -> bool {
        true
    }

    fn watches_for_builds(&self) -> bool {
        true
    }

    fn listen(&self, _stops: &Stops) {}

    fn build(&self, builder: WorkerBuilder, _concurrency: usize) -> Result<WorkerBuilder, Failure> {
        Ok(builder)
    }

    async fn ready(
        &self,
        session: &Session,
        facts: &WorkerFacts,
        _client: &Client,
        _control: WorkerControl,
    ) -> Result<(), Failure> {
        lifecycle_lines::worker_ready(session.output(), facts, 1);
        #[cfg(all(unix, feature = "supervise"))]
        super::streams::replace_when_unread().map_err(|error| Failure::cannot_start(&error))?;
        Ok(())
    }

    async fn stopped_before_ready(&self) {}

    async fn ended(&self, session: &Session, node: &str, summary: &WorkerSummary) -> Result<(), Failure> {
        lifecycle_lines::worker_ended(session.output(), node, &counts(summary)?);
        Ok(())
    }
}

/// Returns the numbers of a summary by name.
fn counts(summary: &WorkerSummary) -> Result<BTreeMap<String, u64>, Failure> {
    let named = serde_json::to_value(summary).map_err(|error| Failure::unwritten(&error.into()))?;
    let counts = named.as_object().into_iter().flatten();
    Ok(counts.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect())
}
