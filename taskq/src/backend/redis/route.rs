//! The way to the server: an address, or Sentinels that know it.

use std::sync::Arc;

use super::dial::Dialer;
use super::refusal::DialError;
use super::sentinel::{self, Sentinels};

/// The way to the server.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// The address is in the URL.
    Direct(Dialer),
    /// Sentinels know the address of the primary.
    Sentinels(Arc<Sentinels>),
}

impl Route {
    /// Understands the URL of a server, or of Sentinels.
    pub(super) fn new(url: &str) -> Result<Self, DialError> {
        match sentinel::parse(url) {
            Some(sentinels) => Ok(Self::Sentinels(Arc::new(sentinels?))),
            None => Ok(Self::Direct(Dialer::new(url)?)),
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
