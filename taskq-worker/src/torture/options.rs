//! What a run is to be.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::faults::{Fault, Need};
use super::plan::Load;

/// What a run is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What the plan is drawn from.
    pub(crate) seed: u64,
    /// How many tasks are sent, beside those that faults add, if not as many as the faults need.
    pub(crate) tasks: Option<usize>,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// How many tasks a process runs at once.
    pub(crate) concurrency: u16,
    /// How many processes a supervised worker has; `None` for workers that are one process each.
    pub(crate) processes: Option<u16>,
    /// What is done to them.
    pub(crate) faults: Vec<Fault>,
    /// How often each fault strikes, if not as often as it does by itself.
    pub(crate) times: Option<u32>,
    /// How long faults last that last.
    pub(crate) hold: Duration,
    /// How long everything may take to end once the last fault is over.
    pub(crate) patience: Duration,
    /// Restarts the broker.
    pub(crate) restart_broker: Option<String>,
    /// Restarts the result backend.
    pub(crate) restart_results: Option<String>,
    /// What workers are given beside the usual, `--config` for one.
    pub(crate) worker_arguments: Vec<OsString>,
    /// The folder of the ledger and the logs. Kept if it is named here, or if the promise was broken.
    pub(crate) folder: Option<PathBuf>,
}

impl Options {
    /// What stands in the way of this run, with the mend.
    pub(crate) fn obstacle(&self, broker: &str, results: Option<&str>) -> Option<String> {
        self.faults.iter().find_map(|fault| {
            let is_there = match fault.need() {
                Need::Nothing => true,
                Need::Supervisor => self.processes.is_some(),
                Need::Rabbit | Need::BrokerByTcp => broker.starts_with("amqp://"),
                Need::ResultsByTcp => results.is_some_and(|results| results.starts_with("redis://")),
                Need::BrokerHook => self.restart_broker.is_some(),
                Need::ResultsHook => self.restart_results.is_some(),
            };
            (!is_there).then(|| format!("the fault {fault} needs {}", fault.need()))
        })
    }

    /// How much there is to do.
    pub(super) fn load(&self) -> Load {
        let processes = usize::from(self.processes.unwrap_or(1));
        Load { tasks: self.tasks, slots: self.workers * processes * usize::from(self.concurrency) }
    }

    /// How long a worker's tasks may go on once it drains.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(if self.faults.contains(&Fault::Grace) { 2 } else { 30 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_possible_is_said_before() {
        let options = |fault| Options {
            seed: 1,
            tasks: None,
            workers: 1,
            concurrency: 1,
            processes: None,
            faults: vec![Fault::Kill, fault],
            times: None,
            hold: Duration::ZERO,
            patience: Duration::ZERO,
            restart_broker: None,
            restart_results: Some("true".to_owned()),
            worker_arguments: Vec::new(),
            folder: None,
        };
        let obstacle = |fault, broker, results| options(fault).obstacle(broker, results);
        assert_eq!(obstacle(Fault::Kill, "sqlite:x", None), None);
        assert_eq!(obstacle(Fault::Resets, "amqp://h", None), None);
        assert_eq!(obstacle(Fault::CutResults, "amqp://h", Some("redis://h")), None);
        assert_eq!(obstacle(Fault::RestartResults, "amqp://h", None), None);
        for (fault, needs) in [
            (Fault::Resets, "the fault resets needs an amqp:// broker"),
            (Fault::CutResults, "the fault cut-results needs redis:// results"),
            (Fault::Spin, "the fault spin needs a supervised worker"),
            (Fault::RestartBroker, "the fault restart-broker needs --restart-broker"),
        ] {
            assert_eq!(obstacle(fault, "sqlite:x", None).as_deref(), Some(needs));
        }
    }
}
