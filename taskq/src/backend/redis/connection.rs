//! The connection for commands.
//!
//! All operations of a process share one multiplexed connection, which a [`Keeper`] keeps alive. An operation that
//! finds a connection broken reports its number to the keeper.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::dial::{CommandLink, Dialer};
use super::identity::ServerIdentity;
use super::journal::Journal;
use super::keeper::{Keeper, KeptConnection};
use super::refusal::{DialError, NoAnswer};
use super::route::Route;
use super::scripts;
use crate::fault::BoxError;
use crate::io;

/// The shared connection for commands. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    link: watch::Receiver<ConnectionState>,
    /// The number of the newest connection that is known to be broken. The keeper ends when the last sender is
    /// dropped.
    broken: Arc<watch::Sender<u64>>,
    /// The number of the newest connection that was given up because its server is not the right one any more.
    left: watch::Receiver<u64>,
    journal: Arc<Journal>,
    url: Arc<str>,
    timeout: Duration,
}

#[derive(Clone)]
pub(super) enum ConnectionState {
    /// A live connection. Connections are numbered from 1 on.
    Up { greeted: Box<Greeted>, number: u64, epoch: u64 },
    /// No connection, with the number of the last one and the error of the last attempt.
    Down { number: u64, why: Option<DialError> },
}

/// A connection over which the greeting was exchanged.
#[derive(Clone)]
pub(super) struct Greeted {
    pub(super) line: CommandLink,
    pub(super) dialer: Dialer,
    pub(super) server: ServerIdentity,
    /// The maximum size in bytes of one argument of a command, for which the server closes the connection.
    pub(super) argument_max: usize,
}

/// The default of `proto-max-bulk-len`, for servers that forbid the question.
pub(super) const ARGUMENT_MAX: usize = 512 * 1024 * 1024;

/// Whether commands may be carried out twice, which happens if the connection breaks before the answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Repeating the commands is harmless: they are sent again until the timeout is over.
    Safe,
    /// A repetition would be answered differently; the caller decides what to do.
    Never,
}

impl Connection {
    /// Connects once, and keeps the connection alive afterwards. Each new connection begins with the commands of
    /// `greeting`.
    pub(super) async fn open(
        route: Route,
        url: Arc<str>,
        limit: Duration,
        greeting: Pipeline,
    ) -> Result<Self, DialError> {
        let KeptConnection { link, broken, left, journal } =
            Keeper::open(route, greeting, Arc::clone(&url), limit).await?;
        Ok(Self { link, broken: Arc::new(broken), left, journal, url, timeout: limit })
    }

    /// The writes of this process that another server may lack.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The number of the newest connection.
    pub(super) fn number(&self) -> u64 {
        match &*self.link.borrow() {
            ConnectionState::Up { number, .. } | ConnectionState::Down { number, .. } => *number,
        }
    }

    /// Sends `commands` as one pipeline and returns their answers, in order. Errors reported by the server are among
    /// the answers. If the connection is down or breaks, this fails within the timeout.
    pub(super) async fn send(&self, commands: Arc<Pipeline>, repeat: Repeat) -> Result<Vec<Value>, BoxError> {
        let connection = self.clone();
        io::run(async move { connection.exchange(&commands, repeat).await }).await
    }

    /// Sends script calls as one pipeline and returns their answers, in order.
    ///
    /// A server forgets its scripts when it is told to flush them. They are then loaded again, and the calls that
    /// failed for that reason are repeated.
    pub(super) async fn call(&self, calls: Pipeline) -> Result<Vec<Value>, BoxError> {
        let calls = Arc::new(calls);
        let mut answers = self.send(Arc::clone(&calls), Repeat::Never).await?;
        let unknown: Vec<usize> = (0..answers.len()).filter(|&at| is_unknown_script(&answers[at])).collect();
        if unknown.is_empty() {
            return Ok(answers);
        }
        let mut again = scripts::load();
        let loads = again.len();
        for (at, call) in calls.cmd_iter().enumerate() {
            if unknown.binary_search(&at).is_ok() {
                again.add_command(call.clone());
            }
        }
        let repeated = self.send(Arc::new(again), Repeat::Never).await?;
        for (at, answer) in unknown.into_iter().zip(repeated.into_iter().skip(loads)) {
            answers[at] = answer;
        }
        Ok(answers)
    }

    async fn exchange(mut self, commands: &Pipeline, repeat: Repeat) -> Result<Vec<Value>, BoxError> {
        let deadline = Instant::now() + self.timeout;
        let (mut last_broken, mut was_refused) = (0, false);
        loop {
            let (mut line, number) = self.live_after(last_broken, deadline).await?;
            let answers = line.connection.send_packed_commands(commands, 0, commands.len());
            let answered = tokio::select! {
                answered = timeout_at(deadline, answers) => answered,
                () = until_left(&mut self.left, number) => Ok(Err(RedisError::from(std::io::Error::other(LEFT)))),
            };
            match answered {
                Ok(Ok(answers)) => {
                    let wrong = answers.iter().filter(|answer| is_of_wrong_server(answer)).count();
                    if wrong > 0 {
                        self.report_broken(number);
                    }
                    // A server that refuses all of it has carried out nothing. The next one is asked, and believed.
                    if wrong == 0 || wrong < answers.len() || was_refused {
                        return Ok(answers);
                    }
                    was_refused = true;
                    last_broken = number;
                }
                Ok(Err(error)) => {
                    self.report_broken(number);
                    if repeat == Repeat::Never {
                        return Err(error.into());
                    }
                    last_broken = number;
                }
                Err(_) => {
                    self.report_broken(number);
                    return Err(NoAnswer::Silent { url: self.url, timeout: self.timeout }.into());
                }
            }
        }
    }

    /// Waits for a connection that is newer than `broken`, and takes of it, its number and its epoch what is wanted;
    /// `None` if there is none in time.
    async fn up_after<T>(
        &mut self,
        broken: u64,
        deadline: Instant,
        take: impl FnOnce(&Greeted, u64, u64) -> T,
    ) -> Option<T> {
        let is_up = |link: &ConnectionState| matches!(link, ConnectionState::Up { number, .. } if *number > broken);
        match &*timeout_at(deadline, self.link.wait_for(is_up)).await.ok()?.ok()? {
            ConnectionState::Up { greeted, number, epoch } => Some(take(greeted, *number, *epoch)),
            ConnectionState::Down { .. } => None,
        }
    }

    /// Waits for a connection that is newer than `broken`.
    async fn live_after(&mut self, broken: u64, deadline: Instant) -> Result<(CommandLink, u64), NoAnswer> {
        let line = self.up_after(broken, deadline, |greeted, number, _| (greeted.line.clone(), number)).await;
        line.ok_or_else(|| NoAnswer::Away { url: Arc::clone(&self.url), source: self.why_down() })
    }

    /// Waits for a connection, and returns its server with its epoch.
    pub(super) async fn server(&mut self) -> Result<(Dialer, u64), BoxError> {
        let deadline = Instant::now() + self.timeout;
        let server = self.up_after(0, deadline, |greeted, _, epoch| (greeted.dialer.clone(), epoch)).await;
        server.ok_or_else(|| self.no_answer())
    }

    /// Waits until a connection leads to another server than that of this epoch.
    pub(super) async fn until_elsewhere(&mut self, of: u64) {
        let is_elsewhere = |link: &ConnectionState| matches!(link, ConnectionState::Up { epoch, .. } if *epoch != of);
        if self.link.wait_for(is_elsewhere).await.is_err() {
            // The keeper ends after the last of those who wait.
            std::future::pending::<()>().await;
        }
    }

    /// The maximum size in bytes of a document or value.
    pub(super) fn document_max(&self) -> usize {
        match &*self.link.borrow() {
            ConnectionState::Up { greeted, .. } => greeted.argument_max,
            ConnectionState::Down { .. } => ARGUMENT_MAX,
        }
    }

    /// The error of the last attempt to connect, if there is no connection.
    fn why_down(&self) -> Option<DialError> {
        match &*self.link.borrow() {
            ConnectionState::Up { .. } => None,
            ConnectionState::Down { why, .. } => why.clone(),
        }
    }

    /// The error for another operation that waited for this server without success.
    pub(super) fn no_answer(&self) -> BoxError {
        let url = Arc::clone(&self.url);
        match &*self.link.borrow() {
            ConnectionState::Up { .. } => NoAnswer::Silent { url, timeout: self.timeout },
            ConnectionState::Down { why, .. } => NoAnswer::Away { url, source: why.clone() },
        }
        .into()
    }

    fn report_broken(&self, number: u64) {
        self.broken.send_if_modified(|broken| {
            let is_news = number > *broken;
            *broken = (*broken).max(number);
            is_news
        });
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.url).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Whether the answer shows that the connection leads to the wrong server. A demoted primary refuses writes, and one
/// that was taken out of service refuses everything; the address leads to the right server by now, or soon will.
fn is_of_wrong_server(answer: &Value) -> bool {
    let Value::ServerError(error) = answer else { return false };
    matches!(error.kind(), Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

fn is_unknown_script(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript))
}

/// The reason why operations that wait for a server that was left are told so.
const LEFT: &str = "the server is not the primary any more";

/// Waits until the connection with this number, or a later one, is given up because of its server.
async fn until_left(left: &mut watch::Receiver<u64>, number: u64) {
    if left.wait_for(|left| *left >= number).await.is_err() {
        std::future::pending::<()>().await;
    }
}
