//! Cron lines and moments: each is read, or refused with a reason; its slots rise, and its words name something.
//!
//! Input: the name of a time zone, a line break, and the text.

#![no_main]

use chrono::{DateTime, TimeDelta, Utc};
use libfuzzer_sys::fuzz_target;
use taskq_beat::schedule::Schedule;

const SLOTS_MAX: usize = 200;

fuzz_target!(|input: &str| {
    let Some((tz, text)) = input.split_once('\n') else { return };
    match Schedule::cron(text, tz) {
        Ok(schedule) => {
            let Schedule::Cron(cron) = &schedule else { panic!("it is a cron line") };
            let again = Schedule::cron(cron.line(), cron.tz().name()).expect("the normal form is a line as well");
            assert_eq!((&again, again.describe()), (&schedule, schedule.describe()));
            check(&schedule);
        }
        Err(error) => assert!(error.to_string().len() > 10),
    }
    for tz in [None, Some(tz)] {
        match Schedule::once_at(text, tz) {
            Ok(schedule) => check(&schedule),
            Err(error) => assert!(error.to_string().len() > 10),
        }
    }
});

fn check(schedule: &Schedule) {
    let words = schedule.describe();
    assert!(words.len() > 5 && !words.contains("  ") && !words.ends_with(' '), "{words:?}");
    // A day with a change of the clock in Europe, one with a change elsewhere, a leap day, and the ends of time.
    for from in ["2026-03-28T12:00:00Z", "2026-04-04T13:00:00.5Z", "2028-02-28T23:59:59Z", "2100-12-31T00:00:00Z"]
        .map(|text| text.parse().expect("a moment"))
        .into_iter()
        .chain([DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC])
    {
        let next = schedule.next_after(from);
        assert!(next.is_none_or(|slot| slot > from), "{next:?} is not after {from}");
        let Some(to) = from.checked_add_signed(TimeDelta::hours(36)) else { continue };
        let slots = schedule.slots_between(from, to, SLOTS_MAX);
        assert!(slots.is_sorted_by(|one, two| one < two) && slots.iter().all(|slot| from < *slot && *slot <= to));
        if slots.len() < SLOTS_MAX {
            assert_eq!(schedule.last_between(from, to), slots.last().copied());
            assert_eq!(schedule.count_between(from, to, 1000), slots.len() as u64);
        }
    }
}
