//! A connection that is reopened: the current session, and the next one after it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time;

use super::greeting::Abilities;
use super::places::{PATIENT_ROUND, Places};
use super::session::Session;
use crate::broker::BrokerError;
use crate::io;

/// Bounds of the pause before each round of reconnecting. There is no last attempt: an outage of any length ends.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// One of the two connections of a broker client.
pub(super) struct Link {
    places: Arc<Places>,
    name: String,
    state: watch::Sender<LinkState>,
    /// The next session must allow larger frames.
    wide: AtomicBool,
}

#[derive(Clone)]
enum LinkState {
    Open(Arc<Session>),
    Reconnecting,
    Closed,
}

impl Link {
    /// Connects, and stays connected until [`Link::close`]. Fails if no place can be connected to in the first round.
    /// `wide`: larger frames are allowed from the start, as for messages of others, whose headers may need them.
    pub(super) async fn open(places: Arc<Places>, name: String, wide: bool) -> Result<Arc<Self>, BrokerError> {
        let session = places.connect(PATIENT_ROUND, wide, &name).await?;
        let state = watch::Sender::new(LinkState::Open(Arc::clone(&session)));
        let link = Arc::new(Self { places, name, state, wide: AtomicBool::new(wide) });
        io::spawn(Arc::clone(&link).stay(session));
        Ok(link)
    }

    /// Whether the broker has more than one place, as far as is known.
    pub(super) fn has_several_places(&self) -> bool {
        self.places.are_several()
    }

    /// The current session. Waits while there is none; `None` once the link is closed.
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

    /// The abilities of the current session's broker; none while there is no session.
    pub(super) fn abilities(&self) -> Abilities {
        match &*self.state.borrow() {
            LinkState::Open(session) => session.abilities(),
            LinkState::Reconnecting | LinkState::Closed => Abilities::default(),
        }
    }

    /// Whether there is a session, and it is of use as far as is known.
    pub(super) fn is_live(&self) -> bool {
        let is_live = |session: &Session| session.is_open() && !session.is_suspected();
        matches!(&*self.state.borrow(), LinkState::Open(session) if is_live(session))
    }

    /// Whether there is a session on which the broker accepts no messages.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(&*self.state.borrow(), LinkState::Open(session) if session.is_blocked())
    }

    /// Completes when the link is closed.
    pub(super) async fn closed(&self) {
        let mut state = self.state.subscribe();
        // An error means that the link itself is gone, and so is closed as well.
        let _ = state.wait_for(|state| matches!(state, LinkState::Closed)).await;
    }

    /// Makes the next session, and all after it, allow larger frames.
    pub(super) fn widen(&self) {
        self.wide.store(true, Ordering::Release);
    }

    /// Whether [`Link::widen`] was called.
    pub(super) fn is_wide(&self) -> bool {
        self.wide.load(Ordering::Acquire)
    }

    /// Closes the link for good.
    pub(super) async fn close(&self) {
        let LinkState::Open(session) = self.state.send_replace(LinkState::Closed) else { return };
        session.close().await;
    }

    /// Closes the link without waiting for the broker to confirm it.
    pub(super) fn abandon(&self) {
        if let LinkState::Open(session) = self.state.send_replace(LinkState::Closed) {
            io::spawn(async move { session.close().await });
        }
    }

    async fn stay(self: Arc<Self>, mut session: Arc<Session>) {
        loop {
            let reason = tokio::select! {
                // The order matters: closing the link ends the session too, and that is not a loss.
                biased;
                () = self.closed() => return,
                reason = session.lost() => reason,
            };
            if session.broke_over_frame() {
                // Another client sent a header table that needs larger frames. It would break each connection again.
                self.widen();
            }
            if session.is_forsaken() {
                self.places.leave(session.place());
            }
            let (connection, broker) = (self.name.as_str(), self.places.shown());
            tracing::warn!(connection, broker, place = %session.place(), %reason, "connection to the broker lost");
            if !self.replace(LinkState::Reconnecting) {
                return;
            }
            // The remains of the old session end by themselves; lapin's threads may take their time.
            let old = std::mem::replace(
                &mut session,
                tokio::select! {
                    session = self.reconnect() => session,
                    () = self.closed() => return,
                },
            );
            io::spawn(async move { old.close().await });
            tracing::info!(connection, broker, place = %session.place(), "connected to the broker again");
            if !self.replace(LinkState::Open(Arc::clone(&session))) {
                session.close().await;
                return;
            }
        }
    }

    /// Sets the state unless the link was closed in the meantime.
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
        let (mut pause, mut round) = (BACKOFF_MIN, 0_u32);
        loop {
            // Between half and all of the pause, so that a thousand clients do not reconnect in the same instant.
            time::sleep(pause.mul_f64(0.5 + io::jitter() / 2.0)).await;
            match self.places.connect(round, self.is_wide(), &self.name).await {
                Ok(session) => return session,
                Err(error) => tracing::debug!(%error, "the broker is still away"),
            }
            pause = (pause * 2).min(BACKOFF_MAX);
            round = round.saturating_add(1);
        }
    }
}
