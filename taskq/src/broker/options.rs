//! The options that all broker adapters share.

use std::time::Duration;

use crate::access::FileMode;
use crate::clock::Clock;
use crate::tls::TlsOptions;

/// The options of a broker adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerOptions {
    /// The maximum time for a publish, including its resends. The default is 30 s.
    pub publish_timeout: Duration,
    /// The largest body that the broker accepts, in bytes. The default is 128 MiB, as with RabbitMQ. The client has a
    /// lower setting of its own, which limits the messages of users.
    pub max_message_bytes: usize,
    /// Whether a queue that exists with other arguments is an error. By default it is a warning.
    pub strict: bool,
    /// The time within which the broker requires a settlement of each delivery, for brokers that do not report it:
    /// RabbitMQ's `consumer_timeout`. `None` is no limit. The default is 30 min, as with RabbitMQ.
    pub consumer_timeout: Option<Duration>,
    /// The name of the connection in the broker's list of connections.
    pub name: String,
    /// The users who may use the file of a `sqlite:` broker that does not exist yet. The default is this user alone.
    pub file_mode: FileMode,
    /// The files and names of encrypted connections, as far as the URL does not say.
    pub tls: TlsOptions,
    /// The clock for delays that this process keeps itself, those of `memory:`. The default is the system clock.
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
            file_mode: FileMode::Owner,
            tls: TlsOptions::default(),
            clock: Clock::system(),
        }
    }
}

impl BrokerOptions {
    /// Changes the options by `change`, and returns them.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
