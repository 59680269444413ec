//! Chooses the adapter for a broker URL. Nothing in this room depends on this file, which knows all adapters.

use std::sync::Arc;

use super::{Broker, BrokerError, BrokerOptions, memory};
use crate::redact;

/// Connects to the broker at `url`: `amqp://…`, or several of those with `;` between them, `sqlite:PATH` or
/// `memory:`. An error names the cause and the remedy.
pub async fn connect(url: &str, options: BrokerOptions) -> Result<Arc<dyn Broker>, BrokerError> {
    let scheme = url.split(':').next().unwrap_or_default();
    // RabbitMQ's adapter takes the nodes of a cluster.
    if let Some(why) = redact::several(url).filter(|_| !matches!(scheme, "amqp" | "amqps")) {
        return Err(BrokerError::Url { url: redact::url(url), why });
    }
    match scheme {
        "memory" => Ok(memory::MemoryBroker::shared(url, options)),
        #[cfg(feature = "amqp")]
        "amqp" | "amqps" => Ok(amqp(url, options).await?),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(super::sqlite::SqliteBroker::connect(url, options).await?),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(BrokerError::Url {
            url: redact::url(url),
            why: "this program was built without the feature `sqlite` of taskq; add it, or set TASKQ_BROKER_URL to a \
                  server's"
                .to_owned(),
        }),
        #[cfg(not(feature = "amqp"))]
        "amqp" | "amqps" => Err(BrokerError::Url {
            url: redact::url(url),
            why: "this program was built without the feature `amqp` of taskq".to_owned(),
        }),
        _ => Err(BrokerError::Url {
            url: redact::url(url),
            why: format!(
                "{}; write amqp://user:password@host:5672/vhost, sqlite:PATH or memory:",
                redact::unknown_scheme(url)
            ),
        }),
    }
}

#[cfg(feature = "amqp")]
async fn amqp(url: &str, options: BrokerOptions) -> Result<Arc<dyn Broker>, BrokerError> {
    super::amqp::AmqpBroker::connect(url, options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
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
            ("amqp://u:secret@h1;amqp://u:secret@h2/v", "different virtual hosts"),
            ("amqp://h1/0, redis://:secret@h2", "only addresses of RabbitMQ"),
            ("sqlite:x.db;amqp://secret@h2", "it is a list"),
        ] {
            let options = BrokerOptions::default();
            let error = connect(url, options).await.expect_err("it cannot be used");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret") && shown.contains(told), "{url}: {shown}");
        }
    }
}
