//! What `#[task(...)]` can say about a task.

use std::time::Duration;

/// The options of a task, as its attribute gives them. `None` means: not said, the default holds.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOptions {
    /// The queue its calls go to. Default: the client's default queue, `default`.
    pub queue: Option<&'static str>,
    /// 0 to 255, larger first, on queues that know priorities.
    pub priority: Option<u8>,
    /// How many retries after the first attempt. Default 3.
    pub retries: Option<u32>,
    /// The bounds of the delay between attempts. Default 1 s to 10 min.
    pub backoff: Option<Backoff>,
    /// After this the task is asked to stop. Default: none.
    pub soft_time_limit: Option<Duration>,
    /// After this it is stopped. Default: none.
    pub time_limit: Option<Duration>,
    /// Calls not begun after this long are revoked. Default: never.
    pub expires: Option<Duration>,
    /// How often it may start, per worker. Kept in the registry.
    pub rate_limit: Option<RateLimit>,
    /// Whether results are not stored.
    pub ignore_result: bool,
    /// When the message is acknowledged.
    pub ack: AckMode,
    /// When beat sends it.
    pub schedule: Option<Schedule>,
}

impl TaskOptions {
    /// Nothing said.
    pub const DEFAULT: Self = Self {
        queue: None,
        priority: None,
        retries: None,
        backoff: None,
        soft_time_limit: None,
        time_limit: None,
        expires: None,
        rate_limit: None,
        ignore_result: false,
        ack: AckMode::Late,
        schedule: None,
    };
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// When a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// After the attempt is settled: at least once. The default.
    #[default]
    Late,
    /// Before the attempt begins: at most once, a crash loses it.
    Early,
}

/// The bounds of an exponential delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first delay; doubled for each further one.
    pub min: Duration,
    /// What it never exceeds.
    pub max: Duration,
}

impl Backoff {
    /// 1 s to 10 min.
    pub const DEFAULT: Self = Self { min: Duration::from_secs(1), max: Duration::from_secs(600) };
}

/// So many starts per so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many starts.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

/// When beat sends a task by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the times that a cron line names, in a time zone (`UTC` by default).
    Cron {
        /// Five or six fields.
        line: &'static str,
        /// An IANA name such as `Europe/Berlin`.
        tz: &'static str,
    },
    /// Each time this long has passed.
    Every(Duration),
}
