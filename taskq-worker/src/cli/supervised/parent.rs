//! The parent's side: what the command line says, for the supervisor, and what comes of it, for the caller.

use std::path::Path;

use taskq::client::host_name;
use tokio::sync::mpsc;

use super::super::announce::{self, Facts};
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::reload::Executable;
use super::super::session::Session;
use super::super::worker::{Worker, cannot_start};
use crate::supervise::health::Target;
use crate::supervise::policy::Limits;
use crate::supervise::{self, Outcome, Plan, Program, Setup, unix};

/// The exit codes of a child that say why no start will come through. Unreachable servers are among them for as long as
/// nothing has ever worked: whoever has mistyped a URL wants to know now.
const REFUSALS: [Exit; 6] =
    [Exit::Usage, Exit::Config, Exit::Unreachable, Exit::NotFound, Exit::TimedOut, Exit::CannotStart];

/// Supervises processes that run tasks, as the command line says.
pub(in super::super) fn run(worker: &Worker, session: &Session) -> Result<Exit, Failure> {
    if worker.max_memory_per_child.is_some() && unix::memory_of(std::process::id()).is_none() {
        return Err(Failure::new(
            Exit::Usage,
            "--max-memory-per-child: this system does not say how much memory a process has",
        ));
    }
    let program = Program::of_this_process("--supervised-by").map_err(|error| cannot_start(&error))?;
    let (host, processes) = (host_name(), usize::from(worker.processes));
    let node = node_name(worker.hostname.as_deref(), &host);
    // One thread, which this process has already.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| cannot_start(&error))?;
    let finished = runtime.block_on(async {
        let setup = Setup {
            plan: Plan {
                processes,
                grace: worker.grace,
                limits: Limits { tasks_max: worker.max_tasks_per_child, memory_max: worker.max_memory_per_child },
                refusals: REFUSALS.map(|exit| i32::from(exit.code())),
            },
            nodes: (processes > 1).then(|| (1..=processes).map(|number| numbered(&node, number)).collect()),
            node: node.clone(),
            host,
            state_dir: worker.state_dir.clone(),
            health: worker.health.as_deref().map(Target::of),
            new_builds: if worker.watch { new_builds(program.path()) } else { mpsc::channel(1).1 },
            program,
        };
        let say_ready = |ready: &serde_json::Value| {
            // A child of another build may say other things; what matters is that it is ready.
            let facts = Facts { node: node.clone(), ..serde_json::from_value(ready.clone()).unwrap_or_default() };
            announce::ready(session.output(), &facts, processes);
        };
        supervise::run(setup, say_ready).await
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
            announce::ended(session.output(), &node, &counts);
            Ok(if interrupted { Exit::Interrupted } else { Exit::Ok })
        }
    }
}

/// Says each time that there is another build.
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

/// `name@host`, Celery's form.
fn node_name(name: Option<&str>, host: &str) -> String {
    match name {
        Some(name) if name.contains('@') => name.to_owned(),
        name => format!("{}@{host}", name.unwrap_or("taskq")),
    }
}

/// The name of one of several: `name.2@host`.
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
