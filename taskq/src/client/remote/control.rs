//! Questions and orders to workers.

use std::fmt;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::Reach;
use crate::broker::{BrokerError, Heard};
use crate::client::Client;
use crate::codec::pidbox;
use crate::error::Error;
use crate::remote::{Destination, NodeReply, Request};

/// The time for which answers are waited for, as Celery has it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the workers that listen, and tells them what to do: those of taskq, and Celery's on the same broker.
///
/// Nobody knows how many workers there are, so answers are collected for a time, by default a second. See
/// `taskq inspect` and `taskq control` for the commands.
///
/// ```
/// # async fn example(client: taskq::Client) -> Result<(), taskq::Error> {
/// for answer in client.control().ask("ping", Default::default()).await? {
///     println!("{} is up", answer.node);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FleetControl {
    client: Client,
    destination: Destination,
    timeout: Duration,
    answers_max: usize,
}

impl Client {
    /// Returns the control of all workers that listen at the moment.
    pub fn control(&self) -> FleetControl {
        FleetControl { client: self.clone(), destination: Destination::All, timeout: TIMEOUT, answers_max: usize::MAX }
    }
}

impl FleetControl {
    /// Asks these workers only.
    #[must_use]
    pub fn destination(mut self, destination: Destination) -> Self {
        self.destination = destination;
        self
    }

    /// Collects answers for this time; a second by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for no more than this number of answers.
    #[must_use]
    pub fn limit(mut self, answers_max: usize) -> Self {
        self.answers_max = answers_max;
        self
    }

    /// Asks, and returns the answers that came in time, in their order. Where workers are named, it ends as soon as all
    /// of them have answered.
    ///
    /// # Errors
    ///
    /// If the broker cannot carry questions, or could not be asked. That no worker answers is none.
    pub async fn ask(&self, method: &str, arguments: Map<String, Value>) -> Result<Vec<NodeReply>, Error> {
        let answers_max = match &self.destination {
            Destination::Nodes(nodes) => self.answers_max.min(nodes.len()),
            _ => self.answers_max,
        };
        let reach = self.reach()?;
        let mut inbox = reach.means().open_inbox().await?;
        let ticket = Uuid::now_v7().to_string();
        let until = self.client.clock().now() + TimeDelta::from_std(self.timeout).unwrap_or(TimeDelta::MAX);
        let request = Request::new(method).with(|request| {
            request.arguments = arguments;
            request.destination = self.destination.clone();
            request.reply_to = Some(inbox.address.clone());
            request.ticket = Some(ticket.clone());
            request.expires = Some(until);
        });
        reach.means().tell(pidbox::encode_request(&request)).await?;
        let (deadline, mut answers) = (Instant::now() + self.timeout, Vec::new());
        while answers.len() < answers_max {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(Some(heard)) = crate::io::timeout_here(left, inbox.answers.next()).await else { break };
            let Heard::Message(message) = heard else { continue };
            match pidbox::decode_answer(&message) {
                Ok(answer) if answer.ticket.as_ref() == Some(&ticket) => answers.push(answer),
                Ok(_) => {}
                Err(why) => tracing::warn!(why, "an answer that cannot be read is passed over"),
            }
        }
        Ok(answers)
    }

    /// The means by which workers are reached.
    pub(super) fn reach(&self) -> Result<Reach<'_>, Error> {
        self.client.reach().ok_or_else(unreachable_workers)
    }

    /// Tells, and wants no answer.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub async fn tell(&self, method: &str, arguments: Map<String, Value>) -> Result<(), Error> {
        let reach = self.reach()?;
        let request = Request::new(method).with(|request| {
            request.arguments = arguments;
            request.destination = self.destination.clone();
        });
        Ok(reach.means().tell(pidbox::encode_request(&request)).await?)
    }
}

impl fmt::Debug for FleetControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetControl").field("destination", &self.destination).finish_non_exhaustive()
    }
}

fn unreachable_workers() -> Error {
    let source = "this broker carries none, and without a result backend there is no other way; set TASKQ_RESULT_URL";
    BrokerError::Failed { what: "sending a message to all workers".to_owned(), source: source.into() }.into()
}
