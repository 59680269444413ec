//! One open connection, until it is lost.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time;

use super::greeting::{self, Abilities};
use super::places::Endpoint;
use super::transport::{self, GreetingSlot};
use crate::broker::{BrokerError, BrokerInfo};
use crate::fault::BoxError;
use crate::io;

/// The maximum time for the answer to a request. lapin would wait without end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The maximum time for an answer that is not expected to come.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The interval at which the connection's state is checked. lapin does not report every loss.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The maximum times for opening a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpeningLimits {
    /// Until the server takes the connection.
    connect: Duration,
    /// From then on until it can be used.
    handshake: Duration,
}

/// The most that opening may take at each of both.
const OPENING_MAX: Duration = Duration::from_secs(10);

impl OpeningLimits {
    /// With one of several servers, the next of which is tried afterwards, in this round through them; rounds count
    /// from 0. A server may take long because something is wrong with it, but all of them may, and then it is not.
    pub(super) fn among_others(round: u32) -> Self {
        let handshake = Duration::from_secs(2).saturating_mul(2_u32.saturating_pow(round)).min(OPENING_MAX);
        Self { connect: Duration::from_secs(2), handshake }
    }

    /// With the only server there is.
    pub(super) fn alone() -> Self {
        Self { connect: OPENING_MAX, handshake: OPENING_MAX }
    }
}

/// An open connection. It is lost once and never comes back; [`Link`](super::link::Link) opens the next.
pub(super) struct Session {
    connection: Connection,
    /// Where it leads.
    place: SocketAddr,
    /// The broker, as it introduced itself.
    info: Result<BrokerInfo, String>,
    lost: watch::Sender<Option<Arc<str>>>,
    blocked: watch::Sender<Option<Arc<str>>>,
    scratch: tokio::sync::Mutex<Option<Channel>>,
    deaf: AtomicBool,
    /// The broker owes an answer for so long that the place may be of no use.
    suspected: AtomicBool,
    /// The place is of no use, though it takes connections.
    forsaken: AtomicBool,
    /// lapin's error for the loss of the connection.
    last_error: Mutex<Option<String>>,
}

/// The reason why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestFault {
    #[error("{0}")]
    Amqp(#[from] lapin::Error),
    #[error("the broker did not answer within {}", humantime::format_duration(ANSWER_TIMEOUT))]
    Silence,
    /// The connection was lost before the answer arrived.
    #[error("the connection was lost: {0}")]
    Lost(Arc<str>),
    #[error("the broker takes nothing on this connection at the moment ({0})")]
    Blocked(Arc<str>),
}

impl Session {
    /// Opens a connection. To be called on the I/O runtime, which then runs all of lapin's tasks. `wide`: larger frames
    /// are allowed.
    pub(super) async fn open(
        place: &Endpoint,
        wide: bool,
        name: &str,
        limits: OpeningLimits,
    ) -> Result<Arc<Self>, BrokerError> {
        let (connection, greeting) = connect(place, wide, name, limits).await?;
        let greeting = greeting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let info = greeting.ok_or_else(|| "the broker sent no greeting".to_owned());
        let session = Arc::new(Self {
            connection,
            place: place.socket,
            info: info.and_then(|payload| greeting::read(&payload)),
            lost: watch::Sender::new(None),
            blocked: watch::Sender::new(None),
            scratch: tokio::sync::Mutex::default(),
            deaf: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
            forsaken: AtomicBool::new(false),
            last_error: Mutex::default(),
        });
        io::spawn(observe(Arc::downgrade(&session), Box::pin(session.connection.events_listener())));
        Ok(session)
    }

    /// The place that the connection leads to.
    pub(super) fn place(&self) -> SocketAddr {
        self.place
    }

    /// The broker at the other end, or why it is not known.
    pub(super) fn info(&self) -> Result<&BrokerInfo, &str> {
        self.info.as_ref().map_err(String::as_str)
    }

    /// The abilities of the broker at the other end.
    pub(super) fn abilities(&self) -> Abilities {
        self.info().map(Abilities::of).unwrap_or_default()
    }

    /// The largest frame this connection may carry, in bytes.
    pub(super) fn frame_max(&self) -> usize {
        self.connection.configuration().frame_max() as usize
    }

    /// The reason why the broker accepts no messages on this connection at the moment, if it does not.
    pub(super) fn blocked(&self) -> Option<Arc<str>> {
        self.blocked.borrow().clone()
    }

    /// Whether the broker accepts no messages on this connection at the moment.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.borrow().is_some()
    }

    /// Changes whenever the broker stops or resumes accepting messages.
    pub(super) fn blocked_changes(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.blocked.subscribe()
    }

    /// Whether the connection is open, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.lost.borrow().is_none() && self.connection.status().connected()
    }

    /// Completes when the connection is lost, with the reason.
    pub(super) async fn lost(&self) -> Arc<str> {
        let mut lost = self.lost.subscribe();
        let reason = lost.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "it was closed".into())
    }

    /// Gives up the connection.
    pub(super) fn fail(&self, reason: &str) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(reason.into());
            }
            first
        });
    }

    /// Gives up the connection because its place is of no use, so that another place is tried first.
    pub(super) fn forsake(&self, reason: &str) {
        self.forsaken.store(true, Ordering::Release);
        self.fail(reason);
    }

    /// Whether the connection was given up because its place is of no use.
    pub(super) fn is_forsaken(&self) -> bool {
        self.forsaken.load(Ordering::Acquire)
    }

    /// Notes whether the broker owes an answer for so long that the place may be of no use.
    pub(super) fn suspect(&self, suspected: bool) {
        self.suspected.store(suspected, Ordering::Release);
    }

    /// Whether the place may be of no use.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Acquire)
    }

    /// Whether the connection broke over a frame that was larger than allowed.
    pub(super) fn broke_over_frame(&self) -> bool {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_deref()
            .is_some_and(|error| error.contains("frame too large"))
    }

    /// Waits for the answer to one request. A broker that does not answer counts as lost, unless it is known to be
    /// blocked by an alarm.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = lapin::Result<T>>) -> Result<T, RequestFault> {
        let answer = tokio::select! {
            biased;
            answer = time::timeout(ANSWER_TIMEOUT, request) => answer,
            // lapin never answers requests on a connection that broke over a frame.
            reason = self.lost() => return Err(RequestFault::Lost(reason)),
        };
        if let Ok(answer) = answer {
            return Ok(answer?);
        }
        if let Some(reason) = self.blocked() {
            return Err(RequestFault::Blocked(reason));
        }
        self.forsake("the broker does not answer");
        Err(RequestFault::Silence)
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel, RequestFault> {
        self.ask(self.connection.create_channel()).await
    }

    /// Opens a channel with publisher confirms.
    pub(super) async fn confirming_channel(&self) -> Result<Channel, RequestFault> {
        let channel = self.channel().await?;
        self.ask(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Runs `request` on a channel that it may close, which is how brokers report most errors. One at a time.
    pub(super) async fn on_scratch<T, F>(&self, request: impl FnOnce(Channel) -> F) -> Result<T, RequestFault>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let mut scratch = self.scratch.lock().await;
        let channel = match scratch.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.channel().await?,
        };
        let answer = self.ask(request(channel.clone())).await;
        if answer.is_ok() {
            *scratch = Some(channel);
        }
        answer
    }

    /// Counts the ready messages and the consumers of a queue.
    pub(super) async fn count(&self, queue: &str) -> Result<(u32, u32), RequestFault> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self
            .on_scratch(
                |channel| async move { channel.queue_declare(queue.into(), options, FieldTable::default()).await },
            )
            .await?;
        Ok((found.message_count(), found.consumer_count()))
    }

    /// Checks whether the broker still responds, and gives the connection up if it does not.
    pub(super) async fn probe(&self) {
        match time::timeout(PROBE_TIMEOUT, self.connection.create_channel()).await {
            // Dropping the channel closes it.
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was lost while it was probed"),
            Err(_) if self.blocked().is_some() => {}
            Err(_) => {
                self.deaf.store(true, Ordering::Release);
                self.forsake("the broker does not listen any more");
            }
        }
    }

    /// Whether the connection was given up only because the broker stopped responding on it.
    pub(super) fn was_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    /// Closes the connection, with a timeout, since the broker may not answer.
    pub(super) async fn close(&self) {
        self.fail("it was closed");
        if self.connection.status().connected() {
            let goodbye = self.connection.close(200, "goodbye".into());
            if let Ok(Err(error)) = time::timeout(Duration::from_secs(3), goodbye).await {
                tracing::debug!(%error, "the broker did not confirm the end of the connection");
            }
        }
    }
}

impl RequestFault {
    /// The reply code, if the broker gave one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            Self::Silence | Self::Lost(_) | Self::Blocked(_) => None,
        }
    }

    /// The reply text, if the broker gave one.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Amqp(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => Some(error.get_message().to_string()),
                _ => None,
            },
            Self::Silence | Self::Lost(_) | Self::Blocked(_) => None,
        }
    }

    /// Whether the broker refused this very request, so that repeating it is useless.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.code(), Some(403..=406)) || matches!(self, Self::Blocked(_))
    }

    /// Whether the user lacks a right for this request.
    pub(super) fn is_access_refusal(&self) -> bool {
        self.code() == Some(403)
    }

    /// The port's error for a request about a queue that is not there (404): it does not exist, or the node that it is
    /// on is away. A classic queue is on one node.
    pub(super) fn no_queue(self, queue: &str) -> BrokerError {
        let queue = queue.to_owned();
        match self.text() {
            Some(said) if is_away(&said) => BrokerError::QueueAway { queue, source: Box::new(self) },
            _ => BrokerError::NoQueue { queue },
        }
    }

    /// The port's error for a failed request; `what` names it.
    pub(super) fn during(self, what: impl Into<String>) -> BrokerError {
        BrokerError::Failed { what: what.into(), source: Box::new(self) as BoxError }
    }
}

/// Waits for a step on the way to a socket, with its end as lapin's error.
async fn in_time<T>(limit: Duration, step: impl Future<Output = std::io::Result<T>>) -> lapin::Result<T> {
    Ok(time::timeout(limit, step).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
}

/// Connects to a place, and gives lapin the socket. lapin's recovery stays off; the description of the module `amqp`
/// says why.
pub(super) async fn connect(
    place: &Endpoint,
    wide: bool,
    name: &str,
    limits: OpeningLimits,
) -> Result<(Connection, GreetingSlot), BrokerError> {
    let address = &place.address;
    let refusal = |error: lapin::Error| address.refusal(Some(&error));
    let socket = in_time(limits.connect, transport::dial(place.socket)).await.map_err(refusal)?;
    let encrypting = socket.encrypted(address.host().0, address.tls.as_ref());
    let socket = in_time(limits.handshake, encrypting).await.map_err(refusal)?;
    let greeting = socket.greeting();
    let socket = Mutex::new(Some(AsyncTcpStream::Plain(socket)));
    // lapin asks once, and would again to recover a connection.
    let take = async move |_, _| {
        let socket = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        socket.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connector(address.uri(wide), transport::runtime(), take, properties);
    match time::timeout(limits.handshake, connecting).await {
        Ok(Ok(connection)) => Ok((connection, greeting)),
        Ok(Err(error)) => Err(refusal(error)),
        Err(_) => Err(address.refusal(None)),
    }
}

/// Whether the broker says that a queue exists and cannot be reached.
fn is_away(said: &str) -> bool {
    said.contains("down or inaccessible") || said.contains("process is stopped by supervisor")
}

/// Follows the connection's events, and checks its state from time to time, until it is lost or dropped.
async fn observe(session: std::sync::Weak<Session>, mut events: impl futures_util::Stream<Item = Event> + Unpin) {
    let mut interval = time::interval(WATCH_INTERVAL);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = interval.tick() => None,
        };
        let Some(session) = session.upgrade() else { return };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker takes no messages at the moment");
                session.blocked.send_replace(Some(reason.into()));
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("the broker takes messages again");
                session.blocked.send_replace(None);
            }
            Some(Event::Error(error)) => {
                *session.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            _ => {}
        }
        if !session.connection.status().connected() {
            let error = session.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
            session.fail(error.as_deref().unwrap_or("the connection is gone"));
        }
        if session.lost.borrow().is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_away;

    #[test]
    fn a_queue_whose_node_is_away_is_told_from_one_that_is_not_there() {
        for (said, expected) in [
            ("NOT_FOUND - home node 'rabbit@two' of durable queue 'q' in vhost '/' is down or inaccessible", true),
            ("NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor", true),
            ("NOT_FOUND - no queue 'q' in vhost '/'", false),
        ] {
            assert_eq!(is_away(said), expected, "{said}");
        }
    }
}
