//! Promises of schedules: the choice of days, clock changes, and slots that do not depend on the moment of the
//! question.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{Schedule, ScheduleError};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect(text)
}

/// Returns the first slots after `from`, as text in the zone.
fn slots(line: &str, tz: &str, from: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::cron(line, tz).expect(line);
    let zone: chrono_tz::Tz = tz.parse().expect(tz);
    let slots = schedule.slots_between(at(from), DateTime::<Utc>::MAX_UTC, count);
    slots.iter().map(|slot| slot.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %z").to_string()).collect()
}

#[test]
fn days_are_chosen_as_in_vixie_cron() {
    for (line, expected) in [
        ("0 9 * * 1", ["2026-01-05", "2026-01-12", "2026-01-19"]),
        ("0 9 * * 0", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 9 * * 7", ["2026-01-04", "2026-01-11", "2026-01-18"]),
        ("0 9 * * sat-mon", ["2026-01-03", "2026-01-04", "2026-01-05"]),
        ("0 9 * * FRI-MON", ["2026-01-02", "2026-01-03", "2026-01-04"]),
        // If both fields choose, one of them is enough.
        ("0 9 13 * FRI", ["2026-01-02", "2026-01-09", "2026-01-13"]),
        ("0 9 L * 2#1", ["2026-01-06", "2026-01-31", "2026-02-03"]),
        // One of them begins with a star, and only narrows.
        ("0 9 */15 * THU", ["2026-01-01", "2026-04-16", "2026-07-16"]),
        ("0 9 ? * 4", ["2026-01-01", "2026-01-08", "2026-01-15"]),
        ("0 9 L * *", ["2026-01-31", "2026-02-28", "2026-03-31"]),
        ("0 9 L 2 *", ["2026-02-28", "2027-02-28", "2028-02-29"]),
        ("0 9 LW * *", ["2026-01-30", "2026-02-27", "2026-03-31"]),
        ("0 9 LW 5 *", ["2026-05-29", "2027-05-31", "2028-05-31"]),
        ("0 9 * * 5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("0 9 * * friL,mon#2", ["2026-01-12", "2026-01-30", "2026-02-09"]),
        ("0 9 29 2 *", ["2028-02-29", "2032-02-29", "2036-02-29"]),
        ("0 9 31 * *", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ("0 9 * 2 5#5", ["2036-02-29", "2064-02-29", "2092-02-29"]),
    ] {
        let found = slots(line, "UTC", "2026-01-01T00:00:00Z", 3);
        assert_eq!(found, expected.map(|day| format!("{day} 09:00:00 +0000")), "{line}");
    }
}

#[test]
fn a_clock_that_is_put_forward() {
    let before = "2026-03-29T00:00:00Z"; // 01:00 in Berlin, an hour before the clock goes from 02:00 to 03:00
    for (line, expected) in [
        // Lines that name hours make up for skipped slots, once.
        ("30 2 * * *", ["03-29 03:00:00 +0200", "03-30 02:30:00 +0200"]),
        ("0,20,40 2 * * *", ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
        ("0 2,3 * * *", ["03-29 03:00:00 +0200", "03-30 02:00:00 +0200"]),
        ("30 2,3 * * *", ["03-29 03:00:00 +0200", "03-29 03:30:00 +0200"]),
        ("0 */2 * * *", ["03-29 03:00:00 +0200", "03-29 04:00:00 +0200"]),
        ("30 15 2 29,31 3 *", ["03-29 03:00:00 +0200", "03-31 02:15:30 +0200"]),
        ("0 3 * * *", ["03-29 03:00:00 +0200", "03-30 03:00:00 +0200"]),
        // Lines with slots in every hour go on counting.
        ("30 * * * *", ["03-29 01:30:00 +0100", "03-29 03:30:00 +0200"]),
        ("*/40 * * * *", ["03-29 01:40:00 +0100", "03-29 03:00:00 +0200"]),
        ("59 59 * * * *", ["03-29 01:59:59 +0100", "03-29 03:59:59 +0200"]),
    ] {
        assert_eq!(slots(line, "Europe/Berlin", before, 2), expected.map(|slot| format!("2026-{slot}")), "{line}");
    }
}

#[test]
fn a_clock_that_is_put_back() {
    let before = "2026-10-24T23:50:00Z"; // 01:50 in Berlin; the clock goes from 03:00 to 02:00
    for (line, expected) in [
        // Lines that name hours fire the first time.
        ("30 2 * * *", ["10-25 02:30:00 +0200", "10-26 02:30:00 +0100", "10-27 02:30:00 +0100"]),
        ("0,30 2 * * *", ["10-25 02:00:00 +0200", "10-25 02:30:00 +0200", "10-26 02:00:00 +0100"]),
        ("30 2,3 * * *", ["10-25 02:30:00 +0200", "10-25 03:30:00 +0100", "10-26 02:30:00 +0100"]),
        ("0 */2 * * *", ["10-25 02:00:00 +0200", "10-25 04:00:00 +0100", "10-25 06:00:00 +0100"]),
        // Lines with slots in every hour fire both times, in order.
        ("30 * * * *", ["10-25 02:30:00 +0200", "10-25 02:30:00 +0100", "10-25 03:30:00 +0100"]),
        ("*/40 * * * *", ["10-25 02:00:00 +0200", "10-25 02:40:00 +0200", "10-25 02:00:00 +0100"]),
        ("59 59 * * * *", ["10-25 01:59:59 +0200", "10-25 02:59:59 +0200", "10-25 02:59:59 +0100"]),
    ] {
        assert_eq!(slots(line, "Europe/Berlin", before, 3), expected.map(|slot| format!("2026-{slot}")), "{line}");
        // From the second half of the repeated hour, the same slots follow.
        let second_half = at("2026-10-25T01:10:00Z");
        let later = slots(line, "Europe/Berlin", "2026-10-25T01:10:00Z", 1);
        let all = slots(line, "Europe/Berlin", before, 8);
        let first = all.iter().find(|slot| {
            DateTime::parse_from_str(slot, "%Y-%m-%d %H:%M:%S %z").expect("it is one").to_utc() > second_half
        });
        assert_eq!(later.first(), first, "{line}");
    }
}

#[test]
fn half_hours_and_midnights() {
    let lord_howe = "Australia/Lord_Howe"; // 02:00 to 01:30 in April, 02:00 to 02:30 in October
    let found = slots("*/15 1-2 * * *", lord_howe, "2026-04-04T14:20:00Z", 4);
    assert_eq!(found[0], "2026-04-05 01:30:00 +1100");
    assert_eq!(found[1..], ["2026-04-05 01:45:00 +1100", "2026-04-05 02:00:00 +1030", "2026-04-05 02:15:00 +1030"]);
    let found = slots("*/15 * * * *", lord_howe, "2026-04-04T14:40:00Z", 4);
    assert_eq!(found[..2], ["2026-04-05 01:45:00 +1100", "2026-04-05 01:30:00 +1030"]);
    assert_eq!(found[2..], ["2026-04-05 01:45:00 +1030", "2026-04-05 02:00:00 +1030"]);
    assert_eq!(slots("10 2 * * *", lord_howe, "2026-10-03T14:00:00Z", 1), ["2026-10-04 02:30:00 +1100"]);
    // The clock went from 00:00 to 01:00.
    assert_eq!(slots("0 0 * * *", "America/Sao_Paulo", "2018-11-04T02:00:00Z", 1), ["2018-11-04 01:00:00 -0200"]);
    // A day that did not exist: its slots fire once, when it is over.
    assert_eq!(slots("0 9 30 12 *", "Pacific/Apia", "2011-12-29T00:00:00Z", 1), ["2011-12-31 00:00:00 +1400"]);
}

#[test]
fn a_line_that_never_comes_is_an_error_and_a_rare_slot_is_found() {
    for line in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 2 ?"] {
        let error = Schedule::cron(line, "UTC").expect_err(line).to_string();
        assert!(error.contains("names a day that never comes; \"L\""), "{line}: {error}");
    }
    assert_eq!(slots("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), Vec::<String>::new());
    let always = Schedule::cron("* * * * *", "Pacific/Kiritimati").expect("a line");
    for moment in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        assert_eq!(always.next_after(moment), None);
        assert_eq!(always.last_between(moment, moment), None);
    }
    assert_eq!(Schedule::once(at("2030-01-01T00:00:00Z")).next_after(at("2030-01-01T00:00:00Z")), None);
}

#[test]
fn a_hostile_schedule_is_refused_in_few_words_and_evaluated_nowhere() {
    let long = |part: &str, count: usize| part.repeat(count);
    let lines = [
        // Templates and expressions that other validators put into their answer and evaluate.
        "${7*191} * * * *".to_owned(),
        "{{7*191}} * * * *".to_owned(),
        "#{1.getClass()} * * * *".to_owned(),
        "{0} {line} * * *".to_owned(),
        "%s %n * * *".to_owned(),
        // Numbers, steps and ranges that overflow, or loop.
        "*/0 * * * *".to_owned(),
        "0-4294967296 * * * *".to_owned(),
        "5-99999999999999999999 * * * *".to_owned(),
        "*/18446744073709551616 * * * *".to_owned(),
        "-1 * * * *".to_owned(),
        "0 0 0 0 0".to_owned(),
        "0 0 1#4294967295 * *".to_owned(),
        "0 0 * * 5#0".to_owned(),
        "0 0 31W 2 *".to_owned(),
        // Commands, line ends, and signs that are not shown.
        "0 0 * * * root rm -rf /".to_owned(),
        "0 0 * * *\u{1b}[2J".to_owned(),
        "0\0 0 * * *".to_owned(),
        "\u{202e}0 0 * * *".to_owned(),
        "٣ 0 * * *".to_owned(),
        // Length, in each of its forms.
        long("1,", 1 << 20),
        long("* ", 1 << 20),
        long("9", 1 << 20),
        format!("{} * * * *", long("1-59/2,", 200)),
        format!("{} * * * *", long("é", 400)),
    ];
    for line in &lines {
        let error = Schedule::cron(line, "UTC").expect_err(line).to_string();
        assert!(error.len() < 5_000, "{} bytes of error", error.len());
        assert!(!error.contains("1337"), "{error}");
    }
    for name in ["../../etc/passwd", "", "${7*191}", &long("Europe/", 1 << 18)] {
        let error = Schedule::cron("0 0 * * *", name).expect_err("no zone").to_string();
        assert!(error.contains("there is no time zone") && error.len() < 500, "{error}");
    }
    let error = Schedule::once_at(&long("2030-", 1 << 18), None).expect_err("no moment").to_string();
    assert!(error.contains("is not a moment") && error.len() < 500, "{error}");
}

#[test]
fn zones_are_known_by_their_names() {
    for (name, nearest) in [
        ("Europe/Berlim", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("america/new york", "America/New_York"),
        ("", "CET"),
    ] {
        let error = Schedule::cron("0 9 * * *", name).expect_err(name);
        let ScheduleError::Zone { nearest: found, .. } = &error else { panic!("{name}: {error}") };
        assert!(name.is_empty() || *found == nearest, "{name}: {error}");
    }
}

#[test]
fn a_schedule_has_one_text() {
    let every = Schedule::every(Duration::from_secs(90), DateTime::UNIX_EPOCH).expect("it is long enough");
    let anchored = Schedule::every(Duration::from_secs(90), at("2026-01-01T00:00:00Z")).expect("it is long enough");
    for (schedule, text, words) in [
        (
            Schedule::cron("  0   9 * * mon-Fri ", "Europe/Berlin").expect("a line"),
            "cron 0 9 * * MON-FRI Europe/Berlin",
            "at 09:00 on weekdays, Europe/Berlin",
        ),
        (every, "every 1m 30s", "every 1 minute 30 seconds"),
        (anchored, "every 1m 30s from 2026-01-01T00:00:00Z", "every 1 minute 30 seconds from 2026-01-01T00:00:00Z on"),
        (Schedule::once(at("2030-01-31T08:00:00Z")), "once 2030-01-31T08:00:00Z", "once, at 2030-01-31 08:00:00 UTC"),
    ] {
        assert_eq!((schedule.to_string().as_str(), schedule.describe().as_str()), (text, words));
    }
    assert_eq!(
        Schedule::cron("0 9 * * mon", "UTC").expect("a line"),
        Schedule::cron(" 0 9  * * MON", "UTC").expect("a line")
    );
}

/// A strategy for schedules of all kinds.
fn any_schedule() -> impl Strategy<Value = Schedule> {
    let fields = (
        prop::sample::select(vec!["", "0 ", "30 ", "*/20 ", "* "]),
        prop::sample::select(vec!["0", "30", "59", "*", "*/5", "*/7", "10,50", "15-45/15", "58-2"]),
        prop::sample::select(vec!["0", "2", "3", "*", "*/2", "1-3", "0,12,23", "22-2"]),
        prop::sample::select(vec!["*", "?", "1", "L", "LW", "31", "1,L", "*/3", "25-31"]),
        prop::sample::select(vec!["*", "3", "10", "2", "3,10", "OCT-MAR"]),
        prop::sample::select(vec!["*", "?", "SUN", "MON-FRI", "FRI-MON", "7L", "SUN#2", "*/3"]),
    );
    let zones = vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Africa/Cairo",
        "America/Sao_Paulo",
        "Asia/Kolkata",
        "Pacific/Apia",
    ];
    let cron = (fields, prop::sample::select(zones)).prop_filter_map("it never comes", |(fields, zone)| {
        let (second, minute, hour, day, month, weekday) = fields;
        Schedule::cron(&format!("{second}{minute} {hour} {day} {month} {weekday}"), zone).ok()
    });
    let every = (1_000_u64..100_000_000, 0_i64..2_000_000_000).prop_map(|(period, anchor)| {
        let anchor = DateTime::from_timestamp(anchor, 0).expect("a moment");
        Schedule::every(Duration::from_millis(period), anchor).expect("it is long enough")
    });
    prop_oneof![4 => cron, 1 => every]
}

/// A strategy for moments from 2005 to 2036, every other one near a clock change.
fn any_moment() -> impl Strategy<Value = DateTime<Utc>> {
    let changes = prop::sample::select(vec![
        "2026-03-29T01:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-11-01T06:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-10-03T15:30:00Z",
        "2026-03-22T02:00:00Z",
        "2026-02-15T02:00:00Z",
        "2026-04-23T22:00:00Z",
        "2018-11-04T03:00:00Z",
        "2018-02-18T02:00:00Z",
        "2011-12-30T10:00:00Z",
    ]);
    let near = (changes, -14_400_000_i64..14_400_000).prop_map(|(change, ms)| at(change) + TimeDelta::milliseconds(ms));
    let anywhere = (1_104_537_600_i64..2_082_758_400).prop_map(|s| DateTime::from_timestamp(s, 0).expect("a moment"));
    prop_oneof![near, anywhere]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn slots_increase_and_are_the_same_from_everywhere(schedule in any_schedule(), from in any_moment()) {
        let Some(first) = schedule.next_after(from) else { return Ok(()) };
        prop_assert!(first > from);
        let slots = schedule.slots_between(from, DateTime::<Utc>::MAX_UTC, 12);
        prop_assert_eq!(slots.first(), Some(&first));
        let mut before = from;
        for slot in &slots {
            prop_assert!(*slot > before, "{schedule}: {before}, {slot}");
            // From anywhere between two slots the next is the same.
            let middle = before + (*slot - before) / 2;
            prop_assert_eq!(schedule.next_after(middle), Some(*slot), "{} from {}", schedule, middle);
            let just_before = (*slot - TimeDelta::seconds(1)).max(before);
            prop_assert_eq!(schedule.next_after(just_before), Some(*slot), "{} from {}", schedule, just_before);
            before = *slot;
        }
    }

    #[test]
    fn a_stretch_has_its_slots_its_last_and_their_number(
        schedule in any_schedule(), from in any_moment(), seconds in 0_i64..400_000,
    ) {
        let to = from + TimeDelta::seconds(seconds);
        let slots = schedule.slots_between(from, to, 3000);
        prop_assert!(slots.iter().all(|slot| *slot > from && *slot <= to));
        prop_assert_eq!(schedule.count_between(from, to, 3000), slots.len() as u64);
        prop_assert_eq!(schedule.slots_between(from, to, 5), &slots[..slots.len().min(5)]);
        if slots.len() < 3000 {
            prop_assert_eq!(schedule.last_between(from, to), slots.last().copied(), "{}", schedule);
        } else {
            let last = schedule.last_between(from, to).expect("there are many");
            prop_assert!(schedule.next_after(last).is_none_or(|next| next > to));
        }
    }
}
