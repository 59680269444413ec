//! Watching events.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Map;
use tokio::time::Instant;

use super::FleetControl;
use crate::broker::{Heard, Listening};
use crate::codec::event::decode_events;
use crate::error::Error;
use crate::remote::Event;

/// The pause between two requests for events: a worker that has just begun does not know that somebody watches.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The events of tasks and workers, as they happen.
pub struct Events {
    control: FleetControl,
    listening: Listening,
    waiting: VecDeque<Event>,
    asked: Option<Instant>,
}

impl FleetControl {
    /// Begins to watch events: those of taskq's workers, and of Celery's on the same broker.
    ///
    /// # Errors
    ///
    /// If the broker cannot carry events, or cannot be reached.
    pub async fn events(&self) -> Result<Events, Error> {
        let reach = self.reach()?;
        let listening = reach.means().watch_events().await?;
        Ok(Events { control: self.clone(), listening, waiting: VecDeque::new(), asked: None })
    }
}

impl Events {
    /// Waits for the next event; `None` once the client is closed. Workers are asked for events of tasks again and
    /// again meanwhile. A message that cannot be read is passed over, with a warning.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                self.asked = Some(Instant::now());
                if let Err(error) = self.control.tell("enable_events", Map::new()).await {
                    tracing::warn!(%error, "workers could not be asked for events");
                }
            }
            let Ok(heard) = crate::io::timeout_here(ASK_EVERY, self.listening.next()).await else { continue };
            let Heard::Message(message) = heard? else { continue };
            match decode_events(&message) {
                Ok(events) => self.waiting.extend(events),
                Err(why) => tracing::warn!(why, "events that cannot be read are passed over"),
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
