//! `inspect`: asks the workers that run, taskq's and Celery's.

use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use serde_json::{Map, Value, json};
use taskq::TaskId;
use taskq::remote::Destination;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::values;

/// The questions.
const QUESTIONS: [&str; 12] = [
    "ping",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "registered",
    "stats",
    "active_queues",
    "conf",
    "report",
    "query_task",
    "clock",
];

/// Ask the workers that run: those of taskq, and Celery's on the same broker
///
/// Nobody knows how many workers there are, so answers are collected for a second. A task that is not due yet waits in
/// the broker, and no worker knows of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  taskq inspect ping\n  taskq inspect active --destination mailer@host1\n  \
                        taskq inspect query_task 0199c0a8-7d6e-7000-8000-2f1d3c4b5a69")]
pub(super) struct InspectCommand {
    /// The question
    #[arg(value_parser = PossibleValuesParser::new(QUESTIONS))]
    question: String,
    /// The ids of tasks, for the question `query_task`
    #[arg(value_parser = values::task_id)]
    ids: Vec<TaskId>,
    /// Ask this worker only, by its node name; several with commas between them
    #[arg(short, long, value_delimiter = ',', value_name = "NODE")]
    destination: Vec<String>,
    /// The time for which answers are collected
    #[arg(short, long, default_value = "1s", value_parser = values::duration)]
    timeout: Duration,
}

/// The answer of one worker.
#[derive(Debug, Serialize)]
struct NodeLine {
    node: String,
    answer: Value,
}

impl InspectCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let mut arguments = Map::new();
        if !self.ids.is_empty() {
            arguments.insert("ids".to_owned(), json!(self.ids));
        }
        let mut control = client.control().timeout(self.timeout);
        if !self.destination.is_empty() {
            control = control.destination(Destination::Nodes(self.destination.clone()));
        }
        let answers = control.ask(&self.question, arguments).await;
        client.close().await;
        let mut lines: Vec<NodeLine> =
            answers?.into_iter().map(|answer| NodeLine { node: answer.node, answer: answer.value }).collect();
        lines.sort_unstable_by(|one, other| one.node.cmp(&other.node));
        if lines.is_empty() {
            let asked = humantime::format_duration(self.timeout);
            session.output().note(&format!("no worker has answered within {asked}"))?;
            return Ok(Exit::NotFound);
        }
        session.output().table(&lines, ["NODE", "ANSWER"], |line| [line.node.clone(), line.answer.to_string()])?;
        Ok(Exit::Ok)
    }
}
