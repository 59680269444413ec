//! `tasks`: lists the tasks of this program.

use clap::Args;
use serde::Serialize;
use taskq::definition::{Definition, Registry};

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// List the tasks that are linked into this program, with their parameters
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskq -A target/release/app tasks")]
pub(super) struct TasksCommand {}

/// A task in the answer to programs.
#[derive(Serialize)]
struct TaskRow {
    name: &'static str,
    parameters: Vec<ParameterRow>,
    result: &'static str,
    queue: Option<&'static str>,
    package: &'static str,
    file: &'static str,
    line: u32,
}

#[derive(Serialize)]
struct ParameterRow {
    name: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
}

impl TasksCommand {
    #[expect(clippy::unused_self, reason = "all commands are run alike")]
    pub(super) fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let registry = Registry::collect()?.require_tasks()?;
        let rows: Vec<TaskRow> = registry.iter().map(TaskRow::of).collect();
        session.output().table(&rows, ["TASK", "QUEUE", "TAKES AND GIVES"], |row| {
            [row.name.to_owned(), row.queue.unwrap_or("(default)").to_owned(), row.signature()]
        })?;
        Ok(Exit::Ok)
    }
}

impl TaskRow {
    fn of(task: &'static Definition) -> Self {
        let parameter = |parameter: &taskq::definition::Parameter| ParameterRow {
            name: parameter.name,
            type_name: parameter.type_name,
        };
        Self {
            name: task.name,
            parameters: task.parameters.iter().map(parameter).collect(),
            result: task.result,
            queue: task.options.queue,
            package: task.location.package,
            file: task.location.file,
            line: task.location.line,
        }
    }

    /// Returns the signature, for example `(x: i64, y: i64) -> i64`.
    fn signature(&self) -> String {
        let parameters: Vec<String> =
            self.parameters.iter().map(|parameter| format!("{}: {}", parameter.name, parameter.type_name)).collect();
        format!("({}) -> {}", parameters.join(", "), self.result)
    }
}
