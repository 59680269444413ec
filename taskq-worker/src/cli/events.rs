//! `events`: shows what happens to tasks and workers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Map, Value};
use taskq::remote::Event;

use super::exit::Exit;
use super::failure::Failure;
use super::output::short;
use super::session::Session;
use super::values;

/// The longest text of a field, in characters.
const FIELD_MAX: usize = 60;

/// The fields that have a place of their own in a line, or say nothing to people.
const ELSEWHERE: [&str; 11] = [
    "hostname",
    "timestamp",
    "uuid",
    "clock",
    "pid",
    "utcoffset",
    "sw_ident",
    "sw_ver",
    "sw_sys",
    "traceback",
    "root_id",
];

/// Show what happens to tasks and workers, live: those of taskq, and Celery's on the same broker
///
/// Workers tell events of tasks only while somebody asks for them, as this command does, or with `worker -E`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  taskq events\n  taskq events --json --timeout 10s")]
pub(super) struct EventsCommand {
    /// End after this time [default: never]
    #[arg(short, long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
}

impl EventsCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let client = session.client().await?;
        let mut events = client.control().events().await?;
        let show = async {
            while let Some(event) = events.next().await {
                session.output().say(&document(&event), |_| line(&event))?;
            }
            Ok(())
        };
        let shown = match self.timeout {
            Some(timeout) => tokio::time::timeout(timeout, show).await.unwrap_or(Ok(())),
            None => show.await,
        };
        client.close().await;
        shown.map(|()| Exit::Ok)
    }
}

/// The event as it was told.
fn document(event: &Event) -> Map<String, Value> {
    let mut document = event.fields.clone();
    document.insert("type".to_owned(), event.kind.clone().into());
    document
}

/// The event as a line: when, where, what, which task, and the rest.
fn line(event: &Event) -> String {
    let at = event.fields.get("timestamp").and_then(Value::as_f64).unwrap_or_default();
    let at = DateTime::<Utc>::from_timestamp_micros((at * 1e6) as i64).unwrap_or_default();
    let rest = event.fields.iter().filter(|(name, value)| !ELSEWHERE.contains(&name.as_str()) && !value.is_null());
    let rest = rest.map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!(" {name}={}", short(&text, FIELD_MAX))
    });
    let node = event.text("hostname").unwrap_or("?");
    let uuid = event.text("uuid").map(|uuid| format!(" {uuid}")).unwrap_or_default();
    format!("{} {node} {}{uuid}{}", at.format("%H:%M:%S%.3f"), event.kind, rest.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event::new("task-succeeded")
            .with("hostname", "w@here")
            .with("timestamp", 1_795_226_725.516)
            .with("uuid", "7")
            .with("clock", 3)
            .with("result", "5\n6")
            .with("runtime", 0.25);
        assert_eq!(line(&event), "02:05:25.516 w@here task-succeeded 7 result=5\\n6 runtime=0.25");
        assert_eq!(document(&event)["type"], "task-succeeded");
    }
}
