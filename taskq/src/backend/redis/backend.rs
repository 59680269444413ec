//! A result backend and Kv store in Redis.

use std::sync::Arc;

use ::redis::IntoConnectionInfo;

use super::connection::Connection;
use super::watch::Watch;
use super::{refusal, scripts};
use crate::backend::{BackendError, BackendOptions};
use crate::io;

/// A result backend and Kv store in Redis. The connections are closed when it and all its streams of changes are
/// dropped.
#[derive(Debug)]
pub struct RedisBackend {
    pub(super) connection: Connection,
    pub(super) watch: Watch,
    pub(super) options: BackendOptions,
}

impl RedisBackend {
    /// Connects to the server at `url`, once: `redis://user:password@host:6379/0`, where everything but the host may
    /// be absent, or `redis+unix:///path/to/socket?db=0`. An error tells whether the URL, the network or the server is
    /// at fault, and the remedy. Once connected, the backend reconnects by itself for as long as it exists.
    pub async fn connect(url: &str, options: BackendOptions) -> Result<Self, BackendError> {
        let client = client(url).map_err(|error| refusal::of_url(url, &error))?;
        let shown: Arc<str> = crate::redact::url(url).into();
        let timeout = options.timeout;
        io::run(async move {
            let connection = Connection::open(client.clone(), Arc::clone(&shown), timeout, scripts::load())
                .await
                .map_err(|error| refusal::of_server(&shown, &error))?;
            let watch = Watch::new(client, connection.clone(), shown, timeout);
            Ok(Self { connection, watch, options })
        })
        .await
    }
}

/// Makes a client with `TCP_NODELAY`. By default redis-rs leaves Nagle's algorithm on, and a small request may then
/// wait for the answer to an earlier one.
fn client(url: &str) -> ::redis::RedisResult<::redis::Client> {
    let tcp = ::redis::io::tcp::TcpSettings::default().set_nodelay(true);
    ::redis::Client::open(url.into_connection_info()?.set_tcp_settings(tcp))
}

/// The way of the fuzz targets into this adapter.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    /// Parses an address, and returns the error.
    pub(crate) fn address(url: &str) -> Option<String> {
        super::client(url)
            .err()
            .map(|error| super::refusal::of_url(url, &error))
            .map(|error| format!("{error} {error:?}"))
    }
}
