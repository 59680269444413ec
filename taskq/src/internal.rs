//! Items for `taskq-worker` and `taskq-beat` alone, beyond the public API.
//!
//! Not covered by semantic versioning: anything in here may change or go with any release. The crates of this workspace
//! are released together, so they may use it; programs must not.

use std::sync::Arc;

use crate::Client;
use crate::backend::Backend;
use crate::broker::Broker;
pub use crate::client::node::host_name;
use crate::settings::Settings;
pub use crate::settings::nearest::{misspelled, nearest};

/// Makes a client over adapters that are already connected, for tests with adapters of their own.
pub fn client_over(settings: Settings, broker: Arc<dyn Broker>, backend: Backend) -> Client {
    Client::over(settings, broker, Some(backend), crate::clock::Clock::system())
}

/// The pure steps of an attempt, shared by the worker and by `taskq::testing`.
pub mod attempt {
    pub use crate::attempt::*;
}

/// Loops over an AMQP client without anything of taskq on top, for benchmarks.
#[cfg(feature = "amqp")]
pub mod bare {
    pub use crate::broker::amqp::bare::*;
}

/// Sources of time, and the distance between two.
pub mod clock {
    pub use crate::client::store_clock::measure as measure_store_clock;
    pub use crate::clock::*;
}

/// The wire: Celery's messages and result documents as bytes.
pub mod codec {
    pub use crate::codec::*;
}

/// The end of messages that go to the dead set.
pub mod dead {
    pub use crate::client::dead::{Refusal, RefusedMessage, bared, dead_message, lightened};
}

/// Errors of any kind, and their texts.
pub mod fault {
    pub use crate::fault::*;
}

/// Functions for the fuzz targets in `fuzz/`, which have no other way to what they test. cargo-fuzz sets this cfg.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::settings::{ConfigError, Settings};

    /// The conversion between AMQP and messages.
    pub mod amqp {
        pub use crate::broker::amqp::fuzzing::*;
    }

    /// Reads the text of a `taskq.toml`.
    pub fn settings(text: &str) -> Result<Settings, ConfigError> {
        Settings::of_toml(text)
    }

    /// Returns an address as it is shown to people.
    pub fn shown(url: &str) -> String {
        crate::redact::url(url)
    }

    /// Parses an address for each adapter, without connecting, and returns the errors.
    pub fn addresses(url: &str) -> [Option<String>; 3] {
        let sqlite = url.starts_with("sqlite:").then(|| crate::sqlite::Location::parse(url).err()).flatten();
        [amqp::address(url), crate::backend::redis::fuzzing::address(url), sqlite]
    }
}

/// Hashes that are equal in every process.
pub mod hash {
    pub use crate::hash::*;
}

/// Keys of signatures and of sealed arguments.
pub mod protection {
    pub use crate::protection::SealingKeys;
}

/// The means by which all workers are reached.
pub mod reach {
    pub use crate::client::remote::Reach;
}

/// Revoked tasks, as they are kept for workers that are away.
pub mod revocations {
    pub use crate::client::remote::{KEPT_FOR, keep_revocations as keep, kept_revocations as kept};
}

/// Texts for people without the secrets in them.
pub mod redact {
    pub use crate::redact::given;
}

/// Processes without file descriptors.
pub mod shortage {
    pub use crate::shortage::*;
}

/// Texts of others, made safe to show to people.
pub mod shown {
    pub use crate::shown::*;
}

/// The I/O thread.
pub mod io {
    pub use crate::io::*;
}
