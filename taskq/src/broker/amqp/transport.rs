//! The transport under lapin: tokio's sockets, with a [screen](super::screen) in front of lapin's parser.

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::{AsFd as AsHandle, AsRawFd as AsRawHandle};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket as AsRawHandle, AsSocket as AsHandle};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::Stream;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::screen::Screen;
use crate::tls::{self, ByteStream, TlsFault, TlsOptions};

/// The payload of the broker's greeting on a socket, as soon as it has come.
pub(super) type GreetingSlot = Arc<Mutex<Option<Vec<u8>>>>;

/// lapin's view of the runtime that it is called on: tokio, with screened sockets.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, ScreenedSockets>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), ScreenedSockets(Tokio::current())))
}

/// tokio's sockets and timers; the sockets are screened.
#[derive(Debug, Clone)]
pub(super) struct ScreenedSockets(Tokio);

/// A socket under the screen.
#[derive(Debug)]
enum InnerSocket {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Encrypted(Box<tls::TlsStream>),
}

/// A socket whose received bytes are screened.
#[derive(Debug)]
pub(super) struct ScreenedSocket {
    socket: InnerSocket,
    /// Whether the server has sent anything.
    has_received: bool,
    screen: Screen,
    greeting: GreetingSlot,
}

impl ScreenedSocket {
    fn new(socket: InnerSocket) -> Self {
        Self { socket, has_received: false, screen: Screen::default(), greeting: GreetingSlot::default() }
    }

    /// The connection encrypted, if there are options for that. To be called before anything was sent.
    #[cfg_attr(
        not(feature = "tls"),
        allow(clippy::unused_async, unused_variables, reason = "the same signature with and without the feature")
    )]
    pub(super) async fn encrypted(self, host: &str, tls: Option<&TlsOptions>) -> io::Result<Self> {
        match (self.socket, tls) {
            #[cfg(feature = "tls")]
            (InnerSocket::Plain(socket), Some(options)) => {
                let encrypted = tls::connect(socket, host, options).await?;
                Ok(Self::new(InnerSocket::Encrypted(Box::new(encrypted))))
            }
            (socket, _) => Ok(Self::new(socket)),
        }
    }

    /// The place for the broker's greeting, since lapin does not tell what it says.
    pub(super) fn greeting(&self) -> GreetingSlot {
        Arc::clone(&self.greeting)
    }
}

impl InnerSocket {
    /// The stream of bytes of the protocol.
    fn stream(&mut self) -> Pin<&mut dyn ByteStream> {
        match self {
            Self::Plain(socket) => Pin::new(socket),
            #[cfg(feature = "tls")]
            Self::Encrypted(socket) => Pin::new(socket),
        }
    }
}

/// Opens a socket. To be called on the I/O runtime.
pub(super) async fn dial(place: SocketAddr) -> io::Result<ScreenedSocket> {
    let socket = TcpStream::connect(place).await?;
    socket.set_nodelay(true)?;
    Ok(ScreenedSocket::new(InnerSocket::Plain(socket)))
}

impl Reactor for ScreenedSockets {
    type TcpStream = ScreenedSocket;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsHandle + AsRawHandle + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    #[expect(clippy::disallowed_types, reason = "the trait says so")]
    fn interval(&self, time: Duration) -> impl Stream<Item = std::time::Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        dial(address)
    }
}

impl AsyncRead for ScreenedSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { socket, has_received, screen, greeting } = self.get_mut();
        loop {
            let taken = screen.take(into);
            if taken > 0 || into.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            let mut room = ReadBuf::new(screen.room());
            ready!(socket.stream().poll_read(context, &mut room))?;
            let count = room.filled().len();
            if !*has_received && count > 0 {
                *has_received = true;
                if matches!(socket, InnerSocket::Plain(_)) && tls::is_alert(room.filled()) {
                    return Poll::Ready(Err(TlsFault::speaks_tls("amqp").into()));
                }
            }
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            screen.received(count)?;
            if let Some(payload) = screen.take_greeting() {
                *greeting.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
            }
        }
    }
}

impl AsyncWrite for ScreenedSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().socket.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket.stream().poll_write_vectored(context, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.stream().poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.stream().poll_shutdown(context)
    }
}
