//! The outside of a consumption: what it is asked for, and how it is steered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::deliveries::Sources;
use super::link::Link;
use crate::broker::{ConsumptionControl, FetchControl};

/// What is consumed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) queues: Vec<Arc<str>>,
    pub(super) prefetch: u16,
    /// Where what is given back goes, if its queue holds copies.
    pub(super) home: Option<Arc<str>>,
    /// Within what time the broker wants deliveries settled.
    pub(super) settle_within: Option<Duration>,
}

/// What a supervisor may be told.
pub(super) enum Command {
    /// A consumer has ended.
    Vacant,
    /// The reader comes back to a queue whose consumer rests.
    Wanted,
    /// The reader will not read for long.
    Rest(oneshot::Sender<()>),
    SetPrefetch(u16),
    /// The same, and messages that are out count.
    LeaveRoom(u16),
    Stop,
    Close(oneshot::Sender<()>),
}

/// Steers a consumption.
pub(super) struct Control {
    pub(super) link: Arc<Link>,
    pub(super) sources: Arc<Sources>,
    pub(super) commands: Arc<mpsc::UnboundedSender<Command>>,
}

impl Control {
    fn tell(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }
}

impl ConsumptionControl for Control {
    fn set_prefetch(&self, prefetch: u16) {
        self.tell(Command::SetPrefetch(prefetch));
    }

    fn fetch_control(&self) -> Option<&dyn FetchControl> {
        Some(self)
    }

    fn stop(&self) {
        self.sources.stop();
        self.tell(Command::Stop);
    }

    fn is_live(&self) -> bool {
        !self.sources.is_stopping() && self.sources.complete.load(Ordering::Acquire) && self.link.is_open()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.sources.stop();
            let (done, closed) = oneshot::channel();
            if self.tell(Command::Close(done)) {
                // Either way the supervisor has ended.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}

impl FetchControl for Control {
    fn cap_outstanding(&self, prefetch: u16) {
        self.tell(Command::LeaveRoom(prefetch));
    }

    fn suspend_fetching(&self) -> BoxFuture<'_, ()> {
        let (done, rests) = oneshot::channel();
        let told = self.tell(Command::Rest(done));
        async move {
            if told {
                // Either way nothing is fetched.
                let _ = rests.await;
            }
        }
        .boxed()
    }
}
