//! Jitter: slots that are due a little after their time, so that not all tasks are sent at once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use taskq::internal::hash::unit_interval;

use crate::entry::Entry;

/// Returns the moment at which a slot of an entry is due: up to `jitter` after its time, and before the next slot.
///
/// The moment is derived from the name of the entry and the slot, not from a random generator: every beat computes the
/// same.
pub(super) fn due_at(entry: &Entry, slot: DateTime<Utc>) -> DateTime<Utc> {
    if entry.jitter == Duration::ZERO {
        return slot;
    }
    let jitter = TimeDelta::from_std(entry.jitter).unwrap_or(TimeDelta::MAX);
    // Bounded by the next slot, so that slots are due in order.
    let room = entry.schedule.next_after(slot).map_or(jitter, |next| jitter.min(next - slot));
    let drawn =
        room.num_milliseconds() as f64 * unit_interval(entry.name.bytes().chain(slot.timestamp_millis().to_le_bytes()));
    slot + TimeDelta::milliseconds(drawn as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Origin;
    use crate::schedule::Schedule;

    #[test]
    fn jitter_is_the_same_everywhere_and_spreads() {
        let schedule = Schedule::cron("0 9 * * *", "UTC").expect("a line");
        let slot = "2026-01-01T09:00:00Z".parse().expect("a moment");
        let due = |name: String, jitter: u64| {
            let jitter = Duration::from_secs(jitter);
            due_at(&Entry { jitter, ..Entry::new(name, "t", schedule.clone(), Origin::RunTime) }, slot)
        };
        assert_eq!(due("nightly".to_owned(), 0), slot);
        // Beats of all versions have to agree: this value must never change.
        assert_eq!(due("nightly".to_owned(), 600).to_string(), "2026-01-01 09:06:05.365 UTC");
        let mut late: Vec<f64> =
            (0..1000).map(|n| (due(format!("entry-{n}"), 1000) - slot).num_milliseconds() as f64 / 1e6).collect();
        late.sort_by(f64::total_cmp);
        for (rank, fraction) in late.iter().enumerate() {
            assert!((fraction - rank as f64 / 1000.0).abs() < 0.06, "rank {rank} is {fraction}");
        }
    }

    #[test]
    fn no_slot_is_due_after_the_next() {
        let jitter = Duration::from_secs(86_400);
        let schedule = Schedule::cron("*/5 * * * *", "UTC").expect("a line");
        let entry = Entry { jitter, ..Entry::new("often", "t", schedule, Origin::RunTime) };
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().expect("a moment");
        for slot in entry.schedule.slots_between(start, start + TimeDelta::days(2), 500) {
            let due = due_at(&entry, slot);
            assert!(slot <= due && due < slot + TimeDelta::minutes(5), "{slot} is due at {due}");
        }
    }
}
