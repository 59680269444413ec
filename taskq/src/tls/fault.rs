//! The fault of a TLS connection, as the errors of other libraries carry it.

use std::error::Error;
use std::io;
use std::sync::Arc;

/// A fault of TLS, or of its absence, with the remedy.
#[cfg_attr(not(any(feature = "amqp", feature = "tls")), allow(dead_code, reason = "nobody makes one there"))]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TlsFault(pub(crate) String);

impl TlsFault {
    /// Returns the fault that an error, or one of its causes, is.
    pub(crate) fn in_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = error.downcast_ref() {
                return Some(fault);
            }
            // Neither what an I/O error carries nor what is shared counts as its source.
            let inner: Option<&'a (dyn Error + 'static)> = match error.downcast_ref::<io::Error>() {
                Some(error) => error.get_ref().map(|inner| inner as _),
                None => error.downcast_ref::<Arc<dyn Error + Send + Sync>>().map(|shared| &**shared as _),
            };
            next = inner.or_else(|| error.source());
        }
        None
    }

    /// The fault of an unencrypted connection to a server that answered with TLS, of URLs with this scheme.
    #[cfg(feature = "amqp")]
    pub(crate) fn speaks_tls(scheme: &str) -> Self {
        Self(format!("this port speaks TLS; write {scheme}s:// in place of {scheme}://, or name the port without TLS"))
    }
}

impl From<TlsFault> for io::Error {
    fn from(fault: TlsFault) -> Self {
        Self::new(io::ErrorKind::InvalidData, fault)
    }
}

/// Whether these bytes, the first that a server sends, are TLS: an alert, since nothing else is said to a client that
/// has not spoken TLS.
#[cfg(feature = "amqp")]
pub(crate) fn is_alert(first: &[u8]) -> bool {
    matches!(first, [0x15, 0x03, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_among_the_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("it failed")]
        struct Outer(#[source] io::Error);

        let fault = TlsFault("no".to_owned());
        assert_eq!(TlsFault::in_error(&fault), Some(&fault));
        assert_eq!(TlsFault::in_error(&io::Error::from(fault.clone())), Some(&fault));
        assert_eq!(TlsFault::in_error(&Outer(fault.clone().into())), Some(&fault));
        assert_eq!(TlsFault::in_error(&io::Error::other(Outer(io::Error::from(fault.clone())))), Some(&fault));
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(io::Error::from(fault.clone()));
        assert_eq!(TlsFault::in_error(&shared), Some(&fault));
        assert_eq!(TlsFault::in_error(&Outer(io::Error::other("no"))), None);
    }
}
