//! A result backend and Kv store in Redis.

use std::sync::Arc;

use super::connection::Connection;
use super::route::Route;
use super::watch::Watch;
use super::{refusal, scripts};
use crate::backend::{BackendError, BackendOptions};
use crate::io;
use crate::redact;
use crate::tls::{self, Understood};

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
    /// be absent, `redis+unix:///path/to/socket?db=0`, or `redis+sentinel://host1,host2,host3/NAME/0` for the primary
    /// that Sentinels know under this name. An error tells whether the URL, the network or the server is
    /// at fault, and the remedy. Once connected, the backend reconnects by itself for as long as it exists.
    pub async fn connect(url: &str, options: BackendOptions) -> Result<Self, BackendError> {
        let Understood { url: plain, tls } =
            tls::understand(url, &options.tls).map_err(|why| BackendError::Url { url: redact::url(url), why })?;
        let plain = plain.replacen("rediss", "redis", usize::from(tls.is_some()));
        let route = Route::new(&plain, tls).map_err(|error| refusal::of_url(url, &error))?;
        let shown: Arc<str> = redact::url(url).into();
        let timeout = options.timeout;
        io::run(async move {
            let connection = Connection::open(route, Arc::clone(&shown), timeout, scripts::load())
                .await
                .map_err(|error| refusal::of_server(&shown, &error))?;
            let watch = Watch::new(connection.clone(), shown, timeout);
            Ok(Self { connection, watch, options })
        })
        .await
    }
}

/// The part of this adapter that the fuzz targets reach.
#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    /// Parses an address, and returns the error.
    pub(crate) fn address(url: &str) -> Option<String> {
        super::Route::new(url, None)
            .err()
            .map(|error| super::refusal::of_url(url, &error))
            .map(|error| format!("{error} {error:?}"))
    }
}
