//! The values of all settings, with their defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{ConfigError, FileMode, Origin, Serializer, TlsOptions};
use crate::broker::QueueKind;
use crate::protection::signature::Verification;
use crate::protection::{SealingKeys, SigningKey, VerifyKeys};
use crate::remote::{Authority, RemoteControl};

/// The broker when nothing is configured: a file in the working directory, which also holds the results.
pub(super) const DEFAULT_URL: &str = "sqlite:taskq.db";

/// The value of `result_url` with which an embedded broker keeps no results.
const NO_RESULTS: &str = "none";

/// The settings of a client. Made by [`Settings::load`]; every value remembers where it came from.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    pub(super) broker_url: Option<String>,
    pub(super) result_url: Option<String>,
    pub(super) beat_store: Option<String>,
    pub(super) beat_group: Option<String>,
    /// The queue of calls that name none, and whose task names none. Default `default`.
    pub default_queue: String,
    /// Whether a queue that exists with other arguments is an error. Default: no, a warning.
    pub strict: bool,
    /// The time within which the broker must confirm a message. Default 30 s.
    pub publish_timeout: Duration,
    /// The largest message body, in bytes. Default 16 MiB.
    pub max_message_bytes: usize,
    /// The largest message body that is run, in bytes, once it is decompressed. Default 64 MiB.
    pub max_received_bytes: usize,
    /// The time for which results are kept. Default one day; `0s` keeps them for ever.
    pub result_ttl: Option<Duration>,
    /// The time for which `Handle::get` waits. Default one hour.
    pub get_timeout: Duration,
    /// The format in which arguments are written: `json` (default) or `msgpack`.
    pub serializer: Serializer,
    /// The time for which a message with an unknown task is put back, before it goes to the dead set. Default 10 min.
    pub unknown_task_grace: Duration,
    /// The broker's `consumer_timeout`: the time within which it wants messages acknowledged. Default 30 min, as
    /// RabbitMQ's; `None`, written `none` or `0s`: the broker has no such limit.
    pub consumer_timeout: Option<Duration>,
    /// The time for which a worker's claim on a task holds without being renewed, and so the time that the task waits
    /// if its worker died and no supervisor reported that. A claim is renewed three times within it. Default 30 s, at
    /// least 1 s.
    pub claim_lease: Duration,
    /// The tasks that a worker may run: names, or patterns in which `*` stands for any characters. Default: all.
    pub tasks: Vec<String>,
    /// The time for which a signature holds, from when its message is due. Default seven days.
    pub signature_window: Duration,
    /// Whether a message without a signature is refused, where there are keys to verify one. Default yes.
    pub require_signatures: bool,
    pub(super) signing_key: Option<SigningKey>,
    pub(super) verify_keys: Option<VerifyKeys>,
    pub(super) sealing_keys: SealingKeys,
    /// The users who may use the files of an embedded broker that are made. Default: the user of this process.
    pub file_mode: FileMode,
    /// The files and names of TLS connections, to the broker and to the result backend. Parameters of a URL win
    /// over it.
    pub tls: TlsOptions,
    /// The extent to which workers obey remote control. Default: they answer, and revoke tasks.
    pub remote_control: RemoteControl,
    /// The commands of remote control that change something and are allowed. Default: `revoke` and `terminate`.
    pub remote_commands: Vec<String>,
    /// The settings of single queues, by name.
    pub queues: BTreeMap<String, QueueSettings>,
    /// Queues shared with Celery workers, declared exactly as Celery declares them. `celery` is always one of them.
    pub interop: Vec<String>,
    /// The table `[schedule.NAME]` of each periodic task, by name, as JSON: moments have become texts. Interpreted by
    /// `taskq-beat` alone.
    pub schedule: serde_json::Map<String, serde_json::Value>,
    /// The settings file, if one was read.
    pub(super) file: Option<PathBuf>,
    pub(super) origins: BTreeMap<&'static str, Origin>,
}

/// The settings of one queue, as `[queues.NAME]` gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueSettings {
    /// `kind = "quorum"` (default) or `"classic"`.
    pub kind: QueueKind,
    /// `max_priority = 10`: the highest priority that the queue knows; classic queues only.
    pub max_priority: Option<u8>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker_url: None,
            result_url: None,
            beat_store: None,
            beat_group: None,
            default_queue: "default".to_owned(),
            strict: false,
            publish_timeout: Duration::from_secs(30),
            max_message_bytes: 16 << 20,
            max_received_bytes: 64 << 20,
            result_ttl: Some(Duration::from_secs(86_400)),
            get_timeout: Duration::from_secs(3600),
            serializer: Serializer::Json,
            unknown_task_grace: Duration::from_secs(600),
            consumer_timeout: Some(Duration::from_secs(1800)),
            claim_lease: Duration::from_secs(30),
            tasks: Vec::new(),
            signature_window: Duration::from_secs(7 * 86_400),
            require_signatures: true,
            signing_key: None,
            verify_keys: None,
            sealing_keys: SealingKeys::default(),
            file_mode: FileMode::Owner,
            tls: TlsOptions::default(),
            remote_control: RemoteControl::default(),
            remote_commands: Authority::allowed_by_default(),
            queues: BTreeMap::new(),
            interop: Vec::new(),
            schedule: serde_json::Map::new(),
            file: None,
            origins: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The key that messages are signed with; `None` if they are not.
    pub(crate) fn signing_key(&self) -> Option<&SigningKey> {
        self.signing_key.as_ref()
    }

    /// The rule by which messages are verified; `None` if they are not.
    #[cfg(feature = "crypto")]
    pub(crate) fn verification(&self) -> Option<Verification> {
        let keys = self.verify_keys.clone().or_else(|| Some(self.signing_key.as_ref()?.verify_key()))?;
        let window_ms = i64::try_from(self.signature_window.as_millis()).unwrap_or(i64::MAX);
        Some(Verification { keys, window_ms, is_required: self.require_signatures })
    }

    /// The rule by which messages are verified: none without the feature `crypto`.
    #[cfg(not(feature = "crypto"))]
    pub(crate) fn verification(&self) -> Option<Verification> {
        None
    }

    /// Fails if a worker with these settings would refuse its own messages: retries, and all that follows a task.
    #[doc(hidden)]
    pub fn require_signing(&self) -> Result<(), ConfigError> {
        let Some(verification) = self.verification() else { return Ok(()) };
        let wrong = |what: &str| {
            let origin = self.origins.get("verify_keys").or(self.origins.get("signing_key"));
            let text = format!(
                "{what}, so every worker would refuse what this one publishes: retries, delays, tasks in quarantine"
            );
            Err(ConfigError::new(origin.cloned().unwrap_or(Origin::Default), text))
        };
        match &self.signing_key {
            None if verification.is_required => wrong("`verify_keys` is set and `signing_key` is not"),
            Some(key) if !verification.keys.knows(key) => wrong("the key of `signing_key` is not among `verify_keys`"),
            _ => Ok(()),
        }
    }

    /// The keys of sealed arguments.
    pub(crate) fn sealing_keys(&self) -> &SealingKeys {
        &self.sealing_keys
    }

    /// Returns the broker's URL. Default `sqlite:taskq.db`, a file in the working directory.
    pub fn broker_url(&self) -> &str {
        self.broker_url.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// Returns the result backend's URL. Where none is given, an embedded broker (`sqlite:`, `memory:`) keeps the
    /// results too, unless the setting says `none`; a broker that is a server keeps none.
    pub fn result_url(&self) -> Option<&str> {
        match self.result_url.as_deref() {
            Some(NO_RESULTS) => None,
            Some(url) => Some(url),
            None => Some(self.broker_url()).filter(|url| url.starts_with("sqlite:") || url.starts_with("memory:")),
        }
    }

    /// Returns the URL of the store in which beats keep their facts and elect the one that fires, of the kind of a
    /// result backend's. Default: the result backend.
    pub fn beat_store(&self) -> Option<&str> {
        self.beat_store.as_deref().or_else(|| self.result_url())
    }

    /// Returns the group of this program's beats. Of all beats that share a store, those with equal groups are one
    /// scheduler. Default: none, which is a group, too.
    pub fn beat_group(&self) -> Option<&str> {
        self.beat_group.as_deref()
    }

    /// Returns the place that [`schedule`](Self::schedule) came from.
    pub fn schedule_origin(&self) -> Origin {
        self.origins.get("schedule").cloned().unwrap_or(Origin::Default)
    }

    /// Returns whether no broker is configured, so that it is the embedded file.
    pub fn is_default_broker(&self) -> bool {
        self.broker_url.is_none()
    }

    /// Returns whether the broker lives inside this process (`memory:`), where no other process reaches it.
    pub fn is_in_process(&self) -> bool {
        self.broker_url().starts_with("memory:")
    }
}

/// Shows every value as [`Settings::report`] does, and of periodic tasks the names: their arguments may hold secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        for setting in self.report() {
            shown.field(setting.key, &setting.value);
        }
        shown.field("queues", &self.queues).field("interop", &self.interop);
        shown.field("schedule", &self.schedule.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
