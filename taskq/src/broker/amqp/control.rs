//! The control of a consumption, held by its reader.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::deliveries::Sources;
use super::link::Link;
use crate::broker::{ConsumptionControl, FetchControl};

/// The reader's control of a consumption.
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
    fn has_ended(&self) -> bool {
        self.sources.is_stopping()
    }

    fn set_prefetch(&self, prefetch: u16) {
        self.tell(Command::SetPrefetch(prefetch));
    }

    fn give_back_unread(&self) {
        self.tell(Command::GiveBackUnread);
    }

    fn fetch_control(&self) -> Option<&dyn FetchControl> {
        Some(self)
    }

    fn stop(&self) {
        self.sources.stop();
        self.tell(Command::Stop);
    }

    fn is_live(&self) -> bool {
        !self.sources.is_stopping() && self.sources.complete.load(Ordering::Acquire) && self.link.is_live()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            self.sources.stop();
            let (done, closed) = oneshot::channel();
            if self.tell(Command::Close(done)) {
                // In either case, the consumer has ended.
                let _ = closed.await;
            }
        }
        .boxed()
    }
}

impl FetchControl for Control {
    fn cap_outstanding(&self, prefetch: u16) {
        self.tell(Command::CapOutstanding(prefetch));
    }

    fn suspend_fetching(&self) -> BoxFuture<'_, ()> {
        let (done, suspended) = oneshot::channel();
        let told = self.tell(Command::SuspendFetching(done));
        async move {
            if told {
                // In either case, nothing is fetched any more.
                let _ = suspended.await;
            }
        }
        .boxed()
    }
}
