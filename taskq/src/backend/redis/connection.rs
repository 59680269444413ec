//! The connection for commands.
//!
//! All operations of a process share one multiplexed connection. A keeper task on the I/O runtime owns it. It pings,
//! so that a connection whose peer has disappeared silently is noticed, and replaces a broken connection, for as long
//! as the backend exists. An operation that finds a connection broken reports its number to the keeper.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::dial::{CommandLine, Dialer};
use crate::fault::BoxError;
use crate::io;

/// The interval after which a silent connection is pinged.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The maximum time for the answer to a ping; the timeout for operations applies if it is shorter.
const PONG_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// The shared connection for commands. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    link: watch::Receiver<ConnectionState>,
    /// The number of the newest connection that is known to be broken. The keeper ends when the last sender is
    /// dropped.
    broken: Arc<watch::Sender<u64>>,
    url: Arc<str>,
    timeout: Duration,
}

#[derive(Clone)]
enum ConnectionState {
    /// A live connection. Connections are numbered from 1 on.
    Up { greeted: Greeted, number: u64 },
    /// No connection, with the error of the last attempt.
    Down { why: Option<RedisError> },
}

/// A connection over which the greeting was exchanged.
#[derive(Clone)]
struct Greeted {
    line: CommandLine,
    /// The maximum size in bytes of one argument of a command, for which the server closes the connection.
    argument_max: usize,
}

/// The default of `proto-max-bulk-len`, for servers that forbid the question.
const ARGUMENT_MAX: usize = 512 * 1024 * 1024;
const ARGUMENT_MAX_NAME: &str = "proto-max-bulk-len";

/// Whether commands may be carried out twice, which happens if the connection breaks before the answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Repeating the commands is harmless: they are sent again until the timeout is over.
    Safe,
    /// A repetition would be answered differently; the caller decides what to do.
    Never,
}

/// No answer came within the timeout.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("there is no connection to {url}")]
    Away {
        url: Arc<str>,
        #[source]
        source: Option<RedisError>,
    },
    #[error("{url} did not answer within {timeout:?}")]
    Silent { url: Arc<str>, timeout: Duration },
}

impl Connection {
    /// Connects once, and keeps the connection alive afterwards. Each new connection begins with the commands of
    /// `greeting`.
    pub(super) async fn open(
        dialer: Dialer,
        url: Arc<str>,
        limit: Duration,
        mut greeting: Pipeline,
    ) -> Result<Self, RedisError> {
        greeting.cmd("PING");
        let greeted = connect(&dialer, &greeting, limit).await?;
        let (link, link_seen) = watch::channel(ConnectionState::Up { greeted: greeted.clone(), number: 1 });
        let (broken, broken_seen) = watch::channel(0);
        let keeper = Keeper { dialer, greeting, url: Arc::clone(&url), timeout: limit, link, broken: broken_seen };
        io::spawn(keeper.run(greeted));
        Ok(Self { link: link_seen, broken: Arc::new(broken), url, timeout: limit })
    }

    /// Sends `commands` as one pipeline and returns their answers, in order. Errors reported by the server are among
    /// the answers. If the connection is down or breaks, this fails within the timeout.
    pub(super) async fn send(&self, commands: Arc<Pipeline>, repeat: Repeat) -> Result<Vec<Value>, BoxError> {
        let connection = self.clone();
        io::run(async move { connection.exchange(&commands, repeat).await }).await
    }

    async fn exchange(mut self, commands: &Pipeline, repeat: Repeat) -> Result<Vec<Value>, BoxError> {
        let deadline = Instant::now() + self.timeout;
        let mut last_broken = 0;
        loop {
            let (mut line, number) = self.live_after(last_broken, deadline).await?;
            let answers = line.connection.send_packed_commands(commands, 0, commands.len());
            match timeout_at(deadline, answers).await {
                Ok(Ok(answers)) => {
                    if answers.iter().any(is_of_wrong_server) {
                        self.report_broken(number);
                    }
                    return Ok(answers);
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

    /// Waits for a connection that is newer than `broken`.
    async fn live_after(&mut self, broken: u64, deadline: Instant) -> Result<(CommandLine, u64), NoAnswer> {
        let is_live = |link: &ConnectionState| matches!(link, ConnectionState::Up { number, .. } if *number > broken);
        // The borrow of the state ends here, since the error below borrows it again.
        let live = match timeout_at(deadline, self.link.wait_for(is_live)).await {
            Ok(Ok(link)) => match &*link {
                ConnectionState::Up { greeted, number } => Some((greeted.line.clone(), *number)),
                ConnectionState::Down { .. } => None,
            },
            _ => None,
        };
        live.ok_or_else(|| NoAnswer::Away { url: Arc::clone(&self.url), source: self.why_down() })
    }

    /// The maximum size in bytes of a document or value.
    pub(super) fn document_max(&self) -> usize {
        match &*self.link.borrow() {
            ConnectionState::Up { greeted, .. } => greeted.argument_max,
            ConnectionState::Down { .. } => ARGUMENT_MAX,
        }
    }

    /// The error of the last attempt to connect, if there is no connection.
    fn why_down(&self) -> Option<RedisError> {
        match &*self.link.borrow() {
            ConnectionState::Up { .. } => None,
            ConnectionState::Down { why } => why.clone(),
        }
    }

    /// The error for another operation that waited for this server without success.
    pub(super) fn no_answer(&self) -> BoxError {
        let url = Arc::clone(&self.url);
        match &*self.link.borrow() {
            ConnectionState::Up { .. } => NoAnswer::Silent { url, timeout: self.timeout },
            ConnectionState::Down { why } => NoAnswer::Away { url, source: why.clone() },
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

/// Connects, and verifies that the server answers and has carried out the greeting.
async fn connect(dialer: &Dialer, greeting: &Pipeline, limit: Duration) -> Result<Greeted, RedisError> {
    let connect = async {
        let mut line = dialer.commands().await?;
        greeting.exec_async(&mut line.connection).await?;
        // Hosted servers forbid the question. It is asked on each connection, since the answer may have changed.
        let mut question = redis::cmd("CONFIG");
        question.arg("GET").arg(ARGUMENT_MAX_NAME);
        let argument_max = match question.query_async::<HashMap<String, usize>>(&mut line.connection).await {
            Ok(answer) => answer.get(ARGUMENT_MAX_NAME).copied(),
            Err(error) if error.code().is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Greeted { line, argument_max: argument_max.unwrap_or(ARGUMENT_MAX) })
    };
    in_time(limit, connect).await
}

/// Awaits `future`, with a timeout as an error.
pub(super) async fn in_time<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match timeout(limit, future).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// The maximum time for the answer to a ping.
pub(super) fn pong_timeout(limit: Duration) -> Duration {
    limit.min(PONG_TIMEOUT_MAX)
}

/// The task that keeps the connection alive.
struct Keeper {
    dialer: Dialer,
    /// The first commands on each connection: they load the scripts and ping.
    greeting: Pipeline,
    url: Arc<str>,
    timeout: Duration,
    link: watch::Sender<ConnectionState>,
    broken: watch::Receiver<u64>,
}

/// All users of the connection are gone.
struct Abandoned;

impl Keeper {
    async fn run(mut self, mut greeted: Greeted) {
        for number in 1.. {
            self.link.send_replace(ConnectionState::Up { greeted: greeted.clone(), number });
            let Ok(()) = self.until_broken(&mut greeted.line.connection, number).await else { return };
            tracing::warn!(url = &*self.url, "the connection to the result backend was lost");
            self.link.send_replace(ConnectionState::Down { why: None });
            let Ok(new) = self.reconnect().await else { return };
            greeted = new;
            tracing::info!(url = &*self.url, "connected to the result backend again");
        }
    }

    async fn until_broken(&mut self, connection: &mut MultiplexedConnection, number: u64) -> Result<(), Abandoned> {
        loop {
            tokio::select! {
                news = self.broken.changed() => {
                    news.map_err(|_| Abandoned)?;
                    // An operation may report late that an earlier connection broke.
                    if *self.broken.borrow_and_update() >= number {
                        return Ok(());
                    }
                }
                () = sleep(PING_INTERVAL) => {
                    let question = redis::cmd("PING");
                    let pong = question.query_async::<Value>(connection);
                    // An error reported by the server is an answer, too.
                    if let Err(error) = in_time(pong_timeout(self.timeout), pong).await
                        && error.code().is_none()
                    {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Connects again, however long it takes.
    async fn reconnect(&mut self) -> Result<Greeted, Abandoned> {
        let mut pauses = Pauses::default();
        loop {
            let attempt = async {
                sleep(pauses.next()).await;
                connect(&self.dialer, &self.greeting, self.timeout).await
            };
            let connected = tokio::select! {
                connected = attempt => connected,
                () = abandoned(&mut self.broken) => return Err(Abandoned),
            };
            match connected {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    tracing::debug!(url = &*self.url, %error, "the result backend is still away");
                    self.link.send_replace(ConnectionState::Down { why: Some(error) });
                }
            }
        }
    }
}

/// Completes when no operation can report broken connections any more.
async fn abandoned(broken: &mut watch::Receiver<u64>) {
    while broken.changed().await.is_ok() {}
}

/// The pauses between attempts to connect: 50 ms at first, doubled each time, up to 5 s.
pub(super) struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSE_MIN)
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Pauses {
    /// The next pause, between half and all of the current value, so that a thousand clients do not reconnect in the
    /// same instant.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause.mul_f64(0.5 + io::jitter() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut pauses = Pauses::default();
        for bound_ms in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let bound = Duration::from_millis(bound_ms);
            let pause = pauses.next();
            assert!(pause <= bound && pause >= bound / 2, "{pause:?} against {bound:?}");
        }
    }
}
