//! The way to the server: an address, or Sentinels that know it.

use std::sync::Arc;

use super::dial::Dialer;
use super::refusal::DialError;
use super::sentinel::{self, Sentinels};
use crate::tls::TlsOptions;

/// The way to the server.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// The address is in the URL.
    Direct(Dialer),
    /// Sentinels know the address of the primary.
    Sentinels(Arc<Sentinels>),
}

impl Route {
    /// Understands the URL of a server, or of Sentinels. With options of TLS every connection is encrypted, those
    /// to the Sentinels too.
    pub(super) fn new(url: &str, tls: Option<TlsOptions>) -> Result<Self, DialError> {
        match sentinel::parse(url) {
            Some(sentinels) => Ok(Self::Sentinels(Arc::new(sentinels?.encrypted(tls.as_ref())))),
            None => Ok(Self::Direct(Dialer::new(url)?.encrypted(tls))),
        }
    }

    /// The Sentinels, where the URL names them.
    pub(super) fn sentinels(&self) -> Option<&Arc<Sentinels>> {
        match self {
            Self::Direct(_) => None,
            Self::Sentinels(sentinels) => Some(sentinels),
        }
    }

    /// The server at this moment.
    pub(super) async fn dialer(&self) -> Result<Dialer, DialError> {
        match self {
            Self::Direct(dialer) => Ok(dialer.clone()),
            Self::Sentinels(sentinels) => sentinels.primary().await,
        }
    }
}
