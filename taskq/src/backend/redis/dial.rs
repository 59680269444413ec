//! The opening of connections. Every connection to a server begins here, over a stream of bytes of our own.

use std::fmt;
use std::sync::Arc;

use futures_util::future::select_ok;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::io;

/// The bytes of a connection, in both directions.
trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// The address of a server, and the user, the database and the protocol on each connection to it.
#[derive(Clone)]
pub(super) struct Dialer {
    address: ConnectionAddr,
    login: RedisConnectionInfo,
}

/// A connection for commands. Clones share it; with the last one it is closed, whatever it still waits for.
#[derive(Clone)]
pub(super) struct CommandLine {
    pub(super) connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that moves the bytes of a connection.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dialer {
    /// Understands the URL of a server.
    pub(super) fn new(url: &str) -> RedisResult<Self> {
        let info = url.into_connection_info()?;
        Ok(Self { address: info.addr().clone(), login: info.redis_settings().clone() })
    }

    /// Opens a connection for commands. The time for that is bounded by the caller, as is that for each answer.
    pub(super) async fn commands(&self) -> RedisResult<CommandLine> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let stream = connect(&self.address).await?;
        let (connection, driver) = MultiplexedConnection::new_with_config(&self.login, stream, config).await?;
        Ok(CommandLine { connection, _driver: Arc::new(Driver(io::spawn(driver).abort_handle())) })
    }

    /// Opens a connection for pub/sub. The time for that is bounded by the caller.
    pub(super) async fn pubsub(&self) -> RedisResult<PubSub> {
        PubSub::new(&self.login, connect(&self.address).await?).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Connects to a server, of several addresses of its name to the one that answers first.
async fn connect(address: &ConnectionAddr) -> RedisResult<Box<dyn ByteStream>> {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            let mut connects = Vec::new();
            for address in tokio::net::lookup_host((host.as_str(), *port)).await? {
                connects.push(Box::pin(TcpStream::connect(address)));
            }
            if connects.is_empty() {
                return Err(RedisError::from((ErrorKind::InvalidClientConfig, "the host has no address")));
            }
            let (stream, _) = select_ok(connects).await?;
            // A small request would otherwise wait for the answer to an earlier one.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        _ => Err(RedisError::from((ErrorKind::InvalidClientConfig, "this kind of address is not supported here"))),
    }
}
