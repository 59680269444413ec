//! Settings: from `taskq.toml`, overridden by `TASKQ_*` variables, overridden by code and flags.

mod file;
mod nearest;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[doc(hidden)]
pub use self::nearest::nearest;
use crate::broker::QueueKind;
pub use crate::codec::Serializer;

/// The name of the file that is looked for upward from the working directory.
pub const FILE_NAME: &str = "taskq.toml";

/// The broker when nothing is configured: a file in the working directory, which also holds the results.
const DEFAULT_URL: &str = "sqlite:taskq.db";

/// What `result_url` is where an embedded broker is to keep no results.
const NO_RESULTS: &str = "none";

/// The settings of a client. Made by [`Settings::load`]; every value remembers where it came from.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    broker_url: Option<String>,
    result_url: Option<String>,
    beat_store: Option<String>,
    beat_group: Option<String>,
    /// The queue of calls that name none, and whose task names none. Default `default`.
    pub default_queue: String,
    /// Whether a queue that exists with other arguments is an error. Default: no, a warning.
    pub strict: bool,
    /// How long sending may take until the broker's confirm. Default 30 s.
    pub publish_timeout: Duration,
    /// The largest message body, in bytes. Default 16 MiB.
    pub max_message_bytes: usize,
    /// How long results are kept. Default one day; `0s` keeps them for ever.
    pub result_ttl: Option<Duration>,
    /// How long `Handle::get` waits. Default one hour.
    pub get_timeout: Duration,
    /// How arguments are written: `json` (default) or `msgpack`.
    pub serializer: Serializer,
    /// For how long a message whose task no worker knows is put back, before it goes to the dead set. Default 10 min.
    pub unknown_task_grace: Duration,
    /// The broker's `consumer_timeout`: within which time it wants messages acknowledged. Default 30 min, as RabbitMQ's;
    /// `None`, written `none` or `0s`: it has no such limit.
    pub consumer_timeout: Option<Duration>,
    /// How long a worker's claim on a task holds without being renewed, and so how long the task waits when its worker died
    /// and nobody reported that. Renewed three times within it. Default 30 s, at least 1 s.
    pub claim_lease: Duration,
    /// What is said of single queues.
    pub queues: BTreeMap<String, QueueSettings>,
    /// Queues shared with Celery workers, declared exactly as Celery declares them. `celery` always is one.
    pub interop: Vec<String>,
    /// What `[schedule.NAME]` says of each periodic task, by name, as JSON: moments have become texts. Read by
    /// `taskq-beat`, which knows what it means.
    pub schedule: serde_json::Map<String, serde_json::Value>,
    origins: BTreeMap<&'static str, Origin>,
}

/// What `[queues.NAME]` says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueSettings {
    /// `kind = "quorum"` (default) or `"classic"`.
    pub kind: QueueKind,
    /// `max_priority = 10`: the highest priority it knows; classic queues only.
    pub max_priority: Option<u8>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// The program, or a flag of its command line.
    Code,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {text}")]
pub struct ConfigError {
    origin: Origin,
    text: String,
}

/// The shortest lease of a claim: a shorter one would run out between two renewals on a machine that is busy.
const CLAIM_LEASE_MIN: Duration = Duration::from_secs(1);

/// The keys of single values, with what they take.
const KEYS: [(&str, &str); 14] = [
    ("broker_url", "a URL"),
    ("result_url", "a URL, or \"none\""),
    ("beat_store", "a URL"),
    ("beat_group", "a name of at most 20 letters, digits, `-`, `_` and `.`"),
    ("default_queue", "a queue's name"),
    ("strict", "true or false"),
    ("publish_timeout", "a length of time such as \"30s\""),
    ("max_message_bytes", "a number of bytes"),
    ("result_ttl", "a length of time such as \"1day\", or \"0s\" for ever"),
    ("get_timeout", "a length of time such as \"1h\""),
    ("serializer", "\"json\" or \"msgpack\""),
    ("unknown_task_grace", "a length of time such as \"10m\""),
    ("consumer_timeout", "a length of time such as \"30m\", or \"none\""),
    ("claim_lease", "a length of time such as \"30s\", of at least a second"),
];

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
            result_ttl: Some(Duration::from_secs(86_400)),
            get_timeout: Duration::from_secs(3600),
            serializer: Serializer::Json,
            unknown_task_grace: Duration::from_secs(600),
            consumer_timeout: Some(Duration::from_secs(1800)),
            claim_lease: Duration::from_secs(30),
            queues: BTreeMap::new(),
            interop: Vec::new(),
            schedule: serde_json::Map::new(),
            origins: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// The settings of `file`, or of the `taskq.toml` found upward from the working directory if there is one,
    /// overridden by the environment. An unknown key or a value that cannot be used is an error that names it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        let found = file.map(Path::to_owned).or_else(file::find);
        if let Some(path) = found {
            let origin = Origin::File(path.clone());
            let text = std::fs::read_to_string(&path)
                .map_err(|error| ConfigError { origin: origin.clone(), text: format!("cannot be read: {error}") })?;
            settings.apply_toml(&text, &origin)?;
        }
        settings.apply_variables(std::env::vars())?;
        Ok(settings)
    }

    /// Sets one value by its key, from text.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let Some((name, takes)) = KEYS.into_iter().find(|(name, _)| *name == key) else {
            let known = KEYS.iter().map(|(name, _)| *name);
            return Err(ConfigError { text: unknown("setting", key, known), origin });
        };
        match self.assign(name, value) {
            Some(()) => {
                self.origins.insert(name, origin);
                Ok(())
            }
            // A URL may hold a password; only values that cannot are repeated.
            None => Err(ConfigError { text: format!("`{key}` takes {takes}, not {value:?}"), origin }),
        }
    }

    fn assign(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "broker_url" => self.broker_url = Some(value.to_owned()).filter(|url| !url.is_empty()),
            "result_url" => self.result_url = Some(value.to_owned()).filter(|url| !url.is_empty()),
            "beat_store" => self.beat_store = Some(value.to_owned()).filter(|url| !url.is_empty()),
            "beat_group" => self.beat_group = group(value)?,
            "default_queue" => self.default_queue = Some(value.to_owned()).filter(|name| !name.is_empty())?,
            "strict" => self.strict = parse_flag(value)?,
            "publish_timeout" => self.publish_timeout = humantime::parse_duration(value).ok()?,
            "max_message_bytes" => self.max_message_bytes = value.replace('_', "").parse().ok()?,
            "result_ttl" => {
                self.result_ttl = Some(humantime::parse_duration(value).ok()?).filter(|ttl| !ttl.is_zero());
            }
            "get_timeout" => self.get_timeout = humantime::parse_duration(value).ok()?,
            "serializer" => {
                self.serializer = match value {
                    "json" => Serializer::Json,
                    "msgpack" => Serializer::Msgpack,
                    _ => return None,
                }
            }
            "claim_lease" => {
                let lease = humantime::parse_duration(value).ok()?;
                self.claim_lease = Some(lease).filter(|lease| *lease >= CLAIM_LEASE_MIN)?;
            }
            "unknown_task_grace" => self.unknown_task_grace = humantime::parse_duration(value).ok()?,
            "consumer_timeout" => {
                self.consumer_timeout = match value {
                    "none" | "0" => None,
                    other => Some(humantime::parse_duration(other).ok()?).filter(|timeout| !timeout.is_zero()),
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Variables are named after the keys: `TASKQ_BROKER_URL`. Others that begin with `TASKQ_` belong to the command
    /// line and to tests, and are left alone.
    fn apply_variables(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let key = variable.strip_prefix("TASKQ_").map(str::to_ascii_lowercase);
            if let Some(key) = key.filter(|key| KEYS.iter().any(|(name, _)| name == key)) {
                self.set(&key, &value, Origin::Variable(variable))?;
            }
        }
        Ok(())
    }

    /// The broker's URL. Default `sqlite:taskq.db`, a file in the working directory.
    pub fn broker_url(&self) -> &str {
        self.broker_url.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// The result backend's URL. Where none is given, an embedded broker (`sqlite:`, `memory:`) keeps the results too,
    /// unless the setting says `none`; a broker that is a server keeps none.
    pub fn result_url(&self) -> Option<&str> {
        match self.result_url.as_deref() {
            Some(NO_RESULTS) => None,
            Some(url) => Some(url),
            None => Some(self.broker_url()).filter(|url| url.starts_with("sqlite:") || url.starts_with("memory:")),
        }
    }

    /// Where beats keep their facts, and elect the one that fires: a URL as of a result backend. Default: where results are.
    pub fn beat_store(&self) -> Option<&str> {
        self.beat_store.as_deref().or_else(|| self.result_url())
    }

    /// Which beats are one scheduler with those of this program, of all that share a store: those of the same group. Default:
    /// those that name none.
    pub fn beat_group(&self) -> Option<&str> {
        self.beat_group.as_deref()
    }

    /// Where [`schedule`](Self::schedule) came from.
    pub fn schedule_origin(&self) -> Origin {
        self.origins.get("schedule").cloned().unwrap_or(Origin::Default)
    }

    /// Whether nobody named a broker, so that it is the embedded file.
    pub fn is_default_broker(&self) -> bool {
        self.broker_url.is_none()
    }

    /// Whether the broker lives inside this process (`memory:`), where no other process reaches it.
    pub fn is_in_process(&self) -> bool {
        self.broker_url().starts_with("memory:")
    }

    /// Every single value as text, with where it came from; passwords are left out.
    pub fn report(&self) -> Vec<(&'static str, String, Origin)> {
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let url = |url: Option<&str>| url.map_or_else(|| "(none)".to_owned(), crate::redact::without_password);
        KEYS.iter()
            .map(|(key, _)| {
                let value = match *key {
                    "broker_url" => url(Some(self.broker_url())),
                    "result_url" => url(self.result_url()),
                    "beat_store" => url(self.beat_store()),
                    "beat_group" => self.beat_group().unwrap_or("(none)").to_owned(),
                    "default_queue" => self.default_queue.clone(),
                    "strict" => self.strict.to_string(),
                    "publish_timeout" => time(self.publish_timeout),
                    "max_message_bytes" => self.max_message_bytes.to_string(),
                    "result_ttl" => self.result_ttl.map_or_else(|| "for ever".to_owned(), time),
                    "get_timeout" => time(self.get_timeout),
                    "serializer" => format!("{:?}", self.serializer).to_lowercase(),
                    "consumer_timeout" => self.consumer_timeout.map_or_else(|| "none".to_owned(), time),
                    "claim_lease" => time(self.claim_lease),
                    _ => time(self.unknown_task_grace),
                };
                (*key, value, self.origins.get(key).cloned().unwrap_or(Origin::Default))
            })
            .collect()
    }
}

/// The longest name of a group of beats: with the longest name of an entry and a moment, it makes an id that is short enough.
const GROUP_BYTES_MAX: usize = 20;

/// The group of that name, none if it is empty; `None` if no group can have it.
fn group(name: &str) -> Option<Option<String>> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let is_name = name.len() <= GROUP_BYTES_MAX && name.chars().all(fits);
    is_name.then(|| Some(name.to_owned()).filter(|name| !name.is_empty()))
}

fn parse_flag(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// «unknown X `y`», with the known name that is most like it.
fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    format!("unknown {what} `{name}`; did you mean `{}`?", nearest(name, known).unwrap_or_default())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Code => f.write_str("command line or program"),
        }
    }
}

#[cfg(all(test, feature = "toml"))]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        settings.apply_toml(text, &Origin::File("taskq.toml".into())).map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn a_group_of_beats_has_a_short_plain_name() {
        let mut settings = Settings::default();
        for (name, expected) in [("billing", Some("billing")), ("a.b-c_1", Some("a.b-c_1")), ("", None)] {
            settings.set("beat_group", name, Origin::Code).expect(name);
            assert_eq!(settings.beat_group(), expected);
        }
        for name in ["a/b", "two words", "longer-than-twenty-bytes"] {
            settings.set("beat_group", name, Origin::Code).expect_err(name);
        }
    }

    #[test]
    fn a_file_is_read_whole() {
        let settings = from_toml(
            "broker_url = \"amqp://h\"\nstrict = true\nmax_message_bytes = 1_000\nresult_ttl = \"0s\"\n\
             [queues.mail]\nkind = \"classic\"\nmax_priority = 9\n[interop]\nqueues = [\"py\"]\n",
        )
        .expect("every key is known");
        assert_eq!((settings.broker_url(), settings.result_url()), ("amqp://h", None));
        assert_eq!((settings.strict, settings.max_message_bytes, settings.result_ttl), (true, 1000, None));
        assert_eq!(settings.queues["mail"], QueueSettings { kind: QueueKind::Classic, max_priority: Some(9) });
        assert_eq!(settings.interop, ["py"]);
    }

    #[test]
    fn a_broker_may_wait_for_ever() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let cases = [("\"none\"", None), ("\"0\"", None), ("\"0s\"", None), ("0", None), ("\"1h\"", minutes(60))];
        for (value, expected) in cases {
            let settings = from_toml(&format!("consumer_timeout = {value}")).expect(value);
            assert_eq!(settings.consumer_timeout, expected, "{value}");
        }
        assert_eq!(Settings::default().consumer_timeout, minutes(30));
        let error = from_toml("consumer_timeout = \"never\"").expect_err("it is written `none`");
        assert!(error.contains("or \"none\", not \"never\""), "{error}");
    }

    #[test]
    fn schedules_are_kept_for_others_to_read() {
        let text = "[schedule.nightly]\ntask = \"x\"\nonce = 2030-01-31T08:00:00Z\nargs = [1, 2.5, true, [\"a\"]]\n";
        let settings = from_toml(text).expect("it is not looked into");
        let expected = serde_json::json!({
            "nightly": { "task": "x", "once": "2030-01-31T08:00:00Z", "args": [1, 2.5, true, ["a"]] }
        });
        assert_eq!(serde_json::Value::Object(settings.schedule.clone()), expected);
        assert_eq!(settings.schedule_origin().to_string(), "taskq.toml");
        assert_eq!(Settings::default().schedule_origin(), Origin::Default);
    }

    #[test]
    fn mistakes_name_the_key_and_the_mend() {
        for (text, expected) in [
            ("brokerurl = \"x\"", "did you mean `broker_url`?"),
            ("broker_url = [1]", "`broker_url` takes a URL"),
            ("publish_timeout = \"soon\"", "`publish_timeout` takes a length of time such as \"30s\", not \"soon\""),
            ("strict = \"perhaps\"", "`strict` takes true or false"),
            ("claim_lease = \"10ms\"", "`claim_lease` takes a length of time such as \"30s\", of at least a second"),
            ("queues = 3", "write [queues]"),
            ("[queues.mail]\nkind = \"lazy\"", "takes \"quorum\" or \"classic\""),
            ("[queues.mail]\nmax_priority = 9", "needs a classic queue"),
            ("[queues.mail]\nmax_prio = 9", "did you mean `max_priority`?"),
            ("[interop]\nqueues = \"celery\"", "takes a list"),
            ("schedule = 3", "write [schedule.NAME]"),
            ("[schedule.x]\nkwargs = { share = nan }", "`schedule` holds a number that JSON does not have: NaN"),
            ("strict = ", "taskq.toml: TOML parse error"),
        ] {
            let error = from_toml(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn variables_override_the_file_and_are_remembered() {
        let mut settings = from_toml("default_queue = \"file\"").expect("known");
        let variables = [("TASKQ_DEFAULT_QUEUE", "env"), ("TASKQ_TEST_X", "1"), ("PATH", "/")];
        settings
            .apply_variables(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())))
            .expect("only the first is ours");
        assert_eq!(settings.default_queue, "env");
        let report = settings.report();
        let (_, _, origin) = report.iter().find(|(key, ..)| *key == "default_queue").expect("it is a key");
        assert_eq!(*origin, Origin::Variable("TASKQ_DEFAULT_QUEUE".to_owned()));
    }

    #[test]
    fn an_embedded_broker_keeps_the_results_too() {
        for (text, broker, results) in [
            ("", DEFAULT_URL, Some(DEFAULT_URL)),
            ("broker_url = \"sqlite:jobs.db\"", "sqlite:jobs.db", Some("sqlite:jobs.db")),
            ("broker_url = \"memory:x\"", "memory:x", Some("memory:x")),
            ("broker_url = \"memory:x\"\nresult_url = \"none\"", "memory:x", None),
            ("result_url = \"redis://h\"", DEFAULT_URL, Some("redis://h")),
            ("broker_url = \"amqp://h\"", "amqp://h", None),
        ] {
            let settings = from_toml(text).expect("every key is known");
            assert_eq!((settings.broker_url(), settings.result_url()), (broker, results), "{text}");
        }
    }
}
