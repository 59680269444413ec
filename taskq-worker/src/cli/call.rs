//! `call`: enqueues a task by name.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use taskq::TaskId;
use taskq::canvas::ArgumentList;
use taskq::definition::{Registry, TaskOptions};
use taskq::internal::misspelled;
use taskq::message::Json;

use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use super::values::NamedArguments;
use super::{outcome, values};

/// Enqueue a task by name, with JSON arguments
///
/// Prints the task's id once the broker has confirmed the message: from then on it runs at least once. The task need
/// not be one of this program's; if it is, its arguments are checked, and its queue, priority and expiry hold unless
/// flags say otherwise.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq call shop.add 2 3 --wait
  taskq call shop.greet Ada --kwargs '{\"greeting\": \"Good morning\"}' --countdown 10s
  taskq call shop.greet '\"42\"'              a text that would be a number otherwise
  id=$(taskq call shop.add 2 3 | jq -r .id)")]
pub(super) struct CallCommand {
    /// The task's name, for example shop.add
    name: String,
    /// The arguments by position: JSON, or plain text where it is not JSON
    #[arg(value_name = "ARGS", allow_negative_numbers = true, value_parser = values::json_or_text)]
    arguments: Vec<Json>,
    /// The arguments by name, a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::object)]
    kwargs: Option<NamedArguments>,
    /// The queue to send it to [default: the task's, else the default queue]
    #[arg(long, value_name = "NAME", value_parser = values::queue)]
    queue: Option<String>,
    /// Run it no earlier than this long from now, for example 10s
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "eta")]
    countdown: Option<Duration>,
    /// Run it no earlier than at this time, for example 2030-01-31T08:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = values::moment)]
    eta: Option<DateTime<Utc>>,
    /// Do not begin it later than this long from now
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    expires: Option<Duration>,
    /// 0 to 255, larger first, on queues that know priorities
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// The task's id [default: a fresh one]
    #[arg(long, value_parser = values::task_id)]
    id: Option<TaskId>,
    /// The task belongs to another program, or another build: its name and arguments are not checked
    #[arg(long)]
    foreign: bool,
    /// Wait for the result and print it, for so long [default: the setting `get_timeout`, 1h]
    #[arg(long, value_name = "TIMEOUT", value_parser = values::duration)]
    #[expect(clippy::option_option, reason = "whether the flag is there, and whether it has a value")]
    wait: Option<Option<Duration>>,
}

/// The answer to a program about a task that was sent.
#[derive(Serialize)]
struct SentCall<'a> {
    id: &'a TaskId,
    task: &'a str,
}

/// Checks a call of a task of this program, as beat does with entries. A name that is not one of its tasks' may be that
/// of another program's, unless it differs from one by a letter or two.
fn check(name: &str, positional: &[Json], named: &NamedArguments, registry: &Registry) -> Result<(), String> {
    let Some(definition) = registry.get(name) else {
        return match misspelled(name, registry.iter().map(|task| task.name)) {
            Some(near) => Err(format!(
                "there is no task `{name}` in this program; did you mean `{near}`? For a task of another program add --foreign"
            )),
            None => Ok(()),
        };
    };
    definition.check_raw_arguments(positional, named).map_err(|error| {
        let is_number_for_text =
            positional.iter().any(|json| !json.get().starts_with('"')) && error.to_string().contains("string");
        let remedy = if is_number_for_text { "; a text that looks like JSON is written as '\"42\"'" } else { "" };
        format!("{error}{remedy}; nothing was sent. If the workers are of another build, --foreign sends it unchecked")
    })
}

impl CallCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        let registry = Registry::collect()?;
        let call = self.call(&registry)?;
        let client = session.client().await?;
        if self.wait.is_some() {
            // A missing backend has to be reported before the task is sent.
            client.results()?;
        }
        let handle = call.send(&client).await?;
        let Some(timeout) = self.wait else {
            client.close().await;
            let sent = SentCall { id: handle.id(), task: &self.name };
            let written = session.output().say(&sent, |sent| sent.id.to_string());
            written.map_err(|failure| failure.after(|| format!("task {} was sent", handle.id())))?;
            return Ok(Exit::Ok);
        };
        let timeout = timeout.unwrap_or(client.settings().get_timeout);
        let ended = outcome::wait(&client, handle.id(), timeout).await;
        client.close().await;
        outcome::answer(session.output(), &ended?)
    }

    /// Returns the call that the command line describes.
    fn call(&self, registry: &Registry) -> Result<taskq::Call<Value>, Failure> {
        let (positional, named) = (&self.arguments, self.kwargs.clone().unwrap_or_default());
        if !self.foreign {
            check(&self.name, positional, &named, registry).map_err(|mistake| Failure::new(Exit::Usage, mistake))?;
        }
        let arguments = ArgumentList::from_raw(positional, &named);
        let options = registry.get(&self.name).map_or(&TaskOptions::DEFAULT, |task| &task.options);
        if self.wait.is_some() && options.ignore_result {
            let text =
                format!("{} stores no result (`ignore_result`), so --wait would wait in vain; leave it out", self.name);
            return Err(Failure::new(Exit::Usage, text));
        }
        let mut call = taskq::Call::named(&self.name, arguments);
        if let Some(queue) = self.queue.clone().or(options.queue.map(str::to_owned)) {
            call = call.queue(queue);
        }
        if let Some(priority) = self.priority.or(options.priority) {
            call = call.priority(priority);
        }
        if let Some(after) = self.expires.or(options.expires) {
            call = call.expires(after);
        }
        if options.sealed {
            call = call.sealed();
        }
        if let Some(delay) = self.countdown {
            call = call.countdown(delay);
        }
        if let Some(time) = self.eta {
            call = call.eta(time);
        }
        if let Some(id) = &self.id {
            call = call.id(id.as_str());
        }
        Ok(call)
    }
}
