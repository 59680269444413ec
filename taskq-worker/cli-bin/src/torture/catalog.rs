//! The catalog of faults: the name of each, what it needs, how often it strikes and which tasks it adds. How a fault
//! strikes is in [`strikes`](super::strikes).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::workload::Mix::{self, Brief, Everything, Long, Seconds, Short};
use super::workload::{Behavior, CrashKind, Planned};

/// A kind of failure that a run can be exposed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table below has a sentence on each")]
pub enum Fault {
    Kill,
    KillGroup,
    KillParent,
    Pause,
    Drain,
    Grace,
    ThreeSignals,
    Replace,
    Hup,
    CrashLoop,
    Panic,
    Abort,
    Segfault,
    StackOverflow,
    Poison,
    OutOfMemory,
    Hog,
    Block,
    Spin,
    Resets,
    HalfOpen,
    CutBroker,
    CutResults,
    Slow,
    LostConfirms,
    RestartBroker,
    FailNode,
    RestartResults,
    DeleteQueue,
    Unroutable,
    Malformed,
    UnknownTask,
    Arguments,
    DeepHeaders,
    BrokenText,
    Unsendable,
    Deputy,
    Bombs,
    SlowProbes,
    OtherUser,
}

/// A precondition of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing special.
    Nothing,
    /// A supervised worker.
    Supervisor,
    /// RabbitMQ.
    Rabbit,
    /// A broker at a host and a port.
    BrokerByTcp,
    /// A result backend at a host and a port.
    ResultsByTcp,
    /// `--restart-broker`.
    BrokerHook,
    /// `--fail-node`.
    NodeHook,
    /// `--restart-results`.
    ResultsHook,
    /// A file as the broker, and the rights to act as another user.
    FileAndRoot,
}

/// The pause between two connection resets of one strike.
pub(super) const RESET_EVERY: Duration = Duration::from_millis(500);

/// The number of connection resets in one strike.
pub(super) const RESETS: u32 = 20;

/// The entry of a fault in the catalog.
struct CatalogRow {
    fault: Fault,
    name: &'static str,
    about: &'static str,
    need: Need,
    /// How often the fault strikes unless the command line says otherwise; 0 for faults that tasks cause.
    times: u32,
    /// The pause before each strike.
    pause: Duration,
    mix: Mix,
}

const fn row(fault: Fault, name: &'static str, about: &'static str) -> CatalogRow {
    CatalogRow { fault, name, about, need: Need::Nothing, times: 0, pause: Duration::ZERO, mix: Everything }
}

impl CatalogRow {
    const fn needs(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// Strikes `times` times, with a pause of `pause_ms` milliseconds before each.
    const fn strikes(self, times: u32, pause_ms: u64) -> Self {
        Self { times, pause: Duration::from_millis(pause_ms), ..self }
    }

    /// Strikes among ordinary tasks of this kind.
    const fn among(self, mix: Mix) -> Self {
        Self { mix, ..self }
    }
}

/// The catalog, in the order of [`Fault`].
#[rustfmt::skip]
static TABLE: [CatalogRow; 40] = [
    row(Fault::Kill, "kill", "kill -9 of a random process of the workers").strikes(10, 1000),
    row(Fault::KillGroup, "kill-group", "kill -9 of a whole worker, all its processes").strikes(4, 2000),
    row(Fault::KillParent, "kill-parent", "kill -9 of a supervisor alone").needs(Need::Supervisor).strikes(4, 2000),
    row(Fault::Pause, "pause", "SIGSTOP for longer than a lease, then SIGCONT (--hold)").strikes(1, 2000),
    row(Fault::Drain, "drain", "TERM to a worker full of tasks of a second").strikes(2, 3000).among(Seconds),
    row(Fault::Grace, "grace", "TERM to a worker whose tasks outlast its grace").strikes(2, 3000).among(Long),
    row(Fault::ThreeSignals, "three-signals", "TERM, TERM, INT to a worker").strikes(4, 2000),
    row(Fault::Replace, "replace", "workers are replaced one by one, the new before the old")
        .strikes(4, 2500).among(Short),
    row(Fault::Hup, "hup", "HUP to a supervisor: a rolling restart")
        .needs(Need::Supervisor).strikes(4, 2500).among(Short),
    row(Fault::CrashLoop, "crash-loop", "a worker that cannot start").needs(Need::Supervisor).strikes(1, 500),
    row(Fault::Panic, "panic", "every tenth task panics, and 50 in a row"),
    row(Fault::Abort, "abort", "tasks that abort their process, once"),
    row(Fault::Segfault, "segfault", "tasks that end their process by SIGSEGV, once"),
    row(Fault::StackOverflow, "stack-overflow", "tasks that use up their stack, once"),
    row(Fault::Poison, "poison", "a task that aborts its process each time").needs(Need::Supervisor),
    row(Fault::OutOfMemory, "out-of-memory", "a task that is killed each time, as by the OOM killer")
        .needs(Need::Supervisor),
    row(Fault::Hog, "hog", "tasks that take 200 MB each for a second"),
    row(Fault::Block, "block", "an async task that blocks its thread for a minute").among(Short),
    row(Fault::Spin, "spin", "async tasks that never end and never await, with a limit of 2 s")
        .needs(Need::Supervisor),
    row(Fault::Resets, "resets", "all connections to the broker are reset every 500 ms, 20 times")
        .needs(Need::BrokerByTcp).strikes(1, 2000),
    row(Fault::HalfOpen, "half-open", "the broker's connections go silent (--hold)")
        .needs(Need::BrokerByTcp).strikes(1, 2000),
    row(Fault::CutBroker, "cut-broker", "no way to the broker for workers (--hold)")
        .needs(Need::BrokerByTcp).strikes(1, 2000),
    row(Fault::CutResults, "cut-results", "no way to the result backend for workers (--hold)")
        .needs(Need::ResultsByTcp).strikes(1, 2000),
    row(Fault::Slow, "slow", "each 4 KiB to or from the broker take 20 ms (--hold)")
        .needs(Need::BrokerByTcp).strikes(1, 2000),
    row(Fault::LostConfirms, "lost-confirms", "what the broker says to the sender is lost for a second")
        .needs(Need::BrokerByTcp).strikes(4, 2000),
    row(Fault::RestartBroker, "restart-broker", "runs --restart-broker").needs(Need::BrokerHook).strikes(2, 3000),
    row(Fault::FailNode, "fail-node", "runs --fail-node, which takes a node of the broker away and brings it back (--hold)")
        .needs(Need::NodeHook).strikes(1, 3000).among(Brief),
    row(Fault::RestartResults, "restart-results", "runs --restart-results; what was stored is lost")
        .needs(Need::ResultsHook).strikes(2, 3000),
    row(Fault::DeleteQueue, "delete-queue", "the queues are deleted, while empty, under their consumers")
        .needs(Need::Rabbit).strikes(2, 2000),
    row(Fault::Unroutable, "unroutable", "messages to a queue that is not there").strikes(4, 1000),
    row(Fault::Malformed, "malformed", "a thousand messages that are broken, each in its way").strikes(3, 1500),
    row(Fault::UnknownTask, "unknown-task", "calls of a task that no worker knows").strikes(2, 1500),
    row(Fault::Arguments, "arguments", "calls with arguments of another shape").strikes(2, 1500),
    row(Fault::DeepHeaders, "deep-headers", "messages with headers nested up to 26,000 deep (--hold)")
        .needs(Need::Rabbit).strikes(1, 2000).among(Brief),
    row(Fault::BrokenText, "broken-text", "messages whose properties are not UTF-8 (--hold)")
        .needs(Need::Rabbit).strikes(1, 2000).among(Brief),
    row(Fault::Unsendable, "unsendable", "messages that fill a frame, and cannot be sent on (--hold)")
        .needs(Need::Rabbit).strikes(1, 2000).among(Brief),
    row(Fault::Deputy, "deputy", "messages whose headers name another queue (--hold)")
        .needs(Need::Rabbit).strikes(1, 2000).among(Brief),
    row(Fault::Bombs, "bombs", "compressed bodies that grow to 60 MB (--hold)")
        .needs(Need::Rabbit).strikes(1, 2000).among(Brief),
    row(Fault::SlowProbes, "slow-probes", "200 slow clients at the health address of a worker (--hold)")
        .needs(Need::Supervisor).strikes(1, 2000).among(Brief),
    row(Fault::OtherUser, "other-user", "another user tries to open every file of the workers, and to lock it (--hold)")
        .needs(Need::FileAndRoot).strikes(1, 2000).among(Brief),
];

impl Fault {
    fn row(self) -> &'static CatalogRow {
        &TABLE[self as usize]
    }

    /// Lists every fault.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.fault)
    }

    /// Returns the name, as the command line takes it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns a description of one line.
    pub fn about(self) -> &'static str {
        self.row().about
    }

    /// Returns the precondition.
    pub fn need(self) -> Need {
        self.row().need
    }

    /// Returns how often the fault strikes by default; 0 for faults that tasks cause.
    pub fn times(self) -> u32 {
        self.row().times
    }

    pub(super) fn pause(self) -> Duration {
        self.row().pause
    }

    pub(super) fn mix(self) -> Mix {
        self.row().mix
    }

    /// Returns whether the health of the workers is probed while the fault lasts.
    pub(super) fn is_probed(self) -> bool {
        self.is_hostile() || matches!(self, Self::SlowProbes | Self::OtherUser)
    }

    /// Returns whether the fault sends messages that no library writes.
    fn is_hostile(self) -> bool {
        matches!(self, Self::DeepHeaders | Self::BrokenText | Self::Unsendable | Self::Deputy | Self::Bombs)
    }

    /// Returns about how long one strike takes, given how long a lasting fault is held.
    pub(super) fn takes(self, hold: Duration) -> Duration {
        match self {
            _ if self.is_probed() => hold,
            Self::Pause | Self::HalfOpen | Self::CutBroker | Self::CutResults | Self::Slow | Self::FailNode => hold,
            Self::Resets => RESET_EVERY * RESETS,
            Self::LostConfirms | Self::Replace | Self::Hup | Self::KillParent => Duration::from_secs(1),
            Self::Drain | Self::Grace | Self::RestartResults => Duration::from_secs(2),
            Self::RestartBroker => Duration::from_secs(8),
            _ => Duration::ZERO,
        }
    }

    /// Returns the tasks that the fault adds to `tasks` ordinary ones.
    pub(super) fn specials(self, tasks: usize) -> Vec<Planned> {
        let some = |behavior: Behavior, count: usize| vec![Planned::of(behavior); count];
        let dying = |how, always| Behavior::Dying { how, always };
        match self {
            Self::Panic => {
                let mut panicking = some(Behavior::Panicking { until: 1 }, tasks / 10);
                panicking.extend(some(Behavior::Hopeless, 50));
                panicking
            }
            Self::Abort => some(dying(CrashKind::Abort, false), 5),
            Self::Segfault => some(dying(CrashKind::Segfault, false), 5),
            Self::StackOverflow => some(dying(CrashKind::StackOverflow, false), 5),
            Self::Poison => some(dying(CrashKind::Abort, true), 1),
            Self::OutOfMemory => some(dying(CrashKind::Killed, true), 1),
            Self::Hog => some(Behavior::Hogging { mb: 200, ms: 1000 }, 6),
            Self::Block => some(Behavior::Blocking { ms: 60_000 }, 1),
            Self::Spin => {
                let limit = Some(Duration::from_secs(2));
                vec![Planned { time_limit: limit, ..Planned::of(Behavior::Spinning) }; 3]
            }
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::all().find(|fault| fault.name() == name);
        found.ok_or_else(|| "there is no such fault; --list names them".to_owned())
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nothing => "",
            Self::Supervisor => "a supervised worker",
            Self::Rabbit => "RabbitMQ",
            Self::BrokerByTcp => "an amqp:// or amqps:// broker",
            Self::ResultsByTcp => "redis:// or rediss:// results",
            Self::BrokerHook => "--restart-broker",
            Self::NodeHook => "--fail-node",
            Self::ResultsHook => "--restart-results",
            Self::FileAndRoot => "a sqlite: broker, root and `setpriv`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_found_by_its_name() {
        for fault in Fault::all() {
            assert_eq!(fault.name().parse(), Ok(fault), "the table is in the order of the enum");
            let by_tasks = !fault.specials(100).is_empty();
            assert_eq!(by_tasks, fault.times() == 0, "{fault}: either tasks cause it, or it strikes");
        }
        assert!("no-such".parse::<Fault>().is_err());
    }
}
