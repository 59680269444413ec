//! The decision about an entry at a moment: which slots to fire, and which were missed.

use chrono::{DateTime, TimeDelta, Utc};

use super::decision::{Decision, Firing, MissReason, Missed};
use super::handled::Handled;
use super::jitter::due_at;
use super::timeline::Timeline;
use crate::entry::{Entry, Misfire, Overlap};
use crate::schedule::Schedule;

/// The lateness up to which the newest slot does not count as missed. A change of the leader takes less.
const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// Decides which slots of `entry` to fire at `now`, given the slots that have been handled.
///
/// `is_running` tells whether the previous run is unfinished; it matters for entries with `overlap = "skip"` only.
pub fn due(entry: &Entry, handled: &Handled, now: DateTime<Utc>, is_running: bool) -> Decision {
    let mut decision = Decision { fire: Vec::new(), missed: Vec::new(), handled: handled.clone(), wake: None };
    if !entry.enabled {
        return decision;
    }
    let timeline = Timeline::of(entry, &mut decision.handled, now);
    let from = timeline.from;
    let Some((first, newest)) = due_slots(entry, from, timeline.now) else {
        decision.wake = wake(entry, &decision.handled, timeline);
        return decision;
    };
    let wanted = wanted(entry, from, newest, timeline.now);
    let begins = wanted.first().map_or(newest, |oldest| *oldest);
    let open_until = decision.pass_over(entry, from, first, begins, wanted.is_empty());
    let (expired, fresh): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .map(|slot| Firing::new(entry, slot, timeline.ahead, now))
        .partition(|firing| firing.expires.is_some_and(|expires| expires <= now));
    decision.miss(&expired, MissReason::Expired);
    if is_running && entry.overlap == Overlap::Skip {
        decision.miss(&fresh, MissReason::Running);
    } else {
        decision.fire = fresh;
    }
    match expired.last().map(|firing| firing.slot).or(open_until) {
        // Slots ahead of the clock are passed over for good: the clock has yet to show their time.
        Some(open_until) if timeline.ahead.is_zero() => decision.handled.close_after(now, open_until, newest),
        _ => decision.handled.close(now, newest),
    }
    decision.look_again(entry, now);
    decision
}

/// Returns the slots that were due when the entry was paused and had not been handled. The pause gives them up.
pub(crate) fn given_up(entry: &Entry, handled: &Handled, paused: DateTime<Utc>) -> Option<Missed> {
    let from = handled.until_at(paused)?;
    let (first, newest) = due_slots(entry, from, paused)?;
    Some(Missed::between(entry, from, first, newest, MissReason::Paused))
}

/// Returns the oldest and the newest slot after `from` that are due at `now`.
fn due_slots(entry: &Entry, from: DateTime<Utc>, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let is_due = |slot: &DateTime<Utc>| *slot <= now && due_at(entry, *slot) <= now;
    let first = entry.schedule.next_after(from).filter(is_due)?;
    // Almost always there is only one.
    let second = entry.schedule.next_after(first).filter(is_due);
    if second.is_none() {
        return Some((first, first));
    }
    let newest = entry.schedule.last_between(first, now).unwrap_or(first);
    let newest = Some(newest).filter(is_due).or_else(|| before(entry, first, newest));
    Some((first, newest.unwrap_or(first)))
}

/// Returns the slot before `slot`, if it is later than `from`.
fn before(entry: &Entry, from: DateTime<Utc>, slot: DateTime<Utc>) -> Option<DateTime<Utc>> {
    entry.schedule.last_between(from, slot - TimeDelta::nanoseconds(1))
}

/// Returns the slots after `from` that the misfire policy allows to fire, oldest first; `newest` is the last that is
/// due.
fn wanted(entry: &Entry, from: DateTime<Utc>, newest: DateTime<Utc>, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    match entry.misfire {
        Misfire::One => vec![newest],
        Misfire::Skip if now - due_at(entry, newest) <= ON_TIME => vec![newest],
        Misfire::Skip => Vec::new(),
        Misfire::All => {
            let older = std::iter::successors(Some(newest), |slot| before(entry, from, *slot));
            let mut slots: Vec<_> = older.take(entry.misfire_max as usize).collect();
            slots.reverse();
            slots
        }
    }
}

/// Returns the moment, by the clock, at which the next slot of a timeline is due that will not have been handled by
/// then.
fn wake(entry: &Entry, handled: &Handled, timeline: Timeline) -> Option<DateTime<Utc>> {
    let mut after = timeline.from;
    if let Schedule::Every(_) = entry.schedule {
        return entry.schedule.next_after(after).map(|slot| due_at(entry, slot) - timeline.ahead);
    }
    loop {
        let slot = entry.schedule.next_after(after)?;
        let due = due_at(entry, slot);
        match handled.until_at(due) {
            Some(until) if until >= slot => after = until,
            _ => return Some(due),
        }
    }
}

impl Decision {
    /// Sets when to look again.
    fn look_again(&mut self, entry: &Entry, now: DateTime<Utc>) {
        let timeline = Timeline::of(entry, &mut self.handled, now);
        self.wake = wake(entry, &self.handled, timeline);
    }

    /// Reports as missed the slots from `first` on that come before `begins`, the first wanted slot, or up to and
    /// including it if none is wanted. Returns the last of them.
    fn pass_over(
        &mut self,
        entry: &Entry,
        from: DateTime<Utc>,
        first: DateTime<Utc>,
        begins: DateTime<Utc>,
        none_is_wanted: bool,
    ) -> Option<DateTime<Utc>> {
        let last = if none_is_wanted { Some(begins) } else { before(entry, from, begins) }?;
        let reason = match entry.misfire {
            Misfire::Skip if none_is_wanted => MissReason::Late,
            Misfire::Skip | Misfire::One => MissReason::Passed,
            Misfire::All => MissReason::TooMany,
        };
        self.missed.push(Missed::between(entry, from, first, last, reason));
        Some(last)
    }

    /// Reports firings as missed.
    fn miss(&mut self, firings: &[Firing], reason: MissReason) {
        if let ([first, ..], [.., last]) = (firings, firings) {
            let count = firings.len() as u64;
            self.missed.push(Missed { first: first.slot, last: last.slot, count, is_more: false, reason });
        }
    }
}
