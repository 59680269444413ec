//! The options of a task, as `#[task(...)]` gives them.

use std::time::Duration;

/// The options of a task, as its attribute gives them. `None` means that the default holds.
///
/// Made from [`TaskOptions::DEFAULT`], by changing its fields; that also works in constants.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The queue of the task's calls. Default: the client's default queue, `default`.
    pub queue: Option<&'static str>,
    /// The priority, 0 to 255, larger first, on queues that know priorities. None is 0.
    pub priority: Option<u8>,
    /// The number of retries after the first attempt. Default 3.
    pub retries: Option<u32>,
    /// The bounds of the delay between attempts. Default 1 s to 10 min.
    pub backoff: Option<Backoff>,
    /// The time after which an attempt is asked to stop. Default: none.
    pub soft_time_limit: Option<Duration>,
    /// The time after which an attempt is stopped. Default: none.
    pub time_limit: Option<Duration>,
    /// The time after which calls that have not begun are revoked. Default: never.
    pub expires: Option<Duration>,
    /// Whether results are not stored.
    pub ignore_result: bool,
    /// Whether the arguments are sealed: those who have no key cannot read them.
    pub sealed: bool,
    /// The moment at which the message is acknowledged.
    pub ack: AckMode,
    /// The times at which beat sends the task.
    pub schedule: Option<ScheduleAttribute>,
}

impl TaskOptions {
    /// The options of a task whose attribute names none.
    pub const DEFAULT: Self = Self {
        queue: None,
        priority: None,
        retries: None,
        backoff: None,
        soft_time_limit: None,
        time_limit: None,
        expires: None,
        ignore_result: false,
        sealed: false,
        ack: AckMode::Late,
        schedule: None,
    };
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The moment at which a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AckMode {
    /// After the attempt is settled: at least once. The default.
    #[default]
    Late,
    /// Before the attempt begins: at most once, a crash loses it.
    Early,
}

/// The bounds of an exponential delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The bound of the first delay; doubled for each further one.
    pub min: Duration,
    /// The bound that no delay exceeds.
    pub max: Duration,
}

impl Backoff {
    /// 1 s to 10 min.
    pub const DEFAULT: Self = Self::new(Duration::from_secs(1), Duration::from_secs(600));

    /// Bounds the first delay by `min`, and every delay by `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max }
    }
}

/// The times at which beat sends a task by itself, as the task's attribute gives them.
///
/// Exhaustive, since beat must know how to follow every kind of schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleAttribute {
    /// The times that a cron line names, in a time zone (`UTC` by default).
    Cron {
        /// Five or six fields.
        line: &'static str,
        /// An IANA name such as `Europe/Berlin`.
        tz: &'static str,
    },
    /// An interval of this length.
    Every(Duration),
}
