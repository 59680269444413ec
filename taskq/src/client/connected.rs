//! The client itself: its connections, and access to them.

use std::sync::Arc;

use chrono::TimeDelta;

use super::node;
use super::router::Router;
use super::store_clock::StoreClock;
use crate::backend::{Backend, ResultBackend, SharedKv};
use crate::broker::{Broker, QueueSpec};
use crate::clock::Clock;
use crate::error::Error;
use crate::protection::signature::Verification;
use crate::settings::Settings;

/// A connection to a broker and a result backend. Cloning is cheap and shares the connections.
///
/// A client works on any async runtime, and without one. It belongs to the process that has connected it: in a process
/// that is forked afterwards its methods fail with [`Error::Forked`], and another client can be connected there.
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
    inner: Arc<Connected>,
}

#[derive(Debug)]
struct Connected {
    settings: Settings,
    broker: Arc<dyn Broker>,
    backend: Option<Backend>,
    router: Router,
    clock: Clock,
    verification: Option<Verification>,
    store_clock: StoreClock,
    /// The node name that our messages carry: `gen<pid>@<host>`, as Celery's.
    origin: String,
    /// The process that the connections belong to.
    process: u32,
}

impl Client {
    /// Makes a client of these connections.
    pub(crate) fn over(settings: Settings, broker: Arc<dyn Broker>, backend: Option<Backend>, clock: Clock) -> Self {
        let (router, origin, store_clock) = (Router::new(&settings), node::client_name(), StoreClock::unknown());
        let process = std::process::id();
        let verification = settings.verification();
        Self {
            inner: Arc::new(Connected {
                settings,
                broker,
                backend,
                router,
                clock,
                verification,
                store_clock,
                origin,
                process,
            }),
        }
    }

    /// Returns the settings that the client was built with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Returns the rule by which messages are verified, if they are.
    pub(super) fn verification(&self) -> Option<&Verification> {
        self.inner.verification.as_ref()
    }

    /// Returns the broker.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// Returns whether the connections belong to this process, and not to one that this was forked from: a fork takes
    /// no threads along, so nothing would ever be answered.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.inner.process == std::process::id()
    }

    /// Fails if the connections belong to the process that this one was forked from.
    pub(super) fn require_own_process(&self) -> Result<(), Error> {
        if self.is_of_this_process() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Returns the result backend. The error of a client without one tells how to configure it.
    pub fn results(&self) -> Result<&Arc<dyn ResultBackend>, Error> {
        self.require_own_process()?;
        self.inner.backend.as_ref().map(|backend| &backend.results).ok_or(Error::NoResultBackend)
    }

    /// Returns the Kv store, if there is one.
    pub fn kv(&self) -> Option<&SharedKv> {
        self.inner.backend.as_ref().map(|backend| &backend.kv)
    }

    /// Returns the client's clock.
    #[doc(hidden)]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Returns how far the clock of the result store is ahead of the client's, where that is known.
    #[doc(hidden)]
    pub fn store_clock_ahead(&self) -> Option<TimeDelta> {
        self.inner.store_clock.ahead(self.kv()?, self.clock())
    }

    /// Measures how far the clock of the result store is ahead, if there is one.
    pub(super) async fn measure_store_clock(&self) {
        if let Some(kv) = self.kv() {
            self.inner.store_clock.begin(kv, self.clock()).await;
        }
    }

    pub(super) fn router(&self) -> &Router {
        &self.inner.router
    }

    /// Returns the node name that the client's messages carry.
    pub(super) fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// Declares the queue as the settings describe it. Sending to a queue does this by itself.
    pub async fn declare(&self, queue: &str) -> Result<Arc<str>, Error> {
        self.require_own_process()?;
        self.inner.router.declared(&*self.inner.broker, queue).await
    }

    /// Declares a queue as `spec` describes it, regardless of the settings.
    pub async fn declare_as(&self, spec: &QueueSpec) -> Result<Arc<str>, Error> {
        self.require_own_process()?;
        self.inner.router.declare_as(&*self.inner.broker, spec).await
    }

    /// Sends all messages that are still pending, and closes the connections.
    pub async fn close(&self) {
        // What is pending in the process that this one was forked from is sent there.
        if self.is_of_this_process() {
            self.inner.broker.close().await;
        }
    }
}
