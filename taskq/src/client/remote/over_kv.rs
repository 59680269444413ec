//! Messages to all workers by way of Kv, for brokers that carry none: each is a value with a time to live, and those
//! who listen look for new ones.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::backend::{BackendError, SharedKv};
use crate::broker::{Broadcast, BrokerError, Heard, Inbox, Listening};
use crate::message::{Headers, Properties, WireMessage};
use crate::remote::ReplyAddress;

/// The beginning of the keys of messages to all workers.
const REQUESTS: &str = "control:request:";

/// The beginning of the keys of messages with events.
const EVENTS: &str = "control:event:";

/// The time for which events are kept. Those who watch look more often.
const EVENTS_KEPT_FOR: Duration = Duration::from_secs(5);

/// The beginning of the keys of answers; the address follows.
const ANSWERS: &str = "control:answer:";

/// The time for which a message is kept. It is longer than any look may be late.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// The pause between two looks for requests.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The pause between two looks as a multiple of the time that one takes: a store with many keys may take long to list
/// some.
const PAUSE_PER_LOOK: u32 = 20;

/// The pause between two looks for answers, while somebody waits for them.
const LOOK_FOR_ANSWERS_EVERY: Duration = Duration::from_millis(50);

/// The number of messages that are here and were not yet taken.
const WAITING_MAX: usize = 64;

/// The sole version of stored messages.
const VERSION: u32 = 1;

/// A message, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct PostedMessage {
    v: u32,
    content_type: Option<String>,
    headers: Map<String, Value>,
    body: String,
}

impl PostedMessage {
    fn of(message: &WireMessage) -> Self {
        Self {
            v: VERSION,
            content_type: message.properties.content_type.as_deref().map(str::to_owned),
            headers: message.headers.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
            // Requests and answers are JSON.
            body: String::from_utf8_lossy(&message.body).into_owned(),
        }
    }

    /// The message; `None` if a newer release has written it, or it is none.
    fn read(value: &[u8]) -> Option<WireMessage> {
        let stored: Self = serde_json::from_slice(value).ok()?;
        let mut headers = Headers::with_capacity(stored.headers.len());
        for (name, value) in stored.headers {
            headers.push(name, value);
        }
        let properties = Properties::default().with(|properties| {
            properties.content_type = stored.content_type.map(Into::into);
        });
        (stored.v == VERSION).then(|| WireMessage { properties, headers, body: Bytes::from(stored.body) })
    }
}

/// Messages to all workers by way of Kv.
pub struct OverKv {
    kv: SharedKv,
}

impl OverKv {
    /// Messages in this store.
    pub(super) fn new(kv: SharedKv) -> Self {
        Self { kv }
    }

    async fn put(&self, prefix: &str, message: &WireMessage, kept_for: Duration) -> Result<(), BrokerError> {
        let key = format!("{prefix}{}", Uuid::now_v7());
        let value = serde_json::to_vec(&PostedMessage::of(message)).expect("texts and numbers can be written as JSON");
        self.kv.put(&key, value.into(), Some(kept_for)).await.map_err(|error| failed("leaving a message", error))
    }

    /// Listens to messages under this prefix; those that are there already have been missed.
    fn listen_under(&self, prefix: String, look_every: Duration) -> Listening {
        let (heard, listening) = mpsc::channel(WAITING_MAX);
        crate::io::spawn(look(Arc::clone(&self.kv), prefix, look_every, heard));
        stream::unfold(listening, async |mut listening| Some((listening.recv().await?, listening))).boxed()
    }
}

/// Looks for new messages until nobody listens any more.
async fn look(kv: SharedKv, prefix: String, look_every: Duration, heard: mpsc::Sender<Heard>) {
    let mut known: Option<HashSet<String>> = None;
    while !heard.is_closed() {
        let began = Instant::now();
        let found = kv.scan(&prefix).await;
        let pause = look_every.max(began.elapsed() * PAUSE_PER_LOOK);
        match found {
            Ok(mut found) => {
                // By their time.
                found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                let news: Vec<Heard> = match &known {
                    None => vec![Heard::Since],
                    Some(known) => {
                        let new = found.iter().filter(|(key, _)| !known.contains(key));
                        new.filter_map(|(_, value)| PostedMessage::read(value)).map(Heard::Message).collect()
                    }
                };
                known = Some(found.into_iter().map(|(key, _)| key).collect());
                for news in news {
                    if heard.send(news).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "requests to workers cannot be looked for");
                known = None;
            }
        }
        crate::io::pause(pause).await;
    }
}

impl Broadcast for OverKv {
    fn listen<'a>(&'a self, _node: &'a str) -> BoxFuture<'a, Result<Listening, BrokerError>> {
        let listening = self.listen_under(REQUESTS.to_owned(), LOOK_EVERY);
        futures_util::future::ready(Ok(listening)).boxed()
    }

    fn tell(&self, message: WireMessage) -> BoxFuture<'_, Result<(), BrokerError>> {
        async move { self.put(REQUESTS, &message, KEPT_FOR).await }.boxed()
    }

    fn announce<'a>(&'a self, _key: &'a str, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>> {
        async move { self.put(EVENTS, &message, EVENTS_KEPT_FOR).await }.boxed()
    }

    fn watch_events(&self) -> BoxFuture<'_, Result<Listening, BrokerError>> {
        let listening = self.listen_under(EVENTS.to_owned(), LOOK_EVERY);
        futures_util::future::ready(Ok(listening)).boxed()
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Inbox, BrokerError>> {
        async move {
            let key = Uuid::now_v7().to_string();
            let mut answers = self.listen_under(format!("{ANSWERS}{key}:"), LOOK_FOR_ANSWERS_EVERY);
            match answers.next().await {
                Some(_) => Ok(Inbox { address: ReplyAddress::new("kv", key), answers }),
                None => Err(BrokerError::Closed),
            }
        }
        .boxed()
    }

    fn answer<'a>(&'a self, address: &'a ReplyAddress, message: WireMessage) -> BoxFuture<'a, Result<(), BrokerError>> {
        async move { self.put(&format!("{ANSWERS}{}:", address.routing_key), &message, KEPT_FOR).await }.boxed()
    }
}

impl fmt::Debug for OverKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverKv").finish_non_exhaustive()
    }
}

fn failed(what: &str, error: BackendError) -> BrokerError {
    BrokerError::Failed { what: what.to_owned(), source: error.into() }
}
