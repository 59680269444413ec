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
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::screen::Screen;

/// The payload of the broker's greeting on a socket, as soon as it has come.
pub(super) type GreetingSlot = Arc<Mutex<Option<Vec<u8>>>>;

/// lapin's view of the runtime that it is called on: tokio, with screened sockets.
pub(super) fn runtime() -> Runtime<RuntimeParts<Tokio, ScreenedSockets>> {
    Runtime::new(RuntimeParts::new(Tokio::current(), ScreenedSockets(Tokio::current())))
}

/// tokio's sockets and timers; the sockets are screened.
#[derive(Debug, Clone)]
pub(super) struct ScreenedSockets(Tokio);

/// A socket whose received bytes are screened.
#[derive(Debug)]
pub(super) struct ScreenedSocket {
    socket: TcpStream,
    screen: Screen,
    greeting: GreetingSlot,
}

impl ScreenedSocket {
    fn new(socket: TcpStream) -> Self {
        Self { socket, screen: Screen::default(), greeting: GreetingSlot::default() }
    }

    /// The place for the broker's greeting, since lapin does not tell what it says.
    pub(super) fn greeting(&self) -> GreetingSlot {
        Arc::clone(&self.greeting)
    }
}

/// Opens a socket. To be called on the I/O runtime.
pub(super) async fn dial(place: SocketAddr) -> io::Result<ScreenedSocket> {
    let socket = TcpStream::connect(place).await?;
    socket.set_nodelay(true)?;
    Ok(ScreenedSocket::new(socket))
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
        let Self { socket, screen, greeting } = self.get_mut();
        loop {
            let taken = screen.take(into);
            if taken > 0 || into.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            let mut room = ReadBuf::new(screen.room());
            ready!(Pin::new(&mut *socket).poll_read(context, &mut room))?;
            let count = room.filled().len();
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
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(context, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
