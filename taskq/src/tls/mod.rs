//! TLS to servers: one connector for every connection to a broker and a result backend.
//!
//! * [`TlsOptions`] names the files of a CA and of a client certificate, and the server's name; parameters of a URL win
//!   over the settings.
//! * `files` reads those files, anew for each connection, so that a certificate that is replaced serves the next one.
//! * `connector` encrypts a connected socket; the stream that it returns tells what the server refuses, also where the
//!   refusal comes after the handshake.
//! * `verdict` (pure) is the meaning of each failure, with its remedy, as a [`TlsFault`].
//!
//! The libraries that speak to the servers have TLS of their own, which is not used: a transport that looks into the
//! bytes has to be above the encryption, and with one connector there is one way to be configured and one text for each
//! fault. There is one crypto provider, `ring`, which is named for each connection: nothing depends on the default of
//! the process.

#[cfg(any(feature = "amqp", feature = "redis"))]
mod bytes;
#[cfg(all(feature = "tls", any(feature = "amqp", feature = "redis")))]
mod connector;
#[cfg(any(feature = "amqp", feature = "redis"))]
mod fault;
#[cfg(all(feature = "tls", any(feature = "amqp", feature = "redis")))]
mod files;
mod options;
#[cfg(all(feature = "tls", any(feature = "amqp", feature = "redis")))]
mod stream;
#[cfg(any(feature = "amqp", feature = "redis"))]
mod url;
#[cfg(all(feature = "tls", any(feature = "amqp", feature = "redis")))]
mod verdict;

#[cfg(any(feature = "amqp", feature = "redis"))]
pub(crate) use self::bytes::ByteStream;
#[cfg(all(feature = "tls", any(feature = "amqp", feature = "redis")))]
pub(crate) use self::connector::connect;
#[cfg(any(feature = "amqp", feature = "redis"))]
pub(crate) use self::fault::TlsFault;
#[cfg(feature = "amqp")]
pub(crate) use self::fault::is_alert;
pub use self::options::TlsOptions;
#[cfg(all(feature = "tls", feature = "amqp"))]
pub(crate) use self::stream::TlsStream;
#[cfg(any(feature = "amqp", feature = "redis"))]
pub(crate) use self::url::{Understood, understand};
