//! `tasks`: what this program can run.

use clap::Args;
use serde::Serialize;
use taskq::definition::{Definition, Registry};

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;

/// The tasks that are linked into this program, with their parameters
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taskq -A target/release/app tasks")]
pub(super) struct TasksCommand {}

/// A task, for programs.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    parameters: Vec<Parameter>,
    result: &'static str,
    queue: Option<&'static str>,
    package: &'static str,
    file: &'static str,
    line: u32,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    #[serde(rename = "type")]
    type_name: &'static str,
}

impl TasksCommand {
    #[expect(clippy::unused_self, reason = "all commands are run alike")]
    pub(super) fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let registry = Registry::collect()?.not_empty()?;
        let rows: Vec<Row> = registry.iter().map(Row::of).collect();
        session.output().table(&rows, ["TASK", "QUEUE", "TAKES AND GIVES"], |row| {
            [row.name.to_owned(), row.queue.unwrap_or("(default)").to_owned(), row.signature()]
        })?;
        Ok(Exit::Ok)
    }
}

impl Row {
    fn of(task: &'static Definition) -> Self {
        let parameter = |parameter: &taskq::definition::Parameter| Parameter {
            name: parameter.name,
            type_name: parameter.type_name,
        };
        Self {
            name: task.name,
            parameters: task.parameters.iter().map(parameter).collect(),
            result: task.result,
            queue: task.options.queue,
            package: task.place.package,
            file: task.place.file,
            line: task.place.line,
        }
    }

    /// `(x: i64, y: i64) -> i64`.
    fn signature(&self) -> String {
        let parameters: Vec<String> =
            self.parameters.iter().map(|parameter| format!("{}: {}", parameter.name, parameter.type_name)).collect();
        format!("({}) -> {}", parameters.join(", "), self.result)
    }
}
