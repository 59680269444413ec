//! From a URL to a broker.

use std::sync::Arc;
use std::time::Duration;

use super::{Broker, BrokerError, memory};
use crate::clock::Clock;

/// What every broker adapter may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerOptions {
    /// How long a publish may take in all, with its resends. Default 30 s.
    pub publish_timeout: Duration,
    /// The largest body that the broker takes, in bytes. Default 128 MiB, as RabbitMQ's. What users may send is bounded
    /// by the client's own, lower, setting.
    pub max_message_bytes: usize,
    /// Whether a queue that exists with other arguments is an error. Default: a warning.
    pub strict: bool,
    /// Within which time the broker wants deliveries settled, where it cannot be asked: RabbitMQ's `consumer_timeout`. `None`:
    /// it has no such limit. Default: 30 min, as RabbitMQ's.
    pub consumer_timeout: Option<Duration>,
    /// What the connection is called where the broker lists connections.
    pub name: String,
    /// What delays go by where this process keeps them: those of `memory:`. Default: the system's.
    pub clock: Clock,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            max_message_bytes: 128 << 20,
            strict: false,
            consumer_timeout: Some(Duration::from_secs(1800)),
            name: "taskq".to_owned(),
            clock: Clock::system(),
        }
    }
}

/// Connects to the broker at `url`: `amqp://…`, `sqlite:PATH` or `memory:`. An error says what is wrong and how to mend it.
pub async fn connect(url: &str, options: BrokerOptions) -> Result<Arc<dyn Broker>, BrokerError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "memory" => Ok(memory::MemoryBroker::shared(url, options)),
        #[cfg(feature = "amqp")]
        "amqp" | "amqps" => Ok(amqp(url, options).await?),
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(super::sqlite::SqliteBroker::connect(url, options).await?),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(BrokerError::Url {
            url: url.to_owned(),
            why: "this program was built without the feature `sqlite` of taskq; add it, or set TASKQ_BROKER_URL to a \
                  server's"
                .to_owned(),
        }),
        #[cfg(not(feature = "amqp"))]
        "amqp" | "amqps" => Err(BrokerError::Url {
            url: crate::redact::without_password(url),
            why: "this program was built without the feature `amqp` of taskq".to_owned(),
        }),
        _ => Err(BrokerError::Url {
            url: crate::redact::without_password(url),
            why: format!(
                "the scheme {scheme:?} is not known; write amqp://user:password@host:5672/vhost, sqlite:PATH or memory:"
            ),
        }),
    }
}

#[cfg(feature = "amqp")]
async fn amqp(url: &str, options: BrokerOptions) -> Result<Arc<dyn Broker>, BrokerError> {
    super::amqp::AmqpBroker::connect(url, options).await.map(|broker| Arc::new(broker) as Arc<dyn Broker>)
}
