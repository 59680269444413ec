//! From settings to connections.

use std::path::PathBuf;
use std::sync::Arc;

use super::router::Router;
use super::{Client, Inner, node};
use crate::backend::{self, BackendOptions};
use crate::broker::{self, BrokerOptions};
use crate::clock::Clock;
use crate::error::Error;
use crate::settings::{Origin, Settings};

/// Builds a [`Client`]. Whatever is not said here comes from `taskq.toml` and the environment; see [`Settings`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct ClientBuilder {
    settings: Option<Settings>,
    file: Option<PathBuf>,
    overrides: Vec<(&'static str, String)>,
    clock: Clock,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The broker's URL, for example `amqp://user:password@host:5672/vhost`, `sqlite:taskq.db` or `memory:`.
    pub fn broker(self, url: impl Into<String>) -> Self {
        self.set("broker_url", url)
    }

    /// The result backend's URL, for example `redis://:password@host:6379/0`. An embedded broker keeps the results too
    /// unless this says otherwise; `none` keeps none.
    pub fn results(self, url: impl Into<String>) -> Self {
        self.set("result_url", url)
    }

    /// One setting by its name in `taskq.toml`, for example `("publish_timeout", "5s")`. What is wrong with it is
    /// said by [`build`](Self::build).
    pub fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.overrides.push((key, value.into()));
        self
    }

    /// Reads this file in place of the `taskq.toml` found upward from the working directory.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes these settings as they are, and reads neither file nor environment.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Goes by this clock in place of the system's: for the times in messages, and for the delays of a `memory:` broker.
    /// Servers, files, and what is kept in a `memory:` result backend go by their own.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Connects. An error says what is wrong, with what, and how to mend it.
    pub async fn build(self) -> Result<Client, Error> {
        let mut settings = match self.settings {
            Some(settings) => settings,
            None => Settings::load(self.file.as_deref())?,
        };
        for (key, value) in &self.overrides {
            settings.set(key, value, Origin::Code)?;
        }
        let origin = node::client_name();
        let broker_options = BrokerOptions {
            publish_timeout: settings.publish_timeout,
            strict: settings.strict,
            consumer_timeout: settings.consumer_timeout,
            name: format!("taskq {origin}"),
            clock: self.clock.clone(),
            ..BrokerOptions::default()
        };
        let broker = broker::connect(settings.broker_url(), broker_options).await?;
        let backend = match settings.result_url() {
            None => None,
            Some(url) => {
                let defaults = BackendOptions::default();
                Some(backend::connect(url, BackendOptions { result_ttl: settings.result_ttl, ..defaults }).await?)
            }
        };
        let router = Router::new(&settings);
        Ok(Client { inner: Arc::new(Inner { settings, broker, backend, router, clock: self.clock, origin }) })
    }
}
