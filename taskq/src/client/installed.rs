//! The client of calls that name none.

use std::sync::{PoisonError, RwLock};

use super::Client;
use crate::definition::Context;
use crate::error::Error;

static INSTALLED: RwLock<Option<Client>> = RwLock::new(None);

/// Held while a client is being connected, so that calls that race connect once.
static CONNECTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Client {
    /// Makes this the client of calls that are awaited without naming one, in the whole process. A later one
    /// replaces it.
    pub fn install(self) -> Self {
        *INSTALLED.write().unwrap_or_else(PoisonError::into_inner) = Some(self.clone());
        self
    }
}

impl Context {
    /// Returns the client of the worker that runs this task, for calls that name one. Calls that are simply awaited
    /// inside a task use it by themselves.
    pub fn client(&self) -> Option<Client> {
        self.try_state::<Client>().map(|client| (*client).clone())
    }
}

fn installed() -> Option<Client> {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Returns the client of calls that name none.
///
/// Inside a task that is the worker's; else the installed one; else one that is connected now as `taskq.toml` and the
/// environment configure it, and installed. An error names the fault of the connection; the next call tries again.
pub async fn current() -> Result<Client, Error> {
    let of_task = || Context::current().and_then(|context| context.client());
    if let Some(client) = of_task().or_else(of_test).or_else(installed) {
        return Ok(client);
    }
    may_connect()?;
    let _only_one = CONNECTING.lock().await;
    if let Some(client) = installed() {
        return Ok(client);
    }
    Ok(Client::from_settings().await?.install())
}

/// Finds the client of the test that is running here, if one is.
#[cfg(feature = "testing")]
static OF_TEST: std::sync::OnceLock<fn() -> Option<Client>> = std::sync::OnceLock::new();

/// Asks `find` from now on before the installed client is taken, and connects no client by itself.
#[cfg(feature = "testing")]
pub(crate) fn ask_first(find: fn() -> Option<Client>) {
    OF_TEST.get_or_init(|| find);
}

#[cfg(feature = "testing")]
fn of_test() -> Option<Client> {
    OF_TEST.get().and_then(|find| find())
}

/// Refuses to connect in the process of a test: a call that lost its test must not end up on a server.
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
