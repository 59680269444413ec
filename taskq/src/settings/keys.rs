//! The table of single settings: the name, the form and the text of each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::nearest::nearest;
use super::{ConfigError, FileMode, Origin, Serializer, Settings};
use crate::broker::QueueSpec;
use crate::protection::{SealingKeys, SigningKey, VerifyKeys};
use crate::redact;
use crate::remote::Authority;

/// The shortest lease of a claim: a shorter one would run out between two renewals on a machine that is busy.
const CLAIM_LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest name of a group of beats: with the longest name of an entry and a moment, it makes an id that is short
/// enough.
const GROUP_BYTES_MAX: usize = 20;

/// The largest `max_received_bytes`. More does not fit into the memory of most machines.
const RECEIVED_BYTES_MAX: usize = 4 << 30;

/// The forms of settings that are URLs. A line break that a shell or a secret's file has appended would name another
/// file, or another server, without a word.
const URL: &str = "a URL, without control characters and without spaces around it";
const URL_OR_NONE: &str = "a URL, without control characters and without spaces around it, or \"none\"";

/// The form of settings that are paths.
const PATH: &str = "the path of a file, without control characters and without spaces around it";

/// The forms of keys.
const SIGNING_KEY: &str = if cfg!(feature = "crypto") {
    "a key of the form hmac-sha256:ID:BASE64 (32 bytes or more) or ed25519:ID:BASE64 (32 bytes)"
} else {
    NO_CRYPTO
};
const VERIFY_KEYS: &str = if cfg!(feature = "crypto") {
    "keys of the form hmac-sha256:ID:BASE64 or ed25519:ID:BASE64 (the public half), with different ids and commas \
     between them"
} else {
    NO_CRYPTO
};
const SEALING_KEYS: &str = if cfg!(feature = "crypto") {
    "keys of the form ID:BASE64 (32 bytes), with different ids and commas between them"
} else {
    NO_CRYPTO
};
const NO_CRYPTO: &str = "keys only in a program that is built with the feature `crypto` of taskq";

/// A setting with a single value.
pub(super) struct SettingKey {
    /// The name in `taskq.toml`; the variable's is made from it.
    pub(super) name: &'static str,
    /// The form of its values, for error texts.
    pub(super) takes: &'static str,
    /// Assigns the value that a text stands for; `None` if the text stands for none.
    assign: fn(&mut Settings, &str) -> Option<()>,
    /// Shows the value, without passwords.
    pub(super) show: fn(&Settings) -> String,
}

pub(super) const KEYS: [SettingKey; 28] = [
    SettingKey {
        name: "broker_url",
        takes: URL,
        assign: |settings, text| assign(&mut settings.broker_url, url(text)),
        show: |settings| redact::url(settings.broker_url()),
    },
    SettingKey {
        name: "result_url",
        takes: URL_OR_NONE,
        assign: |settings, text| assign(&mut settings.result_url, url(text)),
        show: |settings| settings.result_url().map_or_else(none, redact::url),
    },
    SettingKey {
        name: "beat_store",
        takes: URL,
        assign: |settings, text| assign(&mut settings.beat_store, url(text)),
        show: |settings| settings.beat_store().map_or_else(none, redact::url),
    },
    SettingKey {
        name: "beat_group",
        takes: "a name of at most 20 letters, digits, `-`, `_` and `.`",
        assign: |settings, text| assign(&mut settings.beat_group, beat_group(text)),
        show: |settings| settings.beat_group().map_or_else(none, str::to_owned),
    },
    SettingKey {
        name: "default_queue",
        takes: "a queue's name of at most 190 bytes, without `*` and `#`, control characters, and spaces around it, which \
                does not begin with `taskq.` or `amq.`",
        assign: |settings, text| assign(&mut settings.default_queue, queue_name(text)),
        show: |settings| settings.default_queue.clone(),
    },
    SettingKey {
        name: "strict",
        takes: "true or false",
        assign: |settings, text| assign(&mut settings.strict, flag(text)),
        show: |settings| settings.strict.to_string(),
    },
    SettingKey {
        name: "publish_timeout",
        takes: "a length of time such as \"30s\"",
        assign: |settings, text| assign(&mut settings.publish_timeout, duration(text)),
        show: |settings| duration_text(settings.publish_timeout),
    },
    SettingKey {
        name: "max_message_bytes",
        takes: "a number of bytes",
        assign: |settings, text| assign(&mut settings.max_message_bytes, text.replace('_', "").parse().ok()),
        show: |settings| settings.max_message_bytes.to_string(),
    },
    SettingKey {
        name: "max_received_bytes",
        takes: "a number of bytes, of which 4 GiB are the maximum",
        assign: |settings, text| {
            let bytes = text.replace('_', "").parse().ok();
            assign(&mut settings.max_received_bytes, bytes.filter(|bytes| *bytes <= RECEIVED_BYTES_MAX))
        },
        show: |settings| settings.max_received_bytes.to_string(),
    },
    SettingKey {
        name: "result_ttl",
        takes: "a length of time such as \"1day\", or \"0s\" for ever",
        assign: |settings, text| assign(&mut settings.result_ttl, duration(text).map(not_zero)),
        show: |settings| settings.result_ttl.map_or_else(|| "for ever".to_owned(), duration_text),
    },
    SettingKey {
        name: "get_timeout",
        takes: "a length of time such as \"1h\"",
        assign: |settings, text| assign(&mut settings.get_timeout, duration(text)),
        show: |settings| duration_text(settings.get_timeout),
    },
    SettingKey {
        name: "serializer",
        takes: "\"json\" or \"msgpack\"",
        assign: |settings, text| assign(&mut settings.serializer, serializer(text)),
        show: |settings| serializer_text(settings.serializer).to_owned(),
    },
    SettingKey {
        name: "unknown_task_grace",
        takes: "a length of time such as \"10m\"",
        assign: |settings, text| assign(&mut settings.unknown_task_grace, duration(text)),
        show: |settings| duration_text(settings.unknown_task_grace),
    },
    SettingKey {
        name: "consumer_timeout",
        takes: "a length of time such as \"30m\", or \"none\"",
        assign: |settings, text| assign(&mut settings.consumer_timeout, duration_or_none(text)),
        show: |settings| settings.consumer_timeout.map_or_else(|| "none".to_owned(), duration_text),
    },
    SettingKey {
        name: "claim_lease",
        takes: "a length of time such as \"30s\", of at least a second",
        assign: |settings, text| {
            assign(&mut settings.claim_lease, duration(text).filter(|lease| *lease >= CLAIM_LEASE_MIN))
        },
        show: |settings| duration_text(settings.claim_lease),
    },
    SettingKey {
        name: "tasks",
        takes: "names of tasks, or patterns such as shop.*, with commas between them",
        assign: |settings, text| assign(&mut settings.tasks, patterns(text)),
        show: |settings| if settings.tasks.is_empty() { "all".to_owned() } else { settings.tasks.join(",") },
    },
    SettingKey {
        name: "signing_key",
        takes: SIGNING_KEY,
        assign: |settings, text| assign(&mut settings.signing_key, key(text, SigningKey::parse)),
        show: |settings| settings.signing_key.as_ref().map_or_else(none, SigningKey::show),
    },
    SettingKey {
        name: "verify_keys",
        takes: VERIFY_KEYS,
        assign: |settings, text| assign(&mut settings.verify_keys, key(text, VerifyKeys::parse)),
        show: |settings| settings.verify_keys.as_ref().map_or_else(none, VerifyKeys::show),
    },
    SettingKey {
        name: "require_signatures",
        takes: "true or false",
        assign: |settings, text| assign(&mut settings.require_signatures, flag(text)),
        show: |settings| settings.require_signatures.to_string(),
    },
    SettingKey {
        name: "signature_window",
        takes: "a length of time such as \"7days\"",
        assign: |settings, text| assign(&mut settings.signature_window, duration(text)),
        show: |settings| duration_text(settings.signature_window),
    },
    SettingKey {
        name: "sealing_keys",
        takes: SEALING_KEYS,
        assign: |settings, text| {
            assign(&mut settings.sealing_keys, key(text, SealingKeys::parse).map(Option::unwrap_or_default))
        },
        show: |settings| settings.sealing_keys.first().map_or_else(none, |_| settings.sealing_keys.show()),
    },
    SettingKey {
        name: "file_mode",
        takes: "\"0600\" (the files are this user's alone) or \"0660\" (their group may use them); others may not, since \
                who reads a database file can stop all writing by a lock",
        assign: |settings, text| assign(&mut settings.file_mode, FileMode::parse(text)),
        show: |settings| settings.file_mode.text().to_owned(),
    },
    SettingKey {
        name: "tls_ca_file",
        takes: PATH,
        assign: |settings, text| assign(&mut settings.tls.ca_file, path(text)),
        show: |settings| path_text(settings.tls.ca_file.as_deref()),
    },
    SettingKey {
        name: "tls_certificate_file",
        takes: PATH,
        assign: |settings, text| assign(&mut settings.tls.certificate_file, path(text)),
        show: |settings| path_text(settings.tls.certificate_file.as_deref()),
    },
    SettingKey {
        name: "tls_key_file",
        takes: PATH,
        assign: |settings, text| assign(&mut settings.tls.key_file, path(text)),
        show: |settings| path_text(settings.tls.key_file.as_deref()),
    },
    SettingKey {
        name: "tls_server_name",
        takes: "the name in a server's certificate, without spaces and control characters",
        assign: |settings, text| {
            let is_name = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
            assign(&mut settings.tls.server_name, is_name.then(|| not_empty(text)))
        },
        show: |settings| settings.tls.server_name.clone().unwrap_or_else(none),
    },
    SettingKey {
        name: "remote_control",
        takes: "\"off\", \"read\" or \"full\"",
        assign: |settings, text| assign(&mut settings.remote_control, text.parse().ok()),
        show: |settings| settings.remote_control.to_string(),
    },
    SettingKey {
        name: "remote_commands",
        takes: "some of revoke and terminate, with a comma between them",
        assign: |settings, text| {
            let known = |names: &Vec<String>| names.iter().all(|name| Authority::is_changing(name));
            assign(&mut settings.remote_commands, patterns(text).filter(known))
        },
        show: |settings| settings.remote_commands.join(","),
    },
];

impl SettingKey {
    /// Whether the values of this setting are secrets as a whole.
    pub(super) fn is_secret(&self) -> bool {
        [SIGNING_KEY, VERIFY_KEYS, SEALING_KEYS].contains(&self.takes)
    }

    /// Whether the values of this setting may hold a secret, and so may be in a file of its own.
    pub(super) fn holds_a_secret(&self) -> bool {
        self.is_secret() || self.is_url()
    }

    /// Whether the values of this setting are URLs, of which the password is secret.
    pub(super) fn is_url(&self) -> bool {
        [URL, URL_OR_NONE].contains(&self.takes)
    }

    /// Returns a text that was given for this setting as it may be shown.
    fn shown(&self, text: &str) -> String {
        if self.is_secret() {
            return redact::HIDDEN.to_owned();
        }
        if self.is_url() { redact::url(text) } else { redact::given(text) }
    }
}

/// Returns a text that was given for the setting of that name as it may be shown.
pub(crate) fn given_shown(key: &str, text: &str) -> String {
    KEYS.iter().find(|known| known.name == key).map_or_else(|| redact::given(text), |known| known.shown(text))
}

impl Settings {
    /// Sets one value by its key, from text. For command lines; programs set it on the builder of the client.
    #[doc(hidden)]
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            let text = unknown("setting", key, KEYS.iter().map(|known| known.name));
            return Err(ConfigError::new(origin, text));
        };
        match (known.assign)(self, value) {
            Some(()) => {
                self.origins.insert(known.name, origin);
                Ok(())
            }
            None => {
                let shown = known.shown(value);
                Err(ConfigError::new(origin, format!("`{key}` takes {}, not {shown:?}", known.takes)))
            }
        }
    }
}

fn assign<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn none() -> String {
    "(none)".to_owned()
}

fn not_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// The URL that a text is, none if it is empty; `None` if it is none.
fn url(text: &str) -> Option<Option<String>> {
    let is_plain = text.trim() == text && !text.contains(char::is_control);
    is_plain.then(|| not_empty(text))
}

/// The path that a text is, none if it is empty; `None` if it is none.
fn path(text: &str) -> Option<Option<PathBuf>> {
    url(text).map(|path| path.map(PathBuf::from))
}

fn path_text(path: Option<&Path>) -> String {
    path.map_or_else(none, |path| path.display().to_string())
}

/// The patterns that a text lists, none if it is empty; `None` if one of them is empty.
fn patterns(text: &str) -> Option<Vec<String>> {
    let patterns = text.split(',').map(|pattern| not_empty(pattern.trim()));
    if text.is_empty() { Some(Vec::new()) } else { patterns.collect() }
}

/// The key that a text is, none if it is empty; `None` if it is none, or if there can be none here.
fn key<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).filter(|_| cfg!(feature = "crypto")).map(Some) }
}

fn queue_name(text: &str) -> Option<String> {
    QueueSpec::check_named(text).is_ok().then(|| text.to_owned())
}

fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

fn not_zero(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

fn duration_or_none(text: &str) -> Option<Option<Duration>> {
    match text {
        "none" | "0" => Some(None),
        other => duration(other).map(not_zero),
    }
}

/// A duration as [`duration`] reads it, without loss.
pub(crate) fn duration_text(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// The group of beats with that name, none if it is empty; `None` if no group can have it.
fn beat_group(name: &str) -> Option<Option<String>> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let is_name = name.len() <= GROUP_BYTES_MAX && name.chars().all(fits);
    is_name.then(|| not_empty(name))
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

fn serializer(text: &str) -> Option<Serializer> {
    match text {
        "json" => Some(Serializer::Json),
        "msgpack" => Some(Serializer::Msgpack),
        _ => None,
    }
}

pub(crate) fn serializer_text(serializer: Serializer) -> &'static str {
    match serializer {
        Serializer::Json => "json",
        Serializer::Msgpack => "msgpack",
    }
}

/// «unknown X `y`», with the known name that is most like it.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // A URL that lost its key stands in the key's place.
    let shown = redact::given(name);
    format!("unknown {what} `{shown}`; did you mean `{}`?", nearest(name, known).unwrap_or_default())
}
