//! From a URL to a result backend and its Kv store.

use std::sync::Arc;
use std::time::Duration;

use super::{BackendError, SharedKv, SharedResults, memory};

/// What every backend adapter may be told.
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

/// A result backend and the Kv store beside it.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Results and progress.
    pub results: SharedResults,
    /// Leases, unique keys, counts.
    pub kv: SharedKv,
}

/// Connects to the backend at `url`: `redis://…`, `sqlite:PATH` or `memory:`. An error says what is wrong and how to mend it.
pub async fn connect(url: &str, options: BackendOptions) -> Result<Backend, BackendError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "memory" => {
            let backend = memory::MemoryBackend::shared(url);
            Ok(Backend { results: Arc::clone(&backend) as SharedResults, kv: backend })
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "unix" => {
            let backend = Arc::new(super::redis::RedisBackend::connect(url, options).await?);
            Ok(Backend { results: Arc::clone(&backend) as SharedResults, kv: backend })
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let backend = Arc::new(super::sqlite::SqliteBackend::connect(url, &options).await?);
            Ok(Backend { results: Arc::clone(&backend) as SharedResults, kv: backend })
        }
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(BackendError::Url {
            url: url.to_owned(),
            why: "this program was built without the feature `sqlite` of taskq".to_owned(),
        }),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" | "redis+unix" | "unix" => Err(BackendError::Url {
            url: crate::redact::without_password(url),
            why: format!("this program was built without the feature `redis` of taskq (options: {options:?})"),
        }),
        _ => Err(BackendError::Url {
            url: crate::redact::without_password(url),
            why: format!(
                "the scheme {scheme:?} is not known; write redis://:password@host:6379/0, sqlite:PATH or memory:"
            ),
        }),
    }
}
