//! What became of the newest slots of an entry.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskq::TaskId;

use crate::due::Missed;

/// Of an entry that was removed because its slots were over, the history is kept for so long: 30 days.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// So many events are kept of each entry.
const EVENTS_MAX: usize = 100;

/// The newest events of an entry, oldest first; no more than 100.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(Vec<Event>);

/// What became of a slot, or of several that were missed together, or a run that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was dealt with.
    pub at: DateTime<Utc>,
    /// Which beat did, or the node on which somebody asked.
    pub by: String,
    /// What it did.
    #[serde(flatten)]
    pub what: What,
}

/// What became of slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// It was sent.
    Fired {
        /// The slot.
        slot: DateTime<Utc>,
        /// By how many milliseconds it was late.
        late_ms: i64,
        /// Whether another beat may have sent it before, under the same id.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// They were not sent.
    Missed(Missed),
    /// It was sent beside its slots, because somebody wanted a run.
    Asked {
        /// The id of the task.
        id: TaskId,
    },
}

impl History {
    /// The events, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.0
    }

    /// Adds an event. One that is there already was written by a beat that died before it could say so. Slots
    /// that were missed in a row for one reason become one event.
    pub(super) fn add(&mut self, event: Event) {
        if self.0.iter().rev().any(|earlier| earlier.what.is_about_the_same(&event.what)) {
            return;
        }
        if let (Some(Event { what: What::Missed(last), at, .. }), What::Missed(next)) = (self.0.last_mut(), &event.what)
            && last.why == next.why
            && last.last < next.first
        {
            last.last = next.last;
            last.count += next.count;
            last.is_more |= next.is_more;
            *at = event.at;
            return;
        }
        self.0.push(event);
        let old = self.0.len().saturating_sub(EVENTS_MAX);
        self.0.drain(..old);
    }
}

impl What {
    fn is_about_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fired { slot, .. }, Self::Fired { slot: other, .. }) => slot == other,
            (Self::Missed(one), Self::Missed(other)) => one.why == other.why && one.last == other.last,
            (Self::Asked { id }, Self::Asked { id: other }) => id == other,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::due::Why;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    fn event(what: What) -> Event {
        Event { at: at(0), by: "b".to_owned(), what }
    }

    fn fired(slot: i64) -> Event {
        event(What::Fired { slot: at(slot), late_ms: 1, again: false })
    }

    fn missed(first: i64, last: i64, why: Why) -> Event {
        let count = u64::try_from(last - first + 1).expect("not negative");
        event(What::Missed(Missed { first: at(first), last: at(last), count, is_more: false, why }))
    }

    #[test]
    fn events_are_bounded_and_each_is_there_once() {
        let mut history = History::default();
        for slot in 0..250 {
            history.add(fired(slot));
            history.add(fired(slot));
        }
        assert_eq!(history.events().len(), EVENTS_MAX);
        assert_eq!((history.0.first(), history.0.last()), (Some(&fired(150)), Some(&fired(249))));
    }

    #[test]
    fn what_is_missed_in_a_row_is_one_event() {
        let mut history = History::default();
        for event in [fired(1), missed(2, 3, Why::Running), missed(4, 4, Why::Running), missed(4, 4, Why::Running)] {
            history.add(event);
        }
        history.add(missed(5, 5, Why::Late));
        assert_eq!(history.events(), [fired(1), missed(2, 4, Why::Running), missed(5, 5, Why::Late)]);
    }

    #[test]
    fn an_event_is_one_flat_object() {
        let text = serde_json::to_value(missed(2, 3, Why::Running)).expect("it is plain data");
        let expected = serde_json::json!({
            "at": "1970-01-01T00:00:00Z", "by": "b", "event": "missed", "first": "1970-01-01T00:00:02Z",
            "last": "1970-01-01T00:00:03Z", "count": 2, "is_more": false, "why": "running"
        });
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_value::<Event>(expected).expect("the same"), missed(2, 3, Why::Running));
    }
}
