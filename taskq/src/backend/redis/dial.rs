//! The opening of connections. Every connection to a server begins here, over a stream of bytes of our own.

use std::fmt;
use std::sync::Arc;

use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::io;
use crate::tls::{ByteStream, TlsOptions};

/// The address of a server, its encryption, and the user, the database and the protocol on each connection to it.
#[derive(Clone)]
pub(super) struct Dialer {
    address: ConnectionAddr,
    login: RedisConnectionInfo,
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "it is always absent there"))]
    tls: Option<TlsOptions>,
}

/// A connection for commands. Clones share it; with the last one it is closed, whatever it still waits for.
#[derive(Clone)]
pub(super) struct CommandLink {
    pub(super) connection: MultiplexedConnection,
    _driver: Arc<OwnedTask>,
}

/// A task that ends with its owner.
pub(super) struct OwnedTask(AbortHandle);

impl OwnedTask {
    /// Starts a task on the I/O runtime.
    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(io::spawn(task).abort_handle())
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dialer {
    /// Understands the URL of one server.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        Ok(Self { address: info.addr().clone(), login: info.redis_settings().clone(), tls: None })
    }

    /// This server and user, over encrypted connections if there are options for them.
    pub(super) fn encrypted(self, tls: Option<TlsOptions>) -> Self {
        Self { tls, ..self }
    }

    /// Another server, with the same user and database.
    pub(super) fn to(&self, host: &str, port: u16) -> Self {
        Self { address: ConnectionAddr::Tcp(host.to_owned(), port), login: self.login.clone(), tls: self.tls.clone() }
    }

    /// Whether it leads to this host and port.
    pub(super) fn leads_to(&self, host: &str, port: u16) -> bool {
        self.address == ConnectionAddr::Tcp(host.to_owned(), port)
    }

    /// Opens a connection for commands. The time for that is bounded by the caller, as is that for each answer.
    pub(super) async fn commands(&self) -> RedisResult<CommandLink> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let stream = self.stream().await?;
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.login, stream, config).await?;
        Ok(CommandLink { connection, _driver: Arc::new(OwnedTask::spawn(driver)) })
    }

    /// Opens a connection for pub/sub. The time for that is bounded by the caller.
    pub(super) async fn pubsub(&self) -> RedisResult<PubSub> {
        PubSub::new(&self.login, self.stream().await?).await
    }

    /// Opens a stream to the server. An error may carry a [`TlsFault`](crate::tls::TlsFault).
    async fn stream(&self) -> RedisResult<Box<dyn ByteStream>> {
        match &self.address {
            ConnectionAddr::Tcp(host, port) => {
                let stream = connect(host, *port).await?;
                #[cfg(feature = "tls")]
                if let Some(options) = &self.tls {
                    return Ok(Box::new(crate::tls::connect(stream, host, options).await?));
                }
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            _ => Err(RedisError::from((ErrorKind::InvalidClientConfig, "this kind of address is not supported here"))),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Connects to a server, of several addresses of its name to the one that answers first.
async fn connect(host: &str, port: u16) -> RedisResult<TcpStream> {
    let mut connects = Vec::new();
    for address in tokio::net::lookup_host((host, port)).await? {
        connects.push(Box::pin(TcpStream::connect(address)));
    }
    if connects.is_empty() {
        return Err(RedisError::from((ErrorKind::InvalidClientConfig, "the host has no address")));
    }
    let (stream, _) = select_ok(connects).await?;
    // A small request would otherwise wait for the answer to an earlier one.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
impl Dialer {
    /// The user, the password and the database.
    pub(super) fn login(&self) -> (Option<&str>, Option<&str>, i64) {
        (self.login.username(), self.login.password(), self.login.db())
    }
}
