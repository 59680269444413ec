//! Chooses the adapter for a backend URL. Nothing in this room depends on this file, which knows all adapters.

use std::sync::Arc;

use super::{BackendError, BackendOptions, SharedKv, SharedResults, memory};
use crate::redact;

/// A result backend together with its Kv store.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Results and progress.
    pub results: SharedResults,
    /// Leases, unique keys, counts.
    pub kv: SharedKv,
}

/// Connects to the backend at `url`: `redis://…`, `redis+sentinel://…`, `sqlite:PATH` or `memory:`. An error names the
/// cause and the remedy.
pub async fn connect(url: &str, options: BackendOptions) -> Result<Backend, BackendError> {
    if let Some(why) = redact::several(url) {
        return Err(BackendError::Url { url: redact::url(url), why });
    }
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "memory" => {
            let backend = memory::MemoryBackend::shared(url);
            Ok(Backend { results: Arc::clone(&backend) as SharedResults, kv: backend })
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" | "unix" | "redis+sentinel" | "rediss+sentinel" | "sentinel" => {
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
            url: redact::url(url),
            why: "this program was built without the feature `sqlite` of taskq".to_owned(),
        }),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" | "redis+unix" | "unix" | "redis+sentinel" | "rediss+sentinel" | "sentinel" => {
            Err(BackendError::Url {
                url: redact::url(url),
                why: format!("this program was built without the feature `redis` of taskq (options: {options:?})"),
            })
        }
        _ => Err(BackendError::Url {
            url: redact::url(url),
            why: format!(
                "{}; write redis://:password@host:6379/0 (for Valkey as well), redis+sentinel://h1,h2/NAME/0, sqlite:PATH \
                 or memory:",
                redact::unknown_scheme(url)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_that_is_a_secret_is_not_repeated() {
        for (url, told) in [
            ("secret", "it begins with no scheme"),
            ("secret:x", "it begins with no scheme"),
            ("u:secret@host", "it begins with no scheme"),
            ("ampq://u:secret@host", "the scheme \"ampq\" is not known"),
            ("sqlite://u:secret@host", "***"),
            ("sqlite:x.db?key=secret", "synchronous"),
            ("redis://u:secret@h1;redis://u:secret@h2/v", "it is a list"),
            ("redis://h1/0, rediss://:secret@h2", "it is a list"),
            ("sqlite:x.db;redis://secret@h2", "it is a list"),
        ] {
            let options = BackendOptions::default();
            let error = connect(url, options).await.expect_err("it cannot be used");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && shown.contains(told), "{url}: {shown}");
        }
    }
}
