//! Changes of records, pushed by the server: one pub/sub connection for all watchers.
//!
//! An actor on the I/O runtime owns the connection and the table of watchers. A watcher is answered only when Redis
//! has confirmed its subscription. When the connection breaks, the actor reconnects, subscribes to everything that is
//! still watched, and then reads the stored records, so that changes during the outage are not missed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, stream};
use redis::aio::PubSubSink;
use redis::{Msg, RedisError, Value};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Connection;
use super::dial::Dialer;
use super::documents::documents;
use super::keys;
use super::timing::{PING_INTERVAL, Pauses, in_time, pong_timeout};
use crate::backend::{BackendError, Changes};
use crate::codec::result::{self, ResultError};
use crate::fault::BoxError;
use crate::io;
use crate::message::{Record, TaskId};

/// The number of changes that are buffered for a slow watcher. Beyond it, the watcher misses the oldest, never the
/// newest: a terminal record is the last of its generation, so every watcher gets it.
const CHANGES_PENDING_MAX: usize = 16;

/// The maximum number of channels in one `SUBSCRIBE` command.
const CHANNELS_PER_COMMAND_MAX: usize = 256;

/// The maximum number of records that are read at once.
const READ_AT_ONCE_MAX: usize = 64;

/// The handle of the actor.
#[derive(Clone)]
pub(super) struct Watch {
    /// The channel to the actor. It needs no bound: each watcher has at most two commands in it. The actor ends when
    /// the last sender is dropped.
    commands: mpsc::UnboundedSender<WatchCommand>,
    connection: Connection,
    timeout: Duration,
}

enum WatchCommand {
    Subscribe {
        id: TaskId,
        reply: Reply,
    },
    /// A watcher of this task was dropped.
    Gone {
        id: TaskId,
    },
}

/// A record that was stored, or why it cannot be read.
type StoredRecord = Arc<Result<Record, ResultError>>;

/// The answer to a subscription. A watcher that is not received unsubscribes when it is dropped.
type Reply = oneshot::Sender<Result<RedisWatcher, RedisError>>;

impl Watch {
    pub(super) fn new(connection: Connection, url: Arc<str>, limit: Duration) -> Self {
        let (commands, incoming) = mpsc::unbounded_channel();
        let actor = Actor {
            connection: connection.clone(),
            url,
            timeout: limit,
            incoming,
            commands: commands.downgrade(),
            watched: HashMap::new(),
        };
        io::spawn(actor.run());
        Self { commands, connection, timeout: limit }
    }

    /// The changes of one task from now on. Completes when Redis has confirmed the subscription, or fails within the
    /// timeout.
    pub(super) async fn subscribe(&self, id: &TaskId) -> Result<Changes, BoxError> {
        let (reply, answer) = oneshot::channel();
        // The actor runs for as long as there are senders; if it is gone, the answer says so.
        let _ = self.commands.send(WatchCommand::Subscribe { id: id.clone(), reply });
        let limit = self.timeout;
        // The timer must not depend on the caller's runtime, whose clock may be paused.
        match io::run(async move { timeout(limit, answer).await }).await {
            Ok(Ok(watcher)) => Ok(Box::pin(stream::unfold(watcher?, RedisWatcher::next))),
            Ok(Err(_)) | Err(_) => Err(self.connection.no_answer()),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A subscription to the changes of one task.
struct RedisWatcher {
    /// `None` only while the watcher is being dropped.
    receiver: Option<broadcast::Receiver<StoredRecord>>,
    id: TaskId,
    commands: mpsc::UnboundedSender<WatchCommand>,
}

impl RedisWatcher {
    async fn next(mut self) -> Option<(Result<Record, BackendError>, Self)> {
        loop {
            match self.receiver.as_mut()?.recv().await {
                Ok(stored) => return Some((Arc::unwrap_or_clone(stored).map_err(BackendError::from), self)),
                // The watcher missed some records because it was too slow; newer ones follow.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for RedisWatcher {
    fn drop(&mut self) {
        // The receiver is dropped first, so that the actor does not count it any more.
        self.receiver = None;
        // If the actor is gone, there is no subscription to give up.
        let _ = self.commands.send(WatchCommand::Gone { id: self.id.clone() });
    }
}

/// The task that owns the pub/sub connection.
struct Actor {
    connection: Connection,
    url: Arc<str>,
    timeout: Duration,
    incoming: mpsc::UnboundedReceiver<WatchCommand>,
    /// The sender for new watchers. It is weak, since the actor must not keep itself alive.
    commands: mpsc::WeakUnboundedSender<WatchCommand>,
    watched: HashMap<TaskId, Watched>,
}

struct Watched {
    changes: broadcast::Sender<StoredRecord>,
    /// Subscribers that have not been answered yet.
    waiting: Vec<Reply>,
    /// Whether Redis has confirmed the subscription on the current connection.
    confirmed: bool,
}

/// The reason why a session with the server ended.
enum Ended {
    /// The backend and the last watcher are gone.
    Abandoned,
    /// The connection broke or could not be opened.
    Broken(BoxError),
}

impl From<RedisError> for Ended {
    fn from(error: RedisError) -> Self {
        Self::Broken(error.into())
    }
}

impl Actor {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            if self.watched.is_empty() {
                // Without watchers, no connection is needed.
                match self.incoming.recv().await {
                    Some(command) => drop(self.take(command)),
                    None => return,
                }
                continue;
            }
            match self.serve(&mut pauses).await {
                Ended::Abandoned => return,
                Ended::Broken(error) => {
                    tracing::warn!(url = &*self.url, %error, "the connection for watchers of results is gone");
                }
            }
            if self.pause(pauses.next()).await.is_none() {
                return;
            }
        }
    }

    /// Serves watchers from the server that the commands go to, until the connection breaks, or they go to another one.
    async fn serve(&mut self, pauses: &mut Pauses) -> Ended {
        let mut commands_link = self.connection.clone();
        let (dialer, epoch) = match commands_link.server().await {
            Ok(server) => server,
            Err(error) => return Ended::Broken(error),
        };
        tokio::select! {
            Err(ended) = self.session(&dialer, pauses) => ended,
            () = commands_link.until_elsewhere(epoch) => {
                Ended::Broken("the result backend is another server now".into())
            }
        }
    }

    /// Connects, catches up, and then forwards changes until the connection breaks.
    async fn session(&mut self, dialer: &Dialer, pauses: &mut Pauses) -> Result<std::convert::Infallible, Ended> {
        for watched in self.watched.values_mut() {
            watched.confirmed = false;
        }
        let pubsub = in_time(self.timeout, dialer.pubsub()).await?;
        let (mut sink, mut messages) = pubsub.split();
        let earlier = self.watched.iter().filter(|(_, watched)| watched.changes.receiver_count() > 0);
        let earlier: Vec<TaskId> = earlier.map(|(id, _)| id.clone()).collect();
        self.subscribe_all(&mut sink, Vec::new()).await?;
        self.catch_up(&earlier).await?;
        *pauses = Pauses::default();

        let mut commands = Vec::new();
        let mut next_ping = Instant::now() + PING_INTERVAL;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.pass_on(&mut messages, message).await?,
                    None => return Err(Ended::Broken("the server closed it".into())),
                },
                count = self.incoming.recv_many(&mut commands, CHANNELS_PER_COMMAND_MAX) => {
                    if count == 0 {
                        return Err(Ended::Abandoned);
                    }
                    let unwatched = commands.drain(..).filter_map(|command| self.take(command)).collect();
                    self.subscribe_all(&mut sink, unwatched).await?;
                }
                () = sleep_until(next_ping) => {
                    in_time(pong_timeout(self.timeout), sink.ping::<Value>()).await?;
                    next_ping = Instant::now() + PING_INTERVAL;
                }
            }
        }
    }

    /// Waits, handling commands in the meantime. `None` if the last sender is gone.
    async fn pause(&mut self, pause: Duration) -> Option<()> {
        let end = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(end) => break,
                command = self.incoming.recv() => drop(self.take(command?)),
            }
        }
        // Subscribers that gave up during the outage are dropped.
        self.watched.retain(|_, watched| {
            watched.waiting.retain(|reply| !reply.is_closed());
            watched.is_wanted()
        });
        Some(())
    }

    /// Applies a command to the table. Returns the task if it has no watcher left and Redis still sends its changes.
    fn take(&mut self, command: WatchCommand) -> Option<TaskId> {
        match command {
            WatchCommand::Subscribe { id, reply } => {
                let watched = self.watched.entry(id.clone()).or_insert_with(Watched::new);
                if watched.confirmed {
                    watched.answer(reply, id, &self.commands);
                } else {
                    watched.waiting.push(reply);
                }
                None
            }
            WatchCommand::Gone { id } => match self.watched.entry(id) {
                Entry::Occupied(watched) if !watched.get().is_wanted() => {
                    let (id, watched) = watched.remove_entry();
                    watched.confirmed.then_some(id)
                }
                _ => None,
            },
        }
    }

    /// Ends the subscriptions to `unwatched`, and subscribes to every watched task that is not confirmed.
    async fn subscribe_all(&mut self, sink: &mut PubSubSink, unwatched: Vec<TaskId>) -> Result<(), Ended> {
        self.unsubscribe(sink, &unwatched).await?;
        let wanted = self.watched.iter().filter(|(_, watched)| !watched.confirmed);
        let wanted: Vec<TaskId> = wanted.map(|(id, _)| id.clone()).collect();
        for ids in wanted.chunks(CHANNELS_PER_COMMAND_MAX) {
            let channels: Vec<String> = ids.iter().map(keys::result).collect();
            match in_time(self.timeout, sink.subscribe(channels)).await {
                Ok(()) => self.confirm(ids),
                // The server forbids the subscription, and a repetition would be forbidden as well.
                Err(error) if error.code().is_some() => self.refuse(ids, &error),
                // The connection is at fault; subscribers are answered over the next one.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn confirm(&mut self, ids: &[TaskId]) {
        for id in ids {
            let Some(watched) = self.watched.get_mut(id) else { continue };
            watched.confirmed = true;
            for reply in std::mem::take(&mut watched.waiting) {
                watched.answer(reply, id.clone(), &self.commands);
            }
        }
    }

    /// Answers waiting subscribers with the error, and ends the streams of earlier watchers.
    fn refuse(&mut self, ids: &[TaskId], error: &RedisError) {
        for watched in ids.iter().filter_map(|id| self.watched.remove(id)) {
            for reply in watched.waiting {
                // The subscriber may have given up.
                let _ = reply.send(Err(error.clone()));
            }
        }
    }

    async fn unsubscribe(&self, sink: &mut PubSubSink, ids: &[TaskId]) -> Result<(), Ended> {
        // Without a channel, the command would end all subscriptions.
        if ids.is_empty() {
            return Ok(());
        }
        let channels: Vec<String> = ids.iter().map(keys::result).collect();
        Ok(in_time(self.timeout, sink.unsubscribe(channels)).await?)
    }

    /// Sends the stored records of these tasks to their watchers.
    async fn catch_up(&self, ids: &[TaskId]) -> Result<(), Ended> {
        let documents = documents(&self.connection, ids).await.map_err(Ended::Broken)?;
        for (id, document) in ids.iter().zip(documents) {
            if let Some(document) = document {
                self.tell(id, result::decode(id, &document));
            }
        }
        Ok(())
    }

    /// Tells watchers of a change, and of those that have come behind it.
    ///
    /// Every user who may publish on the server can send any change, while records are written by those who may write
    /// keys. So an end is only a hint to read the record; all that have come are read at once.
    async fn pass_on(&self, messages: &mut (impl Stream<Item = Msg> + Unpin), first: Msg) -> Result<(), Ended> {
        let mut ended: Vec<TaskId> = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            if let Some(id) = keys::task_of(message.get_channel_name()) {
                match result::decode(&id, message.get_payload_bytes()) {
                    Ok(record) if !record.state.is_terminal() => self.tell(&id, Ok(record)),
                    Ok(_) | Err(_) => ended.extend((!ended.contains(&id)).then_some(id)),
                }
            }
            next = if ended.len() < READ_AT_ONCE_MAX { messages.next().now_or_never().flatten() } else { None };
        }
        if ended.is_empty() { Ok(()) } else { self.catch_up(&ended).await }
    }

    fn tell(&self, id: &TaskId, stored: Result<Record, ResultError>) {
        let Some(watched) = self.watched.get(id) else { return };
        // Sending fails only if the last watcher is just being dropped.
        drop(watched.changes.send(Arc::new(stored)));
    }
}

impl Watched {
    fn new() -> Self {
        Self { changes: broadcast::Sender::new(CHANGES_PENDING_MAX), waiting: Vec::new(), confirmed: false }
    }

    fn answer(&self, reply: Reply, id: TaskId, commands: &mpsc::WeakUnboundedSender<WatchCommand>) {
        // If there is no sender any more, there is no subscriber either.
        let Some(commands) = commands.upgrade() else { return };
        // If the subscriber has given up, the watcher is dropped at once and unsubscribes.
        let _ = reply.send(Ok(RedisWatcher { receiver: Some(self.changes.subscribe()), id, commands }));
    }

    fn is_wanted(&self) -> bool {
        !self.waiting.is_empty() || self.changes.receiver_count() > 0
    }
}
