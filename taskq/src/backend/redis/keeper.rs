//! The keeper of the connection for commands: a task on the I/O runtime that owns it.
//!
//! It asks the server every few seconds whether it is still the one that it was, so that a connection whose peer has
//! disappeared silently is noticed, and a primary that was replaced; it replaces a broken connection, for as long as
//! the backend exists. Before a connection to another server is used, the [writes of late](super::journal) are made
//! again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, RedisError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connection::{ARGUMENT_MAX, ConnectionState, Greeted};
use super::dial::{Dialer, OwnedTask};
use super::identity::{ReplicationRole, ServerIdentity};
use super::journal::{Journal, KEPT_FOR};
use super::refusal::DialError;
use super::restore::restore;
use super::route::Route;
use super::sentinel::NamedServer;
use super::timing::{PING_INTERVAL, Pauses, in_time, pong_timeout, timed_out};
use crate::io;

/// The maximum time for a connection to a primary that Sentinels have named. It may have died, and another one is named
/// soon.
const NAMED_TIMEOUT_MAX: Duration = Duration::from_secs(3);

const ARGUMENT_MAX_NAME: &str = "proto-max-bulk-len";

/// The task that keeps the connection alive.
pub(super) struct Keeper {
    route: Route,
    /// The first commands on each connection: they load the scripts and ping.
    greeting: Pipeline,
    url: Arc<str>,
    timeout: Duration,
    link: watch::Sender<ConnectionState>,
    broken: watch::Receiver<u64>,
    left: watch::Sender<u64>,
    journal: Arc<Journal>,
    /// The primary that Sentinels have named last, and the task that listens to them.
    named: watch::Receiver<Option<NamedServer>>,
    _lookout: Option<OwnedTask>,
    /// The server of the last connection, and the number of the first connection to it.
    server: ServerIdentity,
    epoch: u64,
}

/// The ends of a keeper that others hold.
pub(super) struct KeptConnection {
    pub(super) link: watch::Receiver<ConnectionState>,
    pub(super) broken: watch::Sender<u64>,
    pub(super) left: watch::Receiver<u64>,
    pub(super) journal: Arc<Journal>,
}

/// All users of the connection are gone.
struct Abandoned;

/// The reason why a connection is not used any more.
enum Parted {
    /// The connection is broken, or the server is silent.
    Lost,
    /// The server is not the one that it was.
    Turned,
}

impl Keeper {
    /// Connects once, and keeps the connection alive afterwards. Each new connection begins with the commands of
    /// `greeting`.
    pub(super) async fn open(
        route: Route,
        mut greeting: Pipeline,
        url: Arc<str>,
        limit: Duration,
    ) -> Result<KeptConnection, DialError> {
        greeting.cmd("PING");
        let greeted = connect(&route, &greeting, limit, route.sentinels().is_some()).await?;
        let state = ConnectionState::Up { greeted: Box::new(greeted.clone()), number: 1, epoch: 1 };
        let (link, link_seen) = watch::channel(state);
        let (broken, broken_seen) = watch::channel(0);
        let (left, left_seen) = watch::channel(0);
        let (names, named) = watch::channel(None);
        let lookout = route.sentinels().map(|sentinels| OwnedTask::spawn(Arc::clone(sentinels).look_out(names)));
        let journal = Arc::new(Journal::default());
        let keeper = Self {
            route,
            greeting,
            url,
            timeout: limit,
            link,
            broken: broken_seen,
            left,
            journal: Arc::clone(&journal),
            named,
            _lookout: lookout,
            server: greeted.server.clone(),
            epoch: 1,
        };
        io::spawn(keeper.run(greeted));
        Ok(KeptConnection { link: link_seen, broken, left: left_seen, journal })
    }

    async fn run(mut self, mut greeted: Greeted) {
        for number in 1.. {
            let epoch = self.epoch;
            self.link.send_replace(ConnectionState::Up { greeted: Box::new(greeted.clone()), number, epoch });
            match self.until_parted(&mut greeted, number).await {
                Ok(Parted::Lost) => tracing::warn!(url = &*self.url, "the connection to the result backend was lost"),
                Ok(Parted::Turned) => {
                    tracing::warn!(
                        url = &*self.url,
                        "the server of the result backend was replaced by another one, and its connection is given up"
                    );
                    self.left.send_replace(number);
                }
                Err(Abandoned) => return,
            }
            self.link.send_replace(ConnectionState::Down { number, why: None });
            let Ok(new) = self.reconnect(number).await else { return };
            greeted = new;
            tracing::info!(url = &*self.url, server = greeted.server.product, "connected to the result backend again");
        }
    }

    async fn until_parted(&self, greeted: &mut Greeted, number: u64) -> Result<Parted, Abandoned> {
        let (mut broken, mut names, dialer) = (self.broken.clone(), self.named.clone(), greeted.dialer.clone());
        loop {
            // Other news are not kept waiting by a server that does not answer.
            let look = async {
                sleep(PING_INTERVAL).await;
                self.look_after(greeted).await
            };
            tokio::select! {
                news = broken.changed() => {
                    news.map_err(|_| Abandoned)?;
                    // An operation may report late that an earlier connection broke.
                    if *broken.borrow_and_update() >= number {
                        return Ok(Parted::Lost);
                    }
                }
                primary = named(&mut names) => {
                    if !primary.is_of(&dialer) {
                        return Ok(Parted::Turned);
                    }
                }
                parted = look => {
                    if let Some(parted) = parted {
                        return Ok(parted);
                    }
                }
            }
        }
    }

    /// Asks the server whether it is the one that it was. If all is well, looks after the journal.
    async fn look_after(&self, greeted: &mut Greeted) -> Option<Parted> {
        let mut question = redis::cmd("INFO");
        question.arg("replication");
        let answer = question.query_async::<String>(&mut greeted.line.connection);
        match in_time(pong_timeout(self.timeout), answer).await {
            Ok(replication) if greeted.server.has_turned(&replication) => return Some(Parted::Turned),
            Ok(_) => {}
            // An error reported by the server is an answer, too.
            Err(error) if error.code().is_some() => {}
            Err(_) => return Some(Parted::Lost),
        }
        self.journal.prune();
        // An answer of an earlier server may have been entered after the others were made again.
        self.restore(greeted, self.epoch).await.err().map(|_| Parted::Lost)
    }

    /// Makes the writes again that were made on servers before this epoch.
    async fn restore(&self, greeted: &mut Greeted, epoch: u64) -> Result<(), RedisError> {
        let Some(missing) = self.journal.missing_since(epoch) else { return Ok(()) };
        let restored = restore(&mut greeted.line.connection, &missing, self.timeout).await?;
        self.journal.made_again(&missing, epoch);
        tracing::info!(
            url = &*self.url,
            server = greeted.server.product,
            records = missing.records.len(),
            facts = missing.facts.len(),
            records_lost = restored.records,
            facts_lost = restored.facts,
            "the result backend is another server than before: what was written of late was written again"
        );
        if restored.refused > 0 || missing.is_incomplete {
            tracing::warn!(
                url = &*self.url,
                refused = restored.refused,
                incomplete = missing.is_incomplete,
                "some results of the last {KEPT_FOR:?} may be lost: the server refused them, or there were too many to keep"
            );
        }
        Ok(())
    }

    /// Connects again after the connection with this number, however long it takes.
    async fn reconnect(&mut self, number: u64) -> Result<Greeted, Abandoned> {
        let mut pauses = Pauses::default();
        loop {
            tokio::select! {
                () = sleep(pauses.next()) => {}
                // A new primary has just been named.
                _ = named(&mut self.named) => pauses = Pauses::default(),
                () = abandoned(&mut self.broken) => return Err(Abandoned),
            }
            let (mut broken, mut names) = (self.broken.clone(), self.named.clone());
            let connected = tokio::select! {
                connected = self.attempt(number + 1) => connected,
                // The old primary was asked. The next attempt begins at once: there this is still news.
                _ = named(&mut names) => continue,
                () = abandoned(&mut broken) => return Err(Abandoned),
            };
            match connected {
                Ok((greeted, epoch)) => {
                    self.server = greeted.server.clone();
                    self.epoch = epoch;
                    return Ok(greeted);
                }
                Err(error) => {
                    tracing::debug!(url = &*self.url, %error, "the result backend is still away");
                    self.link.send_replace(ConnectionState::Down { number, why: Some(error) });
                }
            }
        }
    }

    /// Tries to connect, and returns the connection with its epoch.
    async fn attempt(&self, number: u64) -> Result<(Greeted, u64), DialError> {
        // An address that has led to a primary leads to a replica only in the middle of a failover.
        let is_primary_wanted = self.route.sentinels().is_some() || self.server.role == ReplicationRole::Primary;
        let mut greeted = connect(&self.route, &self.greeting, self.timeout, is_primary_wanted).await?;
        let epoch = if greeted.server.has_data_of(&self.server) { self.epoch } else { number };
        self.restore(&mut greeted, epoch).await?;
        Ok((greeted, epoch))
    }
}

/// Connects, and verifies that the server can be used, answers and has carried out the greeting.
async fn connect(
    route: &Route,
    greeting: &Pipeline,
    limit: Duration,
    is_primary_wanted: bool,
) -> Result<Greeted, DialError> {
    let dialer = match timeout(limit, route.dialer()).await {
        Ok(dialer) => dialer?,
        Err(_) => return Err(timed_out().into()),
    };
    let limit = if route.sentinels().is_some() { limit.min(NAMED_TIMEOUT_MAX) } else { limit };
    // All waiting is bounded here, in one place.
    match timeout(limit, greet(dialer, greeting, is_primary_wanted)).await {
        Ok(greeted) => greeted,
        Err(_) => Err(timed_out().into()),
    }
}

async fn greet(dialer: Dialer, greeting: &Pipeline, is_primary_wanted: bool) -> Result<Greeted, DialError> {
    let mut line = dialer.commands().await?;
    let (mut info, mut refusal) = (String::new(), None);
    for section in ["server", "replication", "cluster"] {
        let mut question = redis::cmd("INFO");
        question.arg(section);
        // Hosted servers forbid the question; others refuse everything, and some hang up after that.
        match question.query_async::<String>(&mut line.connection).await {
            Ok(answer) => info.push_str(&answer),
            Err(error) if error.code().is_some() => {
                refusal = Some(error);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let server = ServerIdentity::of(&info);
    if let Some(refusal) = server.refusal(is_primary_wanted) {
        return Err(refusal);
    }
    if let Err(error) = greeting.exec_async(&mut line.connection).await {
        return Err(refusal.filter(|_| error.is_io_error()).unwrap_or(error).into());
    }
    // Hosted servers forbid this question, too. It is asked on each connection, since the answer may have changed.
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg(ARGUMENT_MAX_NAME);
    let argument_max = match question.query_async::<HashMap<String, usize>>(&mut line.connection).await {
        Ok(answer) => answer.get(ARGUMENT_MAX_NAME).copied(),
        Err(error) if error.code().is_some() => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Greeted { line, dialer, server, argument_max: argument_max.unwrap_or(ARGUMENT_MAX) })
}

/// Completes when no operation can report broken connections any more.
async fn abandoned(broken: &mut watch::Receiver<u64>) {
    while broken.changed().await.is_ok() {}
}

/// Waits until Sentinels name another primary. Without Sentinels, none is ever named.
async fn named(named: &mut watch::Receiver<Option<NamedServer>>) -> NamedServer {
    while named.changed().await.is_ok() {
        if let Some(primary) = named.borrow_and_update().clone() {
            return primary;
        }
    }
    std::future::pending().await
}
