//! The history of an entry: the outcome of its newest slots.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;
use taskq::backend::BackendError;
use taskq::internal::fault::full_message;

use super::keys::HISTORY;
use super::store::{Saved, Store};
use crate::due::Missed;
use crate::versioned::{UnreadableValue, decode};

/// The time for which the history of an entry is kept after the entry was removed because its only slot was over: 30
/// days.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The number of events that are kept of each entry.
const EVENTS_MAX: usize = 100;

/// The number of attempts to add to a history that another beat changes at the same time. One beat leads, so that is
/// rare.
const ATTEMPTS_MAX: usize = 20;

/// The newest events of an entry, at most 100.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    events: Vec<Event>,
}

/// The outcome of one slot, or of several that were missed together, or a run that was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// The node of the beat, or the node from which a run was requested.
    pub by: String,
    /// The event itself.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The outcome of slots, or a requested run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A slot was sent.
    #[non_exhaustive]
    Fired {
        /// The slot.
        slot: DateTime<Utc>,
        /// The lateness of the slot in milliseconds.
        late_ms: i64,
        /// Whether another beat may have sent the slot before, under the same id.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// Slots were not sent.
    Missed(Missed),
    /// The entry was sent apart from its slots, because a run was requested.
    #[non_exhaustive]
    Asked {
        /// The id of the task.
        id: TaskId,
    },
}

impl History {
    /// Returns the events, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Adds an event. One that is there already was written by a beat that died before it could mark its slot. Slots
    /// that were missed in a row for one reason become one event.
    fn add(&mut self, event: Event) {
        if self.events.iter().rev().any(|earlier| earlier.kind.is_duplicate_of(&event.kind)) {
            return;
        }
        if let (Some(Event { kind: EventKind::Missed(last), at, .. }), EventKind::Missed(next)) =
            (self.events.last_mut(), &event.kind)
            && last.reason == next.reason
            && last.last < next.first
        {
            last.last = next.last;
            last.count += next.count;
            last.is_more |= next.is_more;
            *at = event.at;
            return;
        }
        self.events.push(event);
        let old = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..old);
    }
}

impl EventKind {
    /// Whether both events are about the same slots or run.
    fn is_duplicate_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fired { slot, .. }, Self::Fired { slot: other, .. }) => slot == other,
            (Self::Missed(one), Self::Missed(other)) => one.reason == other.reason && one.last == other.last,
            (Self::Asked { id }, Self::Asked { id: other }) => id == other,
            _ => false,
        }
    }
}

impl Store {
    /// Returns the history of an entry, empty if nothing has happened yet.
    pub async fn history_of(&self, name: &str) -> Result<History, BackendError> {
        Ok(self.read(&format!("{HISTORY}{name}")).await?.unwrap_or_default())
    }

    /// Adds events to the history of an entry. Events that it contains already are not added again.
    ///
    /// A history of a newer version is an error, so that its events are not lost. Any other history that cannot be read
    /// must not keep its entry from being sent: it is replaced, with a warning.
    pub(crate) async fn append(&self, name: &str, events: &[Event]) -> Result<(), BackendError> {
        let key = format!("{HISTORY}{name}");
        for _ in 0..ATTEMPTS_MAX {
            let there = self.kv().get(&key).await?;
            let mut history = match there.as_deref().map(decode::<History>) {
                None => History::default(),
                Some(Ok(history)) => history,
                Some(Err(error @ UnreadableValue::Newer { .. })) => return Err(error.at(&key)),
                Some(Err(error @ UnreadableValue::Malformed(_))) => {
                    let error = full_message(&error.at(&key));
                    tracing::warn!(error, "beat: a history that cannot be read is replaced by a new one");
                    History::default()
                }
            };
            for event in events {
                history.add(event.clone());
            }
            if let Saved::Done(_) = self.replace(&key, there.as_ref(), &history).await? {
                return Ok(());
            }
        }
        let source = "it is changed concurrently all the time; check whether more than one beat leads".into();
        Err(BackendError::Failed { what: format!("the writing of {key:?}"), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::due::MissReason;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    fn event(kind: EventKind) -> Event {
        Event { at: at(0), by: "b".to_owned(), kind }
    }

    fn fired(slot: i64) -> Event {
        event(EventKind::Fired { slot: at(slot), late_ms: 1, again: false })
    }

    fn missed(first: i64, last: i64, reason: MissReason) -> Event {
        let count = u64::try_from(last - first + 1).expect("not negative");
        event(EventKind::Missed(Missed { first: at(first), last: at(last), count, is_more: false, reason }))
    }

    #[test]
    fn events_are_bounded_and_each_is_there_once() {
        let mut history = History::default();
        for slot in 0..250 {
            history.add(fired(slot));
            history.add(fired(slot));
        }
        assert_eq!(history.events().len(), EVENTS_MAX);
        assert_eq!((history.events.first(), history.events.last()), (Some(&fired(150)), Some(&fired(249))));
    }

    #[test]
    fn slots_missed_in_a_row_are_one_event() {
        let mut history = History::default();
        for event in [
            fired(1),
            missed(2, 3, MissReason::Running),
            missed(4, 4, MissReason::Running),
            missed(4, 4, MissReason::Running),
        ] {
            history.add(event);
        }
        history.add(missed(5, 5, MissReason::Late));
        assert_eq!(history.events(), [fired(1), missed(2, 4, MissReason::Running), missed(5, 5, MissReason::Late)]);
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let text = serde_json::to_value(missed(2, 3, MissReason::Running)).expect("it is plain data");
        let expected = serde_json::json!({
            "at": "1970-01-01T00:00:00Z", "by": "b", "event": "missed", "first": "1970-01-01T00:00:02Z",
            "last": "1970-01-01T00:00:03Z", "count": 2, "is_more": false, "why": "running"
        });
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_value::<Event>(expected).expect("the same"), missed(2, 3, MissReason::Running));
    }
}
