//! An encrypted stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client;

use super::verdict::{TlsPeer, of_failure};

/// An encrypted connection. The bytes are those of the protocol inside.
///
/// By TLS 1.3 a client's handshake is over before the server has looked at its certificate, so a refusal comes with the
/// first read, or as the end of the connection. Until the server has sent something, failures are those of the
/// handshake.
#[derive(Debug)]
pub(crate) struct TlsStream {
    stream: client::TlsStream<TcpStream>,
    /// The peer of a handshake that the server has not confirmed by a first byte.
    unconfirmed: Option<Box<TlsPeer>>,
}

impl TlsStream {
    pub(super) fn new(stream: client::TlsStream<TcpStream>, peer: TlsPeer) -> Self {
        Self { stream, unconfirmed: Some(Box::new(peer)) }
    }

    fn told<T>(&self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        done.map_err(|error| match &self.unconfirmed {
            Some(peer) => of_failure(error, peer),
            None => error,
        })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.unconfirmed = None;
        } else if let (Poll::Ready(Ok(())), Some(peer)) = (&read, &self.unconfirmed)
            && peer.was_asked()
            && into.remaining() > 0
        {
            return Poll::Ready(Err(of_failure(io::ErrorKind::UnexpectedEof.into(), peer)));
        }
        self.told(read)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.told(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
