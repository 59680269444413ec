//! The client of calls that name none.

use std::sync::{PoisonError, RwLock};

use super::Client;
use crate::definition::Context;
use crate::error::Error;

static INSTALLED: RwLock<Option<Client>> = RwLock::new(None);

/// The lock held while a client is being connected, so that concurrent calls connect only once.
static CONNECTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Client {
    /// Makes this the default client of the whole process: calls that name no client use it. Installing another one
    /// replaces it.
    pub fn install(self) -> Self {
        *INSTALLED.write().unwrap_or_else(PoisonError::into_inner) = Some(self.clone());
        self
    }
}

impl Context {
    /// Returns the client of the worker that runs this task, for calls that take a client. Calls that are awaited
    /// inside a task use it by default.
    pub fn client(&self) -> Option<Client> {
        self.try_state::<Client>().map(|client| (*client).clone())
    }
}

fn installed() -> Option<Client> {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Returns the client of calls that name none.
///
/// Inside a task, this is the worker's client; else the installed one; else one that is connected now, as `taskq.toml`
/// and the environment configure it, and installed. Fails if the connection fails; the next call tries again. In a
/// process that was forked from one with an installed client, another one is connected with the same settings.
pub async fn current() -> Result<Client, Error> {
    let of_task = || Context::current().and_then(|context| context.client());
    let usable = || installed().filter(Client::is_of_this_process);
    if let Some(client) = of_task().or_else(of_test).or_else(usable) {
        return Ok(client);
    }
    may_connect()?;
    let _only_one = CONNECTING.lock().await;
    if let Some(client) = usable() {
        return Ok(client);
    }
    let connected = match installed() {
        // This process was forked from the one that has connected it.
        Some(of_parent) => Client::builder().settings(of_parent.settings().clone()).build().await?,
        None => Client::from_settings().await?,
    };
    Ok(connected.install())
}

/// Finds the client of the test that is running here, if one is.
#[cfg(feature = "testing")]
static OF_TEST: std::sync::OnceLock<fn() -> Option<Client>> = std::sync::OnceLock::new();

/// Makes calls use the client that `find` returns, before the installed one, and prevents automatic connections.
#[cfg(feature = "testing")]
pub(crate) fn ask_first(find: fn() -> Option<Client>) {
    OF_TEST.get_or_init(|| find);
}

#[cfg(feature = "testing")]
fn of_test() -> Option<Client> {
    OF_TEST.get().and_then(|find| find())
}

/// Fails in the process of a test, where a call outside of its test's runtime must not reach a server.
#[cfg(feature = "testing")]
fn may_connect() -> Result<(), Error> {
    if OF_TEST.get().is_some() { Err(Error::OutsideTest) } else { Ok(()) }
}

#[cfg(not(feature = "testing"))]
fn of_test() -> Option<Client> {
    None
}

#[cfg(not(feature = "testing"))]
fn may_connect() -> Result<(), Error> {
    Ok(())
}
