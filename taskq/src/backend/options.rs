//! The options that all backend adapters share.

use std::time::Duration;

/// The options of a backend adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendOptions {
    /// How long results are kept. Default one day, as Celery's `result_expires`. `None`: for ever.
    pub result_ttl: Option<Duration>,
    /// How long one operation may take. Default 10 s.
    pub timeout: Duration,
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self { result_ttl: Some(Duration::from_secs(86_400)), timeout: Duration::from_secs(10) }
    }
}
