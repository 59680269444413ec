//! The client: sends calls, and follows what becomes of them.
//!
//! The path of a call begins here: [`call`] (awaiting it) → [`publish`] (making the message) → the broker. A
//! [`Handle`] then follows the task through the result backend.

mod builder;
pub mod call;
mod dead;
mod handle;
mod installed;
mod node;
mod publish;
mod router;
mod send_all;
mod unique;

use std::sync::Arc;

use crate::backend::{Backend, ResultBackend, SharedKv};
use crate::broker::{Broker, QueueSpec};
use crate::canvas::Call;
use crate::clock::Clock;
use crate::error::Error;
use crate::message::TaskId;
use crate::settings::Settings;

pub use builder::ClientBuilder;
pub use call::{GetFuture, SendFuture};
pub use dead::{DeadEntry, DeadLetter, DeadSet, Unreadable, Which, dead_message};
pub use handle::{Handle, Status, Updates};
#[cfg(feature = "testing")]
pub(crate) use installed::ask_first;
pub use installed::current;
pub use node::host_name;
pub use send_all::{SendAll, SendReport};

use router::Router;

/// A connection to a broker and a result backend. Cloning is cheap and shares the connections.
///
/// ```
/// # use taskq::{task, Client};
/// #[task]
/// pub async fn add(x: i64, y: i64) -> i64 { x + y }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), taskq::Error> {
/// let client = Client::builder().broker("memory:docs").results("memory:docs").build().await?;
/// let handle = add(2, 3).send(&client).await?;
/// println!("enqueued as {}", handle.id());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    broker: Arc<dyn Broker>,
    backend: Option<Backend>,
    router: Router,
    clock: Clock,
    /// The node name that our messages carry: `gen<pid>@<host>`, as Celery's.
    origin: String,
}

impl Client {
    /// A client over adapters that are already connected.
    pub(crate) fn over(settings: Settings, broker: Arc<dyn Broker>, backend: Backend, clock: Clock) -> Self {
        let (router, origin) = (Router::new(&settings), node::client_name());
        Self { inner: Arc::new(Inner { settings, broker, backend: Some(backend), router, clock, origin }) }
    }

    /// A client yet to be configured. What is not said comes from `taskq.toml` and the environment.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Connects as `taskq.toml` and the environment say; see [`Settings`].
    pub async fn from_env() -> Result<Self, Error> {
        Self::builder().build().await
    }

    /// Makes this the client of calls that are awaited without naming one, in the whole process. A later one
    /// replaces it.
    pub fn install(self) -> Self {
        installed::install(self.clone());
        self
    }

    /// Sends many calls, without waiting for one confirm before the next is on its way.
    ///
    /// Awaited, it gives a report of all; as a stream, each answer as it comes.
    pub fn send_all<T>(&self, calls: impl IntoIterator<Item = Call<T>>) -> SendAll<T> {
        SendAll::new(self.clone(), calls.into_iter().map(Call::into_parts).collect())
    }

    /// The handle of the task with this id, whoever sent it.
    pub fn handle<T>(&self, id: TaskId) -> Handle<T> {
        Handle::new(id, Some(self.clone()))
    }

    /// The tasks that failed for good and the messages that could not be read.
    pub fn dead(&self) -> DeadSet {
        DeadSet::new(self.clone())
    }

    /// The settings it was built with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// The result backend. An error says how to configure one.
    pub fn results(&self) -> Result<&Arc<dyn ResultBackend>, Error> {
        self.inner.backend.as_ref().map(|backend| &backend.results).ok_or(Error::NoResultBackend)
    }

    /// The Kv store, if there is one.
    pub fn kv(&self) -> Option<&SharedKv> {
        self.inner.backend.as_ref().map(|backend| &backend.kv)
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Makes the queue exist, as the settings say of it. Sending to a queue does this by itself.
    pub async fn declare(&self, queue: &str) -> Result<Arc<str>, Error> {
        self.inner.router.declared(&*self.inner.broker, queue).await
    }

    /// Makes the queue exist as `spec` says, whatever the settings say of it.
    pub async fn declare_as(&self, spec: &QueueSpec) -> Result<Arc<str>, Error> {
        self.inner.router.declare_as(&*self.inner.broker, spec).await
    }

    /// Sends what is still to be sent and closes the connections.
    pub async fn close(&self) {
        self.inner.broker.close().await;
    }
}

impl crate::definition::Context {
    /// The client of the worker that runs this task, for calls that name one. Calls that are simply awaited inside a
    /// task use it by themselves.
    pub fn client(&self) -> Option<Client> {
        self.try_state::<Client>().map(|client| (*client).clone())
    }
}
