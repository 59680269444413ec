//! The bytes of a connection, whether they are encrypted on their way or not.

use tokio::io::{AsyncRead, AsyncWrite};

/// The bytes of a connection, in both directions.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}
