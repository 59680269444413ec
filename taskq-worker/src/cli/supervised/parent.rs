//! The parent's side of a supervised worker: runs the supervisor with the options of the command line.

use std::path::Path;

use taskq::internal::{host_name, shortage};
use tokio::sync::mpsc;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::handed_over::HandedOver;
use super::super::lifecycle_lines::{self, WorkerFacts};
use super::super::reload::Executable;
use super::super::session::Session;
use super::super::worker_options::WorkerOptions;
use crate::supervise::health::HealthTarget;
use crate::supervise::policy::Limits;
use crate::supervise::{self, Outcome, Plan, Program, SupervisorSetup, unix};
use crate::telemetry;

/// The exit codes by which a child says that no start will succeed. Unreachable servers are among them as long as no
/// child was ever ready: a mistyped URL must be reported now.
const REFUSALS: [Exit; 6] =
    [Exit::Usage, Exit::Config, Exit::Unreachable, Exit::NotFound, Exit::TimedOut, Exit::CannotStart];

/// Supervises processes that run tasks, until the worker is told to stop.
pub(in super::super) fn run(options: &WorkerOptions, session: &Session) -> Result<Exit, Failure> {
    if options.max_memory_per_child.is_some() && unix::memory_of(std::process::id()).is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "--max-memory-per-child: this system does not say how much memory a process has",
        ));
    }
    let HandedOver { arguments, variables } = HandedOver::of_this_process();
    let program = Program::of_this_process("--supervised-by", arguments, variables);
    let program = program.map_err(|error| Failure::cannot_start(&error))?;
    let (host, processes) = (host_name(), options.processes);
    let node = node_name(options.node.as_deref(), &host);
    // One thread, which this process has already.
    shortage::require_descriptors().map_err(|error| Failure::cannot_start(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::cannot_start(&error))?;
    let finished = runtime.block_on(async {
        let setup = SupervisorSetup {
            plan: Plan {
                processes,
                grace: options.grace,
                limits: Limits { tasks_max: options.max_tasks_per_child, memory_max: options.max_memory_per_child },
                refusals: REFUSALS.map(|exit| i32::from(exit.code())),
            },
            nodes: (processes > 1).then(|| (1..=processes).map(|number| numbered(&node, number)).collect()),
            node: node.clone(),
            host,
            state_dir: options.state_dir.clone(),
            health: options.health.as_deref().map(HealthTarget::of),
            new_builds: if options.watch { new_builds(program.path()) } else { mpsc::channel(1).1 },
            line_of_child: telemetry::line_of_other,
            program,
        };
        let announce_ready = |ready: &serde_json::Value| {
            // A child of another build may report other facts; that it is ready is what matters.
            let facts = WorkerFacts { node: node.clone(), ..serde_json::from_value(ready.clone()).unwrap_or_default() };
            lifecycle_lines::worker_ready(session.output(), &facts, processes);
        };
        supervise::run(setup, announce_ready).await
    });
    let finished = finished.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    match finished.outcome {
        Outcome::Refused(code) => {
            Ok(REFUSALS.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Exit::CannotStart))
        }
        Outcome::GaveUp(how) => {
            Err(Failure::new(Exit::CrashLoop, format!("no process of this worker became ready; the last one {how}")))
        }
        Outcome::AtOnce => Ok(Exit::Interrupted),
        Outcome::Drained { interrupted } => {
            let mut counts = finished.summary;
            counts.insert("deaths".to_owned(), finished.deaths);
            lifecycle_lines::worker_ended(session.output(), &node, &counts);
            Ok(if interrupted { Exit::Interrupted } else { Exit::Ok })
        }
    }
}

/// Reports each new build of the program.
fn new_builds(path: &Path) -> mpsc::Receiver<()> {
    let (say, told) = mpsc::channel(1);
    let mut executable = Executable::at(path.to_owned());
    tokio::spawn(async move {
        loop {
            executable.replaced().await;
            executable = executable.anew();
            if say.send(()).await.is_err() {
                return;
            }
        }
    });
    told
}

/// Returns the node name in Celery's form, `name@host`.
fn node_name(name: Option<&str>, host: &str) -> String {
    match name {
        Some(name) if name.contains('@') => name.to_owned(),
        name => format!("{}@{host}", name.unwrap_or("taskq")),
    }
}

/// Returns the node name of one of several processes: `name.2@host`.
fn numbered(node: &str, number: usize) -> String {
    match node.split_once('@') {
        Some((name, host)) => format!("{name}.{number}@{host}"),
        None => format!("{node}.{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names() {
        for (given, expected, second) in [
            (None, "taskq@here", "taskq.2@here"),
            (Some("mailer"), "mailer@here", "mailer.2@here"),
            (Some("mailer@there"), "mailer@there", "mailer.2@there"),
        ] {
            let node = node_name(given, "here");
            assert_eq!((&*node, &*numbered(&node, 2)), (expected, second));
        }
    }
}
