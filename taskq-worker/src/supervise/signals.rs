//! What signals ask of the supervisor.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To stop: drain, then cancel, then at once.
    Stop,
    /// To stop at once.
    StopNow,
    /// To replace the children by new ones, of the newest build.
    Renew,
    /// Nothing; some process has ended.
    Reap,
}

/// The signals of this process.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hang_up: Signal,
    child: Signal,
    has_terminal: bool,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
            has_terminal: io::stdin().is_terminal() || io::stderr().is_terminal(),
        })
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.quit.recv() => Asked::StopNow,
            // A worker in a terminal gets it when the window is closed, and is not wanted any more.
            _ = self.hang_up.recv() => if self.has_terminal { Asked::Stop } else { Asked::Renew },
            _ = self.child.recv() => Asked::Reap,
        }
    }
}
