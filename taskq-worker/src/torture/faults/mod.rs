//! The faults: what can be done to a run, each a small unit. To add one, name it here and say how it strikes.

mod messages;
mod network;
mod processes;
mod servers;
mod table;

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use taskq::BoxError;
use taskq::Client;

use super::fleet::Fleet;
use super::ledger::{Fact, Ledger, Whom, now_ms};
use super::options::Options;
use super::plan::{Death, Dice, Mix, Planned, What};
use super::producer::Producer;
use super::story::Story;

pub(super) use network::Network;
use table::{Facts, TABLE};

/// Something that is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
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
    RestartResults,
    DeleteQueue,
    Unroutable,
    Malformed,
    UnknownTask,
    Arguments,
}

/// What a fault needs to be possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
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
    /// `--restart-results`.
    ResultsHook,
}

/// How fast resets follow each other in one strike, and for how long.
const RESET_EVERY: Duration = Duration::from_millis(500);
const RESETS: u32 = 20;

impl Fault {
    fn facts(self) -> &'static Facts {
        &TABLE[self as usize]
    }

    /// All there are.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|facts| facts.fault)
    }

    /// Its name, as it is asked for.
    pub(crate) fn name(self) -> &'static str {
        self.facts().name
    }

    /// What it does, in a line.
    pub(crate) fn about(self) -> &'static str {
        self.facts().about
    }

    /// What it needs.
    pub(crate) fn need(self) -> Need {
        self.facts().need
    }

    /// How often it strikes by itself; 0 for what tasks do.
    pub(crate) fn times(self) -> u32 {
        self.facts().times
    }

    pub(super) fn pause(self) -> Duration {
        self.facts().pause
    }

    pub(super) fn mix(self) -> Mix {
        self.facts().mix
    }

    /// About how long one strike takes.
    pub(super) fn takes(self, hold: Duration) -> Duration {
        match self {
            Self::Pause | Self::HalfOpen | Self::CutBroker | Self::CutResults | Self::Slow => hold,
            Self::Resets => RESET_EVERY * RESETS,
            Self::LostConfirms | Self::Replace | Self::Hup | Self::KillParent => Duration::from_secs(1),
            Self::Drain | Self::Grace | Self::RestartResults => Duration::from_secs(2),
            Self::RestartBroker => Duration::from_secs(8),
            _ => Duration::ZERO,
        }
    }

    /// The tasks it adds to `tasks` ordinary ones.
    pub(super) fn specials(self, tasks: usize) -> Vec<Planned> {
        let some = |what: What, count: usize| vec![Planned::of(what); count];
        let dying = |how, always| What::Dying { how, always };
        match self {
            Self::Panic => {
                let mut panicking = some(What::Panicking { until: 1 }, tasks / 10);
                panicking.extend(some(What::Hopeless, 50));
                panicking
            }
            Self::Abort => some(dying(Death::Abort, false), 5),
            Self::Segfault => some(dying(Death::Segfault, false), 5),
            Self::StackOverflow => some(dying(Death::StackOverflow, false), 5),
            Self::Poison => some(dying(Death::Abort, true), 1),
            Self::OutOfMemory => some(dying(Death::Killed, true), 1),
            Self::Hog => some(What::Hogging { mb: 200, ms: 1000 }, 6),
            Self::Block => some(What::Blocking { ms: 60_000 }, 1),
            Self::Spin => {
                let limit = Some(Duration::from_secs(2));
                vec![Planned { time_limit: limit, ..Planned::of(What::Spinning) }; 3]
            }
            _ => Vec::new(),
        }
    }

    /// Strikes once. An error means that it could not, not that anything broke.
    pub(super) async fn strike(self, field: &mut Field<'_>) -> Result<(), BoxError> {
        match self {
            Self::Kill => processes::kill(field).await,
            Self::KillGroup => processes::kill_group(field).await,
            Self::KillParent => processes::kill_parent(field).await,
            Self::Pause => processes::pause(field).await,
            Self::Drain => processes::drain(field).await,
            Self::Grace => processes::grace(field).await,
            Self::ThreeSignals => processes::three_signals(field).await,
            Self::Replace => processes::replace(field).await,
            Self::Hup => processes::hup(field).await,
            Self::CrashLoop => processes::crash_loop(field).await,
            Self::Resets => network::resets(field).await,
            Self::HalfOpen => network::half_open(field).await,
            Self::CutBroker => network::cut_broker(field).await,
            Self::CutResults => network::cut_results(field).await,
            Self::Slow => network::slow(field).await,
            Self::LostConfirms => network::lost_confirms(field).await,
            Self::RestartBroker => servers::restart_broker(field).await,
            Self::RestartResults => servers::restart_results(field).await,
            Self::DeleteQueue => servers::delete_queues(field).await,
            Self::Unroutable => messages::unroutable(field).await,
            Self::Malformed => messages::malformed(field).await,
            Self::UnknownTask => messages::unknown_task(field).await,
            Self::Arguments => messages::arguments(field).await,
            // These are done by tasks.
            Self::Panic
            | Self::Abort
            | Self::Segfault
            | Self::StackOverflow
            | Self::Poison
            | Self::OutOfMemory
            | Self::Hog
            | Self::Block
            | Self::Spin => Ok(()),
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
            Self::BrokerByTcp => "an amqp:// broker",
            Self::ResultsByTcp => "redis:// results",
            Self::BrokerHook => "--restart-broker",
            Self::ResultsHook => "--restart-results",
        })
    }
}

/// What faults can reach.
pub(super) struct Field<'a> {
    pub(super) options: &'a Options,
    pub(super) fleet: &'a Fleet,
    pub(super) network: &'a Network,
    /// A client by the direct way, for looking.
    pub(super) client: &'a Client,
    pub(super) producer: &'a Producer,
    pub(super) ledger: &'a Ledger,
    pub(super) story: &'a Mutex<Story>,
    pub(super) queues: &'a [String],
    pub(super) dice: Dice,
}

/// How long a strike waits for the moment that it needs.
const MOMENT_BOUND: Duration = Duration::from_secs(30);

impl Field<'_> {
    /// Looks at the story so far.
    fn look<T>(&self, at: impl FnOnce(&Story) -> T) -> T {
        at(&self.story.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `fact` gives something; `None` if it does not within `bound`.
    async fn until<T>(&self, bound: Duration, mut fact: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(found) = fact(self) {
                return Some(found);
            }
            if begun.elapsed() > bound {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Notes that `fault` begins; to be called before it does.
    fn struck(&self, fault: Fault, whom: Whom) -> Result<u64, BoxError> {
        self.ledger.note(Fact::Struck { fault: fault.name().to_owned(), whom })?;
        Ok(now_ms())
    }

    fn over(&self, fault: Fault) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Over { fault: fault.name().to_owned() })?)
    }

    fn figure(&self, name: &str, value: u64) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Figure { name: name.to_owned(), value })?)
    }

    fn wrong(&self, what: impl Into<String>) -> Result<(), BoxError> {
        Ok(self.ledger.note(Fact::Wrong { what: what.into() })?)
    }

    /// How long faults last that last.
    fn hold(&self) -> Duration {
        self.options.hold
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
            assert_eq!(by_tasks, fault.times() == 0, "{fault}: either tasks do it, or it strikes");
        }
        assert!("no-such".parse::<Fault>().is_err());
    }
}
