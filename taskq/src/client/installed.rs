//! The client of calls that name none.

use std::sync::{PoisonError, RwLock};

use super::Client;
use crate::definition::Context;
use crate::error::Error;

static INSTALLED: RwLock<Option<Client>> = RwLock::new(None);

/// Held while a client is being connected, so that calls that race connect once.
static CONNECTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(super) fn install(client: Client) {
    *INSTALLED.write().unwrap_or_else(PoisonError::into_inner) = Some(client);
}

fn installed() -> Option<Client> {
    INSTALLED.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The client of calls that name none: inside a task the worker's; else the installed one; else one that is connected
/// now as `taskq.toml` and the environment say, and installed. An error says what is wrong with the connection; the
/// next call tries again.
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
    Ok(Client::from_env().await?.install())
}

/// Finds the client of the test that is running here, if one is.
#[cfg(feature = "testing")]
static OF_TEST: std::sync::OnceLock<fn() -> Option<Client>> = std::sync::OnceLock::new();

/// From now on `find` is asked before the installed client is taken, and no client is connected by itself.
#[cfg(feature = "testing")]
pub(crate) fn ask_first(find: fn() -> Option<Client>) {
    OF_TEST.get_or_init(|| find);
}

#[cfg(feature = "testing")]
fn of_test() -> Option<Client> {
    OF_TEST.get().and_then(|find| find())
}

/// Not in the process of a test: a call that lost its test must not end up on a server.
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
