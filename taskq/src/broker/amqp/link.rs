//! A connection that is reopened: the session of the moment, and the next one after it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time;

use super::address::Address;
use super::session::Session;
use crate::broker::BrokerError;
use crate::io;

/// The first wait before connecting again, and the longest. There is no last: an outage of any length ends.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// One of the two connections of a broker client.
pub(super) struct Link {
    address: Address,
    name: String,
    state: watch::Sender<LinkState>,
    /// The next session must carry larger frames.
    wide: AtomicBool,
}

#[derive(Clone)]
enum LinkState {
    Open(Arc<Session>),
    Reconnecting,
    Closed,
}

impl Link {
    /// Connects, and stays connected until [`Link::close`]. Fails if the first attempt does.
    pub(super) async fn open(address: Address, name: String) -> Result<Arc<Self>, BrokerError> {
        let session = Session::open(&address, address.uri.clone(), &name).await?;
        let state = watch::Sender::new(LinkState::Open(Arc::clone(&session)));
        let link = Arc::new(Self { address, name, state, wide: AtomicBool::new(false) });
        io::spawn(Arc::clone(&link).stay(session));
        Ok(link)
    }

    /// The session of the moment, waiting for as long as there is none. `None` once the link is closed.
    pub(super) async fn session(&self) -> Option<Arc<Session>> {
        let mut state = self.state.subscribe();
        let found = state.wait_for(|state| match state {
            LinkState::Open(session) => session.is_open(),
            LinkState::Reconnecting => false,
            LinkState::Closed => true,
        });
        match found.await.ok()?.clone() {
            LinkState::Open(session) => Some(session),
            LinkState::Reconnecting | LinkState::Closed => None,
        }
    }

    /// Whether there is a session.
    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.state.borrow(), LinkState::Open(session) if session.is_open())
    }

    /// Whether there is a session on which the broker takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&*self.state.borrow(), LinkState::Open(session) if session.is_blocked())
    }

    /// Returns once the link is closed.
    pub(super) async fn closed(&self) {
        let mut state = self.state.subscribe();
        // An error means that the link itself is gone, which is no less closed.
        let _ = state.wait_for(|state| matches!(state, LinkState::Closed)).await;
    }

    /// Lets the next session, and all after it, carry larger frames.
    pub(super) fn widen(&self) {
        self.wide.store(true, Ordering::Release);
    }

    /// Whether [`Link::widen`] was called.
    pub(super) fn is_wide(&self) -> bool {
        self.wide.load(Ordering::Acquire)
    }

    /// Ends it for good.
    pub(super) async fn close(&self) {
        let LinkState::Open(session) = self.state.send_replace(LinkState::Closed) else { return };
        session.close().await;
    }

    /// Ends it without waiting for the broker's goodbye.
    pub(super) fn abandon(&self) {
        if let LinkState::Open(session) = self.state.send_replace(LinkState::Closed) {
            io::spawn(async move { session.close().await });
        }
    }

    async fn stay(self: Arc<Self>, mut session: Arc<Session>) {
        loop {
            let reason = tokio::select! {
                // In this order: closing the link ends the session too, and that is no loss.
                biased;
                () = self.closed() => return,
                reason = session.lost() => reason,
            };
            if session.broke_over_frame() {
                // Somebody sent a header table that only fits larger frames. It will come again, and again.
                self.widen();
            }
            tracing::warn!(connection = self.name, broker = self.address.shown, %reason, "connection to the broker lost");
            if !self.replace(LinkState::Reconnecting) {
                return;
            }
            // What is left of the old one ends by itself; lapin's threads may take their time.
            let old = std::mem::replace(
                &mut session,
                tokio::select! {
                    session = self.reconnect() => session,
                    () = self.closed() => return,
                },
            );
            io::spawn(async move { old.close().await });
            tracing::info!(connection = self.name, broker = self.address.shown, "connected to the broker again");
            if !self.replace(LinkState::Open(Arc::clone(&session))) {
                session.close().await;
                return;
            }
        }
    }

    /// Sets the state unless the link was closed meanwhile.
    fn replace(&self, next: LinkState) -> bool {
        let mut replaced = false;
        self.state.send_if_modified(|state| {
            replaced = !matches!(state, LinkState::Closed);
            if replaced {
                *state = next;
            }
            replaced
        });
        replaced
    }

    async fn reconnect(&self) -> Arc<Session> {
        let mut pause = BACKOFF_MIN;
        loop {
            // Between half and all of it, so that a thousand clients do not come back in the same instant.
            time::sleep(pause.mul_f64(0.5 + jitter() / 2.0)).await;
            let uri = if self.is_wide() { self.address.wide() } else { self.address.uri.clone() };
            match Session::open(&self.address, uri, &self.name).await {
                Ok(session) => return session,
                Err(error) => tracing::debug!(%error, "the broker is still away"),
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

/// Evenly spread between 0 and 1; good enough to keep clients apart.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    // Each state is seeded anew.
    (RandomState::new().hash_one(0_u8) >> 11) as f64 / (1_u64 << 53) as f64
}
