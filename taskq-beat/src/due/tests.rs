//! Slots fired, slots missed and why, and the promise that no slot is ever fired twice, whatever the clock does.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{Decision, Handled, MissReason, due};
use crate::entry::{Entry, Misfire, Origin, Overlap};
use crate::schedule::Schedule;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect(text)
}

/// Midnight, since when all entries here are known.
fn start() -> DateTime<Utc> {
    at("2026-01-01T00:00:00Z")
}

fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

fn every(seconds: u64) -> Entry {
    let schedule = Schedule::every(Duration::from_secs(seconds), DateTime::UNIX_EPOCH).expect("it is long enough");
    Entry::new("e", "t", schedule, Origin::RunTime)
}

/// Returns the slots to fire, in minutes from the start.
fn fired(decision: &Decision) -> Vec<i64> {
    decision.fire.iter().map(|firing| (firing.slot - start()).num_minutes()).collect()
}

/// Returns the missed slots: first and last in minutes from the start, count and reason.
fn missed(decision: &Decision) -> Vec<(i64, i64, u64, MissReason)> {
    let minute = |slot: DateTime<Utc>| (slot - start()).num_minutes();
    decision
        .missed
        .iter()
        .map(|missed| (minute(missed.first), minute(missed.last), missed.count, missed.reason))
        .collect()
}

#[test]
fn a_slot_is_fired_when_its_time_has_come() {
    let entry = every(600);
    let handled = Handled::since(start());
    let early = due(&entry, &handled, start() + minutes(9), false);
    assert_eq!((fired(&early), early.wake), (vec![], Some(start() + minutes(10))));
    assert_eq!(early.handled, handled);

    let now = start() + minutes(10) + TimeDelta::seconds(2);
    let decision = due(&entry, &handled, now, false);
    assert_eq!((fired(&decision), missed(&decision)), (vec![10], vec![]));
    let firing = &decision.fire[0];
    assert_eq!((firing.id.as_str(), firing.late), ("e@2026-01-01T00:10:00Z", TimeDelta::seconds(2)));
    assert_eq!((firing.due, firing.expires), (start() + minutes(10), None));
    assert_eq!(decision.wake, Some(start() + minutes(20)));

    // Until the decision is carried out it is the same; then there is nothing to do.
    assert_eq!(due(&entry, &handled, now, false), decision);
    let again = due(&entry, &decision.handled, now, false);
    assert_eq!((fired(&again), missed(&again), again.wake), (vec![], vec![], decision.wake));
}

#[test]
fn ten_slots_that_were_missed() {
    let skip = Entry { misfire: Misfire::Skip, ..every(600) };
    let all = Entry { misfire: Misfire::All, ..every(600) };
    let expires = Some(Duration::from_secs(1500));
    let cases = [
        ("skip", skip.clone(), 105, vec![], vec![(10, 100, 10, MissReason::Late)]),
        ("skip, but on time for the last", skip, 101, vec![100], vec![(10, 90, 9, MissReason::Passed)]),
        ("one", every(600), 105, vec![100], vec![(10, 90, 9, MissReason::Passed)]),
        ("all", all.clone(), 105, (1..=10).map(|n| n * 10).collect(), vec![]),
        (
            "all, bounded",
            Entry { misfire_max: 3, ..all.clone() },
            105,
            vec![80, 90, 100],
            vec![(10, 70, 7, MissReason::TooMany)],
        ),
        (
            "all, with an end",
            Entry { expires, ..all.clone() },
            105,
            vec![90, 100],
            vec![(10, 80, 8, MissReason::Expired)],
        ),
        (
            "all, bounded and with an end",
            Entry { expires, misfire_max: 4, ..all },
            105,
            vec![90, 100],
            vec![(10, 60, 6, MissReason::TooMany), (70, 80, 2, MissReason::Expired)],
        ),
        ("one, with an end", Entry { expires, ..every(3600) }, 100, vec![], vec![(60, 60, 1, MissReason::Expired)]),
    ];
    for (what, entry, now, expected_fired, expected_missed) in cases {
        let decision = due(&entry, &Handled::since(start()), start() + minutes(now), false);
        assert_eq!((fired(&decision), missed(&decision)), (expected_fired, expected_missed), "{what}");
        let again = due(&entry, &decision.handled, start() + minutes(now), false);
        assert!(again.fire.is_empty() && again.missed.is_empty(), "{what}: {again:?}");
    }
}

#[test]
fn a_year_of_seconds_is_counted_so_far_and_not_fired() {
    let cron = Schedule::cron("* * * * * *", "Europe/Berlin").expect("a line");
    for schedule in [cron, every(1).schedule] {
        let entry = Entry { misfire: Misfire::All, misfire_max: 2, ..Entry::new("e", "t", schedule, Origin::RunTime) };
        let now = start() + TimeDelta::days(365);
        let decision = due(&entry, &Handled::since(start()), now, false);
        let slots: Vec<_> = decision.fire.iter().map(|firing| firing.slot).collect();
        assert_eq!(slots, [now - TimeDelta::seconds(1), now]);
        let missed = &decision.missed[0];
        assert_eq!((missed.count, missed.is_more, missed.reason), (10_000, true, MissReason::TooMany));
        assert_eq!((missed.first, missed.last), (start() + TimeDelta::seconds(1), now - TimeDelta::seconds(2)));
    }
}

#[test]
fn a_run_that_is_not_over() {
    let entry = Entry { overlap: Overlap::Skip, ..every(600) };
    let now = start() + minutes(10);
    let decision = due(&entry, &Handled::since(start()), now, true);
    assert_eq!((fired(&decision), missed(&decision)), (vec![], vec![(10, 10, 1, MissReason::Running)]));
    // It is not made up for when the run is over.
    let next = due(&entry, &decision.handled, now + minutes(1), false);
    assert_eq!((fired(&next), next.wake), (vec![], Some(start() + minutes(20))));
    let allowed = due(&every(600), &Handled::since(start()), now, true);
    assert_eq!(fired(&allowed), [10]);
}

#[test]
fn pausing_and_going_on() {
    let paused = Entry { enabled: false, ..every(600) };
    let decision = due(&paused, &Handled::since(start()), start() + minutes(35), false);
    assert_eq!((fired(&decision), missed(&decision), decision.wake), (vec![], vec![], None));
    let handled = decision.handled.resumed(start() + minutes(35));
    let decision = due(&every(600), &handled, start() + minutes(41), false);
    assert_eq!((fired(&decision), missed(&decision)), (vec![40], vec![]));
}

#[test]
fn once_is_once() {
    let slot = start() + minutes(30);
    let entry = Entry { schedule: Schedule::once(slot), ..every(600) };
    let before = due(&entry, &Handled::since(start()), start(), false);
    assert_eq!((fired(&before), before.wake), (vec![], Some(slot)));
    let late = due(&entry, &before.handled, start() + minutes(500), false);
    assert_eq!((fired(&late), late.wake), (vec![30], None));
    assert_eq!(fired(&due(&entry, &late.handled, slot, false)), Vec::<i64>::new());
    // A moment before the entry was known is not a slot of the entry.
    let past = due(&entry, &Handled::since(slot), start() + minutes(500), false);
    assert_eq!((fired(&past), past.wake), (vec![], None));
}

/// A beat that looks at an entry every second, and never fires a slot twice.
struct Beat {
    entry: Entry,
    handled: Handled,
    fired: BTreeSet<DateTime<Utc>>,
}

impl Beat {
    fn new(entry: Entry) -> Self {
        Self { entry, handled: Handled::since(start()), fired: BTreeSet::new() }
    }

    /// Runs for so many seconds, with a clock that shows `from` first. Returns the number of slots fired.
    fn run(&mut self, from: DateTime<Utc>, seconds: i64) -> usize {
        let mut count = 0;
        for second in 0..seconds {
            let decision = due(&self.entry, &self.handled, from + TimeDelta::seconds(second), false);
            for firing in &decision.fire {
                assert!(self.fired.insert(firing.slot), "{} is fired twice", firing.slot);
            }
            count += decision.fire.len();
            self.handled = decision.handled;
        }
        count
    }
}

#[test]
fn a_clock_that_is_moved_by_an_hour() {
    let hour = TimeDelta::hours(1);
    for misfire in [Misfire::Skip, Misfire::One, Misfire::All] {
        let bound = if misfire == Misfire::All { 100 } else { 1 };
        let mut beat = Beat::new(Entry { misfire, ..every(1) });
        let mut now = start() + TimeDelta::seconds(1);
        assert_eq!(beat.run(now, 100), 100);
        // Forward: the slots passed over are fired as after an outage, and then the entry goes on.
        now += TimeDelta::seconds(100) + hour;
        assert_eq!(beat.run(now, 100), 99 + bound, "{misfire}");
        // And back: the slots that were passed over come again, those that were late meanwhile as after an outage.
        now += TimeDelta::seconds(100) - hour;
        let made_up = if misfire == Misfire::All { 99 } else { 0 };
        assert_eq!(beat.run(now, 50), 50 + made_up, "{misfire}");
        // Back once more, to before all of it: nothing was fired then, but for the last 100 seconds.
        now += TimeDelta::seconds(50) - hour;
        let decision = due(&beat.entry, &beat.handled, now, false);
        assert_eq!((decision.fire.len(), decision.wake), (0, Some(now + TimeDelta::seconds(1))));
        assert_eq!(beat.run(now, 50), 49, "{misfire}");
        // Back for a minute only, within slots that were fired already: the entry goes on with slots that were not
        // fired.
        now = start() + TimeDelta::seconds(60);
        assert!((40..=41).contains(&beat.run(now, 41)), "{misfire}");
    }
}

/// A clock that only goes back: slots at equal distances go on, ahead of the clock; slots of a cron line wait until it
/// has passed them.
#[test]
fn a_clock_that_is_put_back_for_good() {
    let hour = TimeDelta::hours(1);
    let mut known = Handled::since(start() - hour * 2);
    known.close(start(), start());
    let mut beat = Beat { handled: known, ..Beat::new(every(10)) };
    let before = start() + TimeDelta::seconds(100);
    assert_eq!(beat.run(start(), 101), 10);
    let decision = due(&beat.entry, &beat.handled, before - hour, false);
    assert_eq!(decision.wake, Some(before - hour + TimeDelta::seconds(10)));
    // The next leader goes on there, and not before the slot is due; it is late by that leader's own clock only.
    let kept = serde_json::to_string(&decision.handled).expect("it is plain");
    beat.handled = serde_json::from_str(&kept).expect("it was written");
    let decision = due(&beat.entry, &beat.handled, before - hour + TimeDelta::seconds(12), false);
    let firing = &decision.fire[0];
    assert_eq!((firing.slot, firing.due), (before + TimeDelta::seconds(10), before - hour + TimeDelta::seconds(10)));
    assert_eq!((decision.fire.len(), firing.late), (1, TimeDelta::seconds(2)));
    // Three quarters of an hour, of which every slot is fired; an outage of two minutes, which brings no more than one
    // at once; and on until long after the clock has caught up.
    assert_eq!(beat.run(before - hour, 2700), 269);
    assert_eq!(beat.run(before - minutes(13), 1), 1);
    assert_eq!(beat.run(before - minutes(13) + TimeDelta::seconds(1), 3600), 360);
    assert_eq!(beat.fired.len(), 10 + 269 + 1 + 360);
    let ahead = beat.handled.until().expect("some") - (before + minutes(47));
    assert!(ahead < minutes(59) && ahead > minutes(57), "two minutes less than an hour: {ahead}");
    // A machine whose clock is right takes over.
    assert_eq!(beat.run(before + minutes(47) + hour, 100), 10);
    assert_eq!(beat.handled.periods_ahead, 0);

    let cron = Schedule::cron("* * * * *", "UTC").expect("a line");
    let mut beat = Beat::new(Entry::new("c", "t", cron, Origin::RunTime));
    assert_eq!(beat.run(start(), 601), 10);
    assert_eq!(beat.run(start() + minutes(10) - hour, 3000), 49, "before it was known, it had fired none");
    assert_eq!(beat.run(start(), 661), 1, "ten are not fired again");
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let schedules = vec![
        Schedule::every(Duration::from_secs(60), DateTime::UNIX_EPOCH),
        Schedule::every(Duration::from_millis(45_500), start() + minutes(1)),
        Schedule::cron("*/7 * * * *", "Europe/Berlin"),
        Schedule::cron("0,1,30 */2 * * *", "Asia/Kolkata"),
        Ok(Schedule::once(start() + minutes(60))),
    ];
    let schedules: Vec<Schedule> = schedules.into_iter().map(|schedule| schedule.expect("it is one")).collect();
    let overlaps = prop::sample::select(Overlap::ALL);
    let expires = prop::sample::select(vec![None, Some(30), Some(600)]);
    let options =
        (prop::sample::select(Misfire::ALL), 1_u32..6, prop::sample::select(vec![0, 20, 7200]), expires, overlaps);
    (prop::sample::select(schedules), options).prop_map(
        |(schedule, (misfire, misfire_max, jitter, expires, overlap))| {
            let jitter = Duration::from_secs(jitter);
            let expires = expires.map(Duration::from_secs);
            let entry = Entry::new("any", "t", schedule, Origin::RunTime);
            Entry { expires, misfire, misfire_max, jitter, overlap, ..entry }
        },
    )
}

/// A strategy for looks at the clock: the milliseconds since the previous look, and whether the previous run is
/// unfinished.
fn any_clock(step: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<(i64, bool)>> {
    prop::collection::vec((step, any::<bool>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_slot_is_fired_twice_and_there_is_always_a_next(
        entry in any_entry(),
        clock in any_clock(prop_oneof![0_i64..90_000, 0_i64..4_000_000, Just(3_600_000), Just(-3_600_000), -90_000_i64..0]),
    ) {
        let (mut handled, mut now, mut fired) = (Handled::since(start()), start(), BTreeSet::new());
        for (step, is_running) in clock {
            now += TimeDelta::milliseconds(step);
            let decision = due(&entry, &handled, now, is_running);
            let bound = if entry.misfire == Misfire::All { entry.misfire_max as usize } else { 1 };
            prop_assert!(decision.fire.len() <= bound);
            for firing in &decision.fire {
                prop_assert!(firing.due <= now && firing.late == now - firing.due);
                let is_steady = matches!(entry.schedule, Schedule::Every(_));
                prop_assert!(is_steady || firing.slot <= firing.due);
                prop_assert!(firing.expires.is_none_or(|expires| expires > now));
                prop_assert!(fired.insert(firing.slot), "{} is fired twice", firing.slot);
            }
            let again = due(&entry, &decision.handled, now, is_running);
            prop_assert!(again.fire.is_empty() && again.missed.is_empty());
            prop_assert_eq!(&again.handled, &decision.handled);
            prop_assert_eq!(again.wake, decision.wake);
            if let Schedule::Every(every) = &entry.schedule {
                let period = TimeDelta::from_std(every.period()).expect("it is short");
                let begins = every.anchor().max(now);
                prop_assert!(decision.wake.is_some_and(|wake| wake < begins + period * 3), "it stands still");
            }
            if let Some(wake) = decision.wake {
                prop_assert!(wake > now);
                let then = due(&entry, &decision.handled, wake, false);
                prop_assert!(!then.fire.is_empty() || !then.missed.is_empty(), "woken at {} for nothing", wake);
                let just_before = due(&entry, &decision.handled, wake - TimeDelta::milliseconds(1), false);
                prop_assert!(just_before.fire.is_empty() && just_before.missed.is_empty(), "{} is late", wake);
            }
            handled = decision.handled;
        }
    }

    #[test]
    fn every_slot_is_fired_or_missed(entry in any_entry(), clock in any_clock(0_i64..4_000_000)) {
        let (mut handled, mut now, mut seen) = (Handled::since(start()), start(), Vec::new());
        for (step, is_running) in clock {
            now += TimeDelta::milliseconds(step);
            let decision = due(&entry, &handled, now, is_running);
            for missed in &decision.missed {
                let before = missed.first - TimeDelta::milliseconds(1);
                let slots = entry.schedule.slots_between(before, missed.last, 10_000);
                prop_assert_eq!((slots.first(), slots.last()), (Some(&missed.first), Some(&missed.last)));
                prop_assert_eq!(slots.len() as u64, missed.count);
                seen.extend(slots);
            }
            seen.extend(decision.fire.iter().map(|firing| firing.slot));
            handled = decision.handled;
        }
        let last = seen.last().copied().unwrap_or(start());
        prop_assert_eq!(seen, entry.schedule.slots_between(start(), last, 100_000));
        // What is left is not due yet.
        if let Some(next) = entry.schedule.next_after(last) {
            prop_assert!(due(&entry, &handled, now, false).fire.is_empty() && super::jitter::due_at(&entry, next) > now);
        }
    }
}
