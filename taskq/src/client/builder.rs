//! From settings to connections.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Client, node};
use crate::backend::{self, BackendOptions};
use crate::broker::{self, BrokerOptions};
use crate::canvas::IntoDuration;
use crate::clock::Clock;
use crate::error::Error;
use crate::io;
use crate::remote::RemoteControl;
use crate::settings::{
    ConfigError, FileMode, Origin, Serializer, Settings, duration_text, given_shown, serializer_text,
};

/// A builder of a [`Client`]. Settings that are not given here come from `taskq.toml` and the environment; see
/// [`Settings`].
///
/// ```
/// # use taskq::Client;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), taskq::Error> {
/// let client = Client::builder().broker("memory:docs").get_timeout("10s").default_queue("jobs").build().await?;
/// assert_eq!(client.settings().default_queue, "jobs");
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until `build` is awaited"]
pub struct ClientBuilder {
    settings: Option<Settings>,
    file: Option<PathBuf>,
    /// Keys with their values as text, or with the mistake in the value.
    overrides: Vec<(&'static str, Result<String, String>)>,
    clock: Clock,
}

impl ClientBuilder {
    fn new() -> Self {
        Self::default()
    }

    /// Sets the broker's URL, for example `amqp://user:password@host:5672/vhost`, `sqlite:taskq.db` or `memory:`.
    pub fn broker(self, url: impl Into<String>) -> Self {
        self.set("broker_url", url)
    }

    /// Sets the result backend's URL, for example `redis://:password@host:6379/0`. An embedded broker keeps the results
    /// too unless this names another place; `none` keeps none.
    pub fn results(self, url: impl Into<String>) -> Self {
        self.set("result_url", url)
    }

    /// Sets the URL of the store in which beats keep their facts. Default: the result backend.
    pub fn beat_store(self, url: impl Into<String>) -> Self {
        self.set("beat_store", url)
    }

    /// Sets the group of this program's beats, for programs that share a store and have schedules of their own.
    pub fn beat_group(self, name: impl Into<String>) -> Self {
        self.set("beat_group", name)
    }

    /// Sets the queue of calls that name none, and whose task names none. Default `default`.
    pub fn default_queue(self, name: impl Into<String>) -> Self {
        self.set("default_queue", name)
    }

    /// Sets whether a queue that exists with other arguments is an error. Default: no, a warning.
    pub fn strict(self, strict: bool) -> Self {
        self.set("strict", strict.to_string())
    }

    /// Sets the time within which the broker must confirm a message. Default 30 s.
    pub fn publish_timeout(self, timeout: impl IntoDuration) -> Self {
        self.set_duration("publish_timeout", timeout)
    }

    /// Sets the size of the largest message body that is sent, in bytes. Default 16 MiB.
    pub fn max_message_bytes(self, bytes: usize) -> Self {
        self.set("max_message_bytes", bytes.to_string())
    }

    /// Sets the size of the largest message body that is run, in bytes, once it is decompressed. Default 64 MiB.
    pub fn max_received_bytes(self, bytes: usize) -> Self {
        self.set("max_received_bytes", bytes.to_string())
    }

    /// Sets the tasks that a worker with this client may run: names, or patterns such as `shop.*`, with commas between
    /// them. Default: all.
    pub fn tasks(self, patterns: impl Into<String>) -> Self {
        self.set("tasks", patterns)
    }

    /// Sets the key that messages are signed with: `hmac-sha256:ID:BASE64` or `ed25519:ID:BASE64`. Default: none.
    pub fn signing_key(self, key: impl Into<String>) -> Self {
        self.set("signing_key", key)
    }

    /// Sets the keys by which messages are verified, with commas between them. Default: that of the signing key.
    pub fn verify_keys(self, keys: impl Into<String>) -> Self {
        self.set("verify_keys", keys)
    }

    /// Sets whether messages without a signature are refused, where there are keys. Default: yes.
    pub fn require_signatures(self, required: bool) -> Self {
        self.set("require_signatures", required.to_string())
    }

    /// Sets how long a signature holds, from when its message is due. Default seven days.
    pub fn signature_window(self, window: impl IntoDuration) -> Self {
        self.set_duration("signature_window", window)
    }

    /// Sets the keys of sealed arguments, `ID:BASE64` with commas between them: the first one seals, all of them open.
    /// Default: none.
    pub fn sealing_keys(self, keys: impl Into<String>) -> Self {
        self.set("sealing_keys", keys)
    }

    /// Sets how long results are kept; zero keeps them for ever. Default one day.
    pub fn result_ttl(self, ttl: impl IntoDuration) -> Self {
        self.set_duration("result_ttl", ttl)
    }

    /// Sets how long [`Handle::get`](super::Handle::get) waits. Default one hour.
    pub fn get_timeout(self, timeout: impl IntoDuration) -> Self {
        self.set_duration("get_timeout", timeout)
    }

    /// Sets the format in which arguments are written. Default JSON.
    pub fn serializer(self, serializer: Serializer) -> Self {
        self.set("serializer", serializer_text(serializer))
    }

    /// Sets the time for which a message with an unknown task is put back, before it goes to the dead set. Default
    /// 10 min.
    pub fn unknown_task_grace(self, grace: impl IntoDuration) -> Self {
        self.set_duration("unknown_task_grace", grace)
    }

    /// Sets the time within which the broker requires acknowledgements, RabbitMQ's `consumer_timeout`; zero means no
    /// limit. Default 30 min, as RabbitMQ's.
    pub fn consumer_timeout(self, timeout: impl IntoDuration) -> Self {
        self.set_duration("consumer_timeout", timeout)
    }

    /// Sets how long a worker's claim on a task holds without being renewed, at least one second. Default 30 s.
    pub fn claim_lease(self, lease: impl IntoDuration) -> Self {
        self.set_duration("claim_lease", lease)
    }

    /// Sets the users who may use the files of an embedded broker that are made. Default: the user of this process.
    pub fn file_mode(self, mode: FileMode) -> Self {
        self.set("file_mode", mode.text())
    }

    /// Sets the file with the certificates (PEM) of the CAs that may have signed those of servers, for URLs with
    /// `amqps:` or `rediss:`. Default: those that the system trusts.
    pub fn tls_ca_file(self, path: impl AsRef<Path>) -> Self {
        self.set_path("tls_ca_file", path.as_ref())
    }

    /// Sets the files with the client's certificate and its private key (PEM), for servers that want one. Default:
    /// none.
    pub fn tls_certificate(self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.set_path("tls_certificate_file", certificate.as_ref()).set_path("tls_key_file", key.as_ref())
    }

    /// Sets the name that the certificates of servers must be for. Default: the host of the URL.
    pub fn tls_server_name(self, name: impl Into<String>) -> Self {
        self.set("tls_server_name", name)
    }

    /// Sets how far workers obey remote control. Default: they answer questions, and obey
    /// [`remote_commands`](Self::remote_commands).
    pub fn remote_control(self, extent: RemoteControl) -> Self {
        self.set("remote_control", extent.as_str())
    }

    /// Sets the commands of remote control that change something and are obeyed, with commas between them. Default:
    /// `revoke,terminate`.
    pub fn remote_commands(self, commands: impl Into<String>) -> Self {
        self.set("remote_commands", commands)
    }

    fn set_path(mut self, key: &'static str, path: &Path) -> Self {
        let text = path.to_str().map(str::to_owned);
        self.overrides.push((key, text.ok_or_else(|| "a path that is not Unicode cannot be used here".to_owned())));
        self
    }

    /// Sets one setting by its name in `taskq.toml`, from text. A mistake in it is an error of [`build`](Self::build).
    #[doc(hidden)]
    pub fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.overrides.push((key, Ok(value.into())));
        self
    }

    fn set_duration(mut self, key: &'static str, value: impl IntoDuration) -> Self {
        self.overrides.push((key, value.into_duration().map(duration_text)));
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

    /// Sets the clock to use in place of the system's: for the times in messages, and for the delays of a `memory:`
    /// broker.
    ///
    /// Servers, files, and the contents of a `memory:` result backend use their own clock.
    #[doc(hidden)]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Connects to the broker and the result backend. An error names the setting or server at fault, the cause, and the
    /// remedy.
    pub async fn build(self) -> Result<Client, Error> {
        let mut settings = match self.settings {
            Some(settings) => settings,
            None => Settings::load(self.file.as_deref())?,
        };
        for (key, value) in self.overrides {
            let value = value.map_err(|mistake| ConfigError::new(Origin::Code, format!("`{key}`: {mistake}")))?;
            settings.set(key, &value, Origin::Code)?;
        }
        io::start().map_err(Error::System)?;
        let broker_options = BrokerOptions {
            publish_timeout: settings.publish_timeout,
            strict: settings.strict,
            consumer_timeout: settings.consumer_timeout,
            name: format!("taskq {}", node::client_name()),
            file_mode: settings.file_mode,
            tls: settings.tls.clone(),
            clock: self.clock.clone(),
            ..BrokerOptions::default()
        };
        let broker = broker::connect(settings.broker_url(), broker_options).await?;
        let backend = match settings.result_url() {
            None => None,
            Some(url) => {
                let options = BackendOptions::default().with(|options| {
                    options.result_ttl = settings.result_ttl;
                    options.file_mode = settings.file_mode;
                    options.tls = settings.tls.clone();
                });
                Some(backend::connect(url, options).await?)
            }
        };
        let client = Client::over(settings, broker, backend, self.clock);
        client.measure_store_clock().await;
        Ok(client)
    }
}

impl Client {
    /// Returns a builder of a client. Settings that it is not given come from `taskq.toml` and the environment.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// Connects as `taskq.toml` and the environment configure it; see [`Settings`].
    pub async fn from_settings() -> Result<Self, Error> {
        Self::builder().build().await
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientBuilder");
        shown.field("settings", &self.settings).field("file", &self.file);
        for (key, value) in &self.overrides {
            shown.field(key, &value.as_ref().map(|value| given_shown(key, value)));
        }
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::TlsOptions;

    #[tokio::test]
    async fn each_setting_has_its_setter() {
        let minute = Duration::from_secs(60);
        let key = "A".repeat(43);
        let builder = ClientBuilder::new()
            .settings(Settings::default())
            .broker("memory:each-setter")
            .results("none")
            .beat_store("memory:beats")
            .beat_group("billing")
            .default_queue("jobs")
            .strict(true)
            .publish_timeout("1500ms")
            .max_message_bytes(1000)
            .max_received_bytes(2000)
            .tasks("shop.*")
            .signing_key(format!("hmac-sha256:a:{key}"))
            .verify_keys(format!("hmac-sha256:a:{key},hmac-sha256:b:{key}"))
            .require_signatures(false)
            .signature_window("1h")
            .sealing_keys(format!("c:{key}"))
            .result_ttl("0s")
            .get_timeout(minute + Duration::from_nanos(1))
            .serializer(Serializer::Json)
            .unknown_task_grace(minute)
            .consumer_timeout(Duration::ZERO)
            .claim_lease("5s")
            .file_mode(FileMode::Group)
            .tls_ca_file("/ca.pem")
            .tls_certificate("/certificate.pem", "/key.pem")
            .tls_server_name("rabbit")
            .remote_control(RemoteControl::Full)
            .remote_commands("terminate");
        let client = builder.build().await.expect("each value can be used");
        let settings = client.settings();
        let is_from_code = |key: &str| {
            let report = settings.report();
            report.into_iter().any(|setting| setting.key == key && setting.origin == Origin::Code)
        };
        let missing: Vec<_> = settings.report().into_iter().filter(|setting| !is_from_code(setting.key)).collect();
        assert_eq!(missing, [], "settings without a setter");
        assert_eq!((settings.broker_url(), settings.result_url()), ("memory:each-setter", None));
        assert_eq!((settings.beat_store(), settings.beat_group()), (Some("memory:beats"), Some("billing")));
        assert_eq!((settings.default_queue.as_str(), settings.strict), ("jobs", true));
        assert_eq!((settings.publish_timeout, settings.max_message_bytes), (Duration::from_millis(1500), 1000));
        assert_eq!(settings.max_received_bytes, 2000);
        assert_eq!(
            (settings.remote_control, settings.remote_commands.join(",")),
            (RemoteControl::Full, "terminate".to_owned())
        );
        assert_eq!((settings.result_ttl, settings.get_timeout), (None, minute + Duration::from_nanos(1)));
        assert_eq!((settings.unknown_task_grace, settings.consumer_timeout), (minute, None));
        let tls = TlsOptions::default().with(|tls| {
            tls.ca_file = Some("/ca.pem".into());
            tls.certificate_file = Some("/certificate.pem".into());
            tls.key_file = Some("/key.pem".into());
            tls.server_name = Some("rabbit".to_owned());
        });
        assert_eq!(settings.tls, tls);
        assert_eq!((settings.claim_lease, settings.file_mode), (Duration::from_secs(5), FileMode::Group));
    }

    #[tokio::test]
    async fn a_mistake_names_its_setting() {
        let failure = |builder: ClientBuilder| async {
            let failed = builder.settings(Settings::default()).broker("memory:").build().await;
            failed.expect_err("the value cannot be used").to_string()
        };
        let text = failure(ClientBuilder::new().get_timeout("soon")).await;
        assert!(text.contains("`get_timeout`: \"soon\" is not a length of time"), "{text}");
        let text = failure(ClientBuilder::new().claim_lease("10ms")).await;
        assert!(text.contains("`claim_lease` takes a length of time such as \"30s\", of at least a second"), "{text}");
    }
}
