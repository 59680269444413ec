//! Removal of entries that were added at run time and have no further slot, a day after their last: a program that adds
//! an entry for each reminder must not fill the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use taskq::backend::BackendError;
use taskq::internal::clock::Clock;

use crate::entry::Entry;
use crate::leader::Lease;
use crate::schedule::Schedule;
use crate::store::{Facts, Pause, Store};

/// The time for which an entry is kept after its slot, so that it can still be seen.
const KEPT_FOR: TimeDelta = TimeDelta::days(1);

/// The time between two looks for such entries.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Removes expired entries from time to time, while the lease is trusted.
pub(super) async fn keep_removing(store: Store, lease: Arc<Lease>, clock: Clock) {
    loop {
        if lease.is_trusted()
            && let Err(error) = remove_expired(&store, clock.now()).await
        {
            // The keeper of the lease logs that the store is away, and the removal is not urgent.
            tracing::debug!(%error, "beat: expired entries could not be removed");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Removes the entries that have expired by `now`.
async fn remove_expired(store: &Store, now: DateTime<Utc>) -> Result<(), BackendError> {
    let facts: HashMap<String, Facts> = store.facts().await?.into_iter().collect();
    for (name, entry_override) in store.overrides().await? {
        let Some(added) = entry_override.added else { continue };
        // An entry with mistakes is left for people to correct.
        let Ok(entry) = added.read(&name) else { continue };
        if has_expired(&entry, added.at, entry_override.pause, facts.get(&name), now)
            && store.retire(&name, &added).await?
        {
            tracing::info!(entry = name, "beat: an entry whose only slot was a day ago is removed");
        }
    }
    Ok(())
}

/// Whether the only slot of an entry was handled a day ago, or lies before the entry began.
fn has_expired(
    entry: &Entry,
    added: DateTime<Utc>,
    pause: Option<Pause>,
    facts: Option<&Facts>,
    now: DateTime<Utc>,
) -> bool {
    let Schedule::Once(once) = &entry.schedule else { return false };
    let slot = once.at();
    let begins = pause.filter(|pause| !pause.is_on).map_or(added, |pause| pause.at.max(added));
    let is_handled = match facts {
        Some(facts) => facts.pending.is_empty() && facts.handled.until().is_some_and(|until| until >= slot),
        None => slot <= begins,
    };
    let sent = facts.and_then(|facts| facts.last.as_ref()).map_or(slot, |last| last.at);
    is_handled && slot.max(begins).max(sent) + KEPT_FOR <= now
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;

    use super::*;
    use crate::due::Handled;
    use crate::entry::Origin;
    use crate::store::{Fired, Pending};

    #[test]
    fn an_expired_entry_was_handled_a_day_ago() {
        let at = |hours: i64| DateTime::from_timestamp(hours * 3600, 0).expect("a moment");
        let once = Entry::new("o", "t", Schedule::once(at(10)), Origin::RunTime);
        let until = |hours| Facts::new(Handled::since(at(hours)));
        let fired = |hours| Fired { slot: at(10), at: at(hours), late_ms: 0, id: TaskId::new() };
        let sent = |hours| Facts { last: Some(fired(hours)), ..until(10) };
        let pending = Facts { pending: vec![Pending { slot: at(10), due: at(10), expires: None }], ..until(10) };
        for (what, added, facts, now, expected) in [
            ("its slot is to come", 1, None, 9, false),
            ("it has just been sent", 1, Some(until(10)), 33, false),
            ("it was sent a day ago", 1, Some(until(10)), 34, true),
            ("it has not been handled", 1, Some(until(9)), 99, false),
            ("nothing is known of it", 1, None, 99, false),
            ("it is being sent", 1, Some(pending), 99, false),
            ("it was added too late, an hour ago", 33, None, 34, false),
            ("it was added too late, a day ago", 33, None, 57, true),
            ("it was sent late, an hour ago", 1, Some(sent(50)), 51, false),
            ("it was sent late, a day ago", 1, Some(sent(50)), 74, true),
        ] {
            assert_eq!(has_expired(&once, at(added), None, facts.as_ref(), at(now)), expected, "{what}");
        }
        let pause = |is_on| Some(Pause { is_on, at: at(20), from: None });
        for (what, is_on, now, expected) in [
            ("it is paused over its slot", true, 99, false),
            ("it was paused over its slot, and resumed an hour ago", false, 21, false),
            ("it was resumed a day ago", false, 44, true),
        ] {
            assert_eq!(has_expired(&once, at(1), pause(is_on), None, at(now)), expected, "{what}");
        }
        let daily = Schedule::cron("0 10 * * *", "UTC").expect("a line");
        assert!(!has_expired(&Entry { schedule: daily, ..once }, at(1), None, Some(&until(10)), at(99)));
    }
}
