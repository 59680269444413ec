//! `torture-worker`: a worker of a run of `torture`. Hidden, since only `torture` starts it.

use std::path::PathBuf;

use clap::Args;
use taskq_worker::internal::cli::{Exit, Failure, Session, Setup, WorkerCommand};

use crate::torture::tasks::{Witness, registry};

/// Run the tasks of `torture`; only `torture` starts it
#[derive(Debug, Args)]
#[command(after_help = "Example: torture starts it by itself.")]
pub(super) struct TortureWorker {
    /// The ledger of the run
    ledger: PathBuf,
    #[command(flatten)]
    worker: WorkerCommand,
}

impl TortureWorker {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let ledger = self.ledger;
        let setup = Setup::new(move |worker| {
            let witness = Witness::open(&ledger);
            async move { witness.map(|witness| worker.state(witness)) }
        });
        self.worker.run_tasks_of(session, &setup.with_registry(registry()))
    }
}
