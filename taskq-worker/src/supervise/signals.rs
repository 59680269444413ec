//! The signals of the supervisor, as requests.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A request to the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Stop: drain at the first request, cancel at the second, end at once at the third.
    Stop,
    /// Stop at once.
    StopNow,
    /// Replace the children by new ones, of the newest build.
    Roll,
    /// No request: a process has ended.
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
    /// Starts to listen.
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

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.terminate.recv() => Request::Stop,
            _ = self.quit.recv() => Request::StopNow,
            // A worker in a terminal gets HUP when the window is closed, which means that it has to end.
            _ = self.hang_up.recv() => if self.has_terminal { Request::Stop } else { Request::Roll },
            _ = self.child.recv() => Request::Reap,
        }
    }
}
