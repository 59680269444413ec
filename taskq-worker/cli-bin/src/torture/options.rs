//! The options of a run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::catalog::{Fault, Need};
use super::plan::Load;
use super::processes;

/// The options of a run of `torture`.
#[derive(Debug, Clone)]
pub struct TortureOptions {
    /// The seed of the plan.
    pub seed: u64,
    /// The number of tasks, not counting those that faults add; by default as many as the faults need.
    pub tasks: Option<usize>,
    /// The number of workers.
    pub workers: usize,
    /// The number of tasks that a process runs at the same time.
    pub concurrency: u16,
    /// The number of processes of a supervised worker; `None` for workers of one process without a supervisor.
    pub processes: Option<u16>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// How often each fault strikes; by default as often as the catalog says.
    pub times: Option<u32>,
    /// How long lasting faults are held.
    pub hold: Duration,
    /// The longest time without the end of any task once the last fault is over.
    pub patience: Duration,
    /// A shell command that restarts the broker.
    pub restart_broker: Option<String>,
    /// A shell command that takes a node of the broker away and brings it back.
    pub fail_node: Option<String>,
    /// A shell command that restarts the result backend.
    pub restart_results: Option<String>,
    /// The longest time in which no send may be accepted.
    pub pause_max: Option<Duration>,
    /// Further arguments of the workers, for example `--config FILE`.
    pub worker_arguments: Vec<OsString>,
    /// The folder of the ledger and the logs; kept if it is given here, or if the promise was broken.
    pub folder: Option<PathBuf>,
}

impl TortureOptions {
    /// Returns why this run is not possible, with the remedy; `None` if it is.
    pub fn obstacle(&self, broker: &str, results: Option<&str>) -> Option<String> {
        let has_scheme = |url: &str, schemes: [&str; 2]| schemes.iter().any(|scheme| url.starts_with(scheme));
        self.faults.iter().find_map(|fault| {
            let is_there = match fault.need() {
                Need::Nothing => true,
                Need::Supervisor => self.processes.is_some(),
                Need::Rabbit | Need::BrokerByTcp => has_scheme(broker, ["amqp://", "amqps://"]),
                Need::ResultsByTcp => results.is_some_and(|results| has_scheme(results, ["redis://", "rediss://"])),
                Need::BrokerHook => self.restart_broker.is_some(),
                Need::NodeHook => self.fail_node.is_some(),
                Need::ResultsHook => self.restart_results.is_some(),
                Need::FileAndRoot => broker.starts_with("sqlite:") && processes::can_act_as_another_user(),
            };
            (!is_there).then(|| format!("the fault {fault} needs {}", fault.need()))
        })
    }

    /// Returns the amount of work.
    pub(super) fn load(&self) -> Load {
        let processes = usize::from(self.processes.unwrap_or(1));
        Load { tasks: self.tasks, slots: self.workers * processes * usize::from(self.concurrency) }
    }

    /// Returns how long tasks may go on once their worker drains.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(if self.faults.contains(&Fault::Grace) { 2 } else { 30 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_possible_is_said_before() {
        let options = |fault| TortureOptions {
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
            fail_node: None,
            restart_results: Some("true".to_owned()),
            pause_max: None,
            worker_arguments: Vec::new(),
            folder: None,
        };
        let obstacle = |fault, broker, results| options(fault).obstacle(broker, results);
        assert_eq!(obstacle(Fault::Kill, "sqlite:x", None), None);
        assert_eq!(obstacle(Fault::Resets, "amqp://h", None), None);
        assert_eq!(obstacle(Fault::CutResults, "amqp://h", Some("redis://h")), None);
        assert_eq!(obstacle(Fault::CutResults, "amqps://h", Some("rediss://h")), None);
        assert_eq!(obstacle(Fault::RestartResults, "amqp://h", None), None);
        for (fault, needs) in [
            (Fault::Resets, "the fault resets needs an amqp:// or amqps:// broker"),
            (Fault::CutResults, "the fault cut-results needs redis:// or rediss:// results"),
            (Fault::Spin, "the fault spin needs a supervised worker"),
            (Fault::RestartBroker, "the fault restart-broker needs --restart-broker"),
            (Fault::FailNode, "the fault fail-node needs --fail-node"),
        ] {
            assert_eq!(obstacle(fault, "sqlite:x", None).as_deref(), Some(needs));
        }
    }
}
