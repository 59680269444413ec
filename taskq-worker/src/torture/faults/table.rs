//! What is known of each fault, in the order of [`Fault`].

use std::time::Duration;

use super::{Fault, Need};
use crate::torture::plan::Mix::{self, Everything, Long, Seconds, Short};

/// What is known of a fault.
pub(super) struct Facts {
    pub(super) fault: Fault,
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) need: Need,
    /// How often it strikes, if nobody says otherwise. 0: it is done by tasks.
    pub(super) times: u32,
    /// The pause before each.
    pub(super) pause: Duration,
    pub(super) mix: Mix,
}

const fn row(fault: Fault, name: &'static str, about: &'static str) -> Facts {
    Facts { fault, name, about, need: Need::Nothing, times: 0, pause: Duration::ZERO, mix: Everything }
}

impl Facts {
    const fn needs(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// Strikes so often, with a pause of so many milliseconds before each.
    const fn strikes(self, times: u32, pause_ms: u64) -> Self {
        Self { times, pause: Duration::from_millis(pause_ms), ..self }
    }

    /// Among such tasks.
    const fn among(self, mix: Mix) -> Self {
        Self { mix, ..self }
    }
}

#[rustfmt::skip]
pub(super) static TABLE: [Facts; 32] = [
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
    row(Fault::RestartResults, "restart-results", "runs --restart-results; what was stored is lost")
        .needs(Need::ResultsHook).strikes(2, 3000),
    row(Fault::DeleteQueue, "delete-queue", "the queues are deleted, while empty, under their consumers")
        .needs(Need::Rabbit).strikes(2, 2000),
    row(Fault::Unroutable, "unroutable", "messages to a queue that is not there").strikes(4, 1000),
    row(Fault::Malformed, "malformed", "a thousand messages that are broken, each in its way").strikes(3, 1500),
    row(Fault::UnknownTask, "unknown-task", "calls of a task that no worker knows").strikes(2, 1500),
    row(Fault::Arguments, "arguments", "calls with arguments of another shape").strikes(2, 1500),
];
