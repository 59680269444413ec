//! The client of calls that name none.

use std::sync::{PoisonError, RwLock};

use super::Client;
use crate::error::Error;
use crate::task::Context;

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
    if let Some(client) = Context::current().and_then(|context| context.client()).or_else(installed) {
        return Ok(client);
    }
    let _only_one = CONNECTING.lock().await;
    if let Some(client) = installed() {
        return Ok(client);
    }
    Ok(Client::from_env().await?.install())
}
