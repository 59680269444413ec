//! The options that all backend adapters share.

use std::time::Duration;

use crate::access::FileMode;
use crate::tls::TlsOptions;

/// The options of a backend adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendOptions {
    /// The time for which results are kept. The default is one day, as with Celery's `result_expires`; `None` keeps
    /// them without end.
    pub result_ttl: Option<Duration>,
    /// The maximum time that one operation may take. The default is 10 s.
    pub timeout: Duration,
    /// The users who may use the file of a `sqlite:` backend that does not exist yet. The default is this user alone.
    pub file_mode: FileMode,
    /// The files and names of encrypted connections, as far as the URL does not say.
    pub tls: TlsOptions,
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self {
            result_ttl: Some(Duration::from_secs(86_400)),
            timeout: Duration::from_secs(10),
            file_mode: FileMode::Owner,
            tls: TlsOptions::default(),
        }
    }
}

impl BackendOptions {
    /// Changes the options by `change`, and returns them.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
