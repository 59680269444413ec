//! Slots of cron lines against an oracle that the implementation does not use: `croner`, in more than 500 lines, in
//! zones with all kinds of changes of the clock, over three years. Around every change all slots are compared,
//! elsewhere samples.
//!
//! Where both differ on purpose, [`REASONS`] says how and why. The slots of the oracle are adjusted by exactly these
//! rules, and the result has to equal ours.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::CronParser;
use croner::{Cron, JobType};
use taskq_beat::schedule::Schedule;
use tokio::time::Instant;

/// Times of day, with seconds first, for both implementations.
const TIMES: [&str; 26] = [
    "0 0 0",
    "0 30 2",
    "0 0 3",
    "0 59 23",
    "0 45 1",
    "0 5 4",
    "0 12 12",
    "30 0 2",
    "15 45 0", // one a day
    "0 0 2,3",
    "0 0,30 2",
    "0 */10 2",
    "0 0 */2",
    "0 15 1-3",
    "0 */15 0-4",
    "0 7 */6",
    "0 29,31 1,2,3",
    "0 0 22-23",
    "*/20 30 0,2", // some hours
    "0 0 *",
    "0 30 *",
    "0 */5 *",
    "0 * *",
    "0 10-50/20 *",
    "0 */7 *",
    "*/30 15,45 *", // every hour
];

/// Days for our implementation and, where it lacks the form, for the oracle.
const DAYS: [(&str, &str); 24] = [
    ("* * *", ""),
    ("1 * *", ""),
    ("31 * *", ""),
    ("29 2 *", ""),
    ("L * *", ""),
    ("LW * *", ""),
    ("15,L * *", ""),
    ("25-31 3,10 *", ""),
    ("*/2 * *", ""),
    ("* 3-4,10-11 *", ""),
    ("? JAN,MAR,OCT,NOV ?", ""),
    ("* NOV-FEB *", "* 11,12,1,2 *"),
    ("* * MON-FRI", ""),
    ("* * SUN", ""),
    ("* * 7", ""),
    ("* * 0,6", ""),
    ("* * FRI-MON", "* * 5,6,0,1"),
    ("* * FRIL", ""),
    ("* * SUNL,TUE#2", ""),
    ("* * SUN#1", ""),
    ("13 * FRI", ""),
    ("1-7 * MON", ""),
    ("L 3,10 SUN", ""),
    ("*/10 * SUN", ""),
];

/// Zones, each with the first of three years that hold interesting clock changes.
const ZONES: [(&str, i32); 8] = [
    ("Europe/Berlin", 2024),       // an hour, at 02:00 and 03:00
    ("America/New_York", 2024),    // an hour, at 02:00
    ("Australia/Lord_Howe", 2024), // half an hour
    ("Africa/Casablanca", 2024),   // around Ramadan, back first
    ("Africa/Cairo", 2024),        // at midnight
    ("America/Sao_Paulo", 2016),   // at midnight, and given up in between
    ("Asia/Kolkata", 2024),        // none, half an hour from full ones
    ("UTC", 2024),                 // none
];

/// The zones without clock changes.
const CONSTANT: [&str; 2] = ["Asia/Kolkata", "UTC"];

/// A bound that is larger than the number of slots of any line around a change.
const SLOTS_MAX: usize = 1000;

/// An intended difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// A slot of ours alone: the first moment after a skipped stretch that has slots of the line.
    MadeUp,
    /// Slots of the oracle alone, in the second half of a repeated stretch.
    Repeated,
}

/// The intended differences and their reasons, all for lines that name hours, and more than one hour, minute or second.
const REASONS: [(Difference, &str); 2] = [
    (
        Difference::MadeUp,
        "the oracle takes them for intervals, and skipped slots are lost; to us every line that names hours means local \
         times, and skipped slots are made up for once",
    ),
    (
        Difference::Repeated,
        "the oracle takes them for intervals, and runs them through both halves of a repeated stretch; to us a local time \
         counts once",
    ),
];

/// A moment at which a clock is put forward or back.
struct Change {
    at: DateTime<Utc>,
    /// The distance by which it is put forward; negative if it is put back.
    by: TimeDelta,
}

fn start_of(year: i32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().expect("a moment")
}

fn changes(tz: Tz, first_year: i32) -> Vec<Change> {
    let offset = |at: DateTime<Utc>| tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let step = TimeDelta::minutes(15);
    let moments = std::iter::successors(Some(start_of(first_year)), |at| Some(*at + step));
    let moments = moments.take_while(|at| *at < start_of(first_year + 3));
    let by = |at: DateTime<Utc>| TimeDelta::seconds(i64::from(offset(at) - offset(at - step)));
    moments.map(|at| Change { at, by: by(at) }).filter(|change| !change.by.is_zero()).collect()
}

/// A line in a zone, as both implementations read it.
struct ComparedLine {
    text: String,
    ours: Schedule,
    oracle: Cron,
    tz: Tz,
    names_hours: bool,
}

impl ComparedLine {
    fn new(time: &str, days: (&str, &str), tz: Tz) -> Self {
        let text = format!("{time} {}", days.0);
        let ours = Schedule::cron(&text, tz.name()).unwrap_or_else(|error| panic!("{error}"));
        let theirs = format!("{time} {}", if days.1.is_empty() { days.0 } else { days.1 });
        // Where a field with a star and a step meets one that chooses, Vixie's cron wants both to fit, and so do we.
        // The oracle takes either, unless it is told.
        let both = days.0.starts_with("*/");
        let oracle = CronParser::builder().dom_and_dow(both).build().parse(&theirs);
        let oracle = oracle.unwrap_or_else(|error| panic!("{theirs}: {error}"));
        Self { names_hours: !time.ends_with(" *"), text, ours, oracle, tz }
    }

    /// Returns our slots after `from` and no later than `to`, at most `max`.
    fn ours(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> BTreeSet<DateTime<Utc>> {
        self.ours.slots_between(from, to, max).into_iter().collect()
    }

    /// Returns the oracle's slots after `from` and no later than `to`, at most `max`.
    fn theirs(&self, from: DateTime<Utc>, to: DateTime<Utc>, max: usize) -> BTreeSet<DateTime<Utc>> {
        let next = |at: DateTime<Utc>| {
            self.oracle.find_next_occurrence(&at.with_timezone(&self.tz), false).ok().map(|slot| slot.to_utc())
        };
        std::iter::successors(next(from), |slot| next(*slot)).take_while(|slot| *slot <= to).take(max).collect()
    }

    /// Returns the slots to expect of ours around a change: those of the oracle, adjusted by the intended differences.
    fn expected(
        &self,
        mut theirs: BTreeSet<DateTime<Utc>>,
        change: &Change,
        counts: &mut BTreeMap<Difference, usize>,
    ) -> BTreeSet<DateTime<Utc>> {
        if !self.names_hours || self.oracle.determine_job_type() == JobType::FixedTime {
            return theirs;
        }
        let before = theirs.len();
        theirs.retain(|slot| !(change.at..change.at - change.by).contains(slot));
        *counts.entry(Difference::Repeated).or_default() += before - theirs.len();
        // Local times that the clock skips: without clock changes, the oracle has slots there.
        let ends = change.at.with_timezone(&self.tz).naive_local().and_utc();
        let skipped = |slot: DateTime<Utc>| slot < ends && slot >= ends - change.by;
        let just_before = ends - change.by.max(TimeDelta::zero()) - TimeDelta::seconds(1);
        if self.oracle.find_next_occurrence(&just_before, false).is_ok_and(skipped) {
            let is_new = theirs.insert(change.at);
            *counts.entry(Difference::MadeUp).or_default() += usize::from(is_new);
        }
        theirs
    }

    fn assert_same(&self, ours: &BTreeSet<DateTime<Utc>>, expected: &BTreeSet<DateTime<Utc>>) {
        if let Some(slot) = ours.symmetric_difference(expected).next() {
            let whose = if ours.contains(slot) { "ours alone" } else { "missing in ours" };
            panic!("{:?} in {}: {} is {whose}", self.text, self.tz, slot.with_timezone(&self.tz));
        }
    }
}

#[test]
fn slots_are_those_of_an_oracle() {
    let started = Instant::now();
    let (mut lines, mut around_changes, mut samples) = (0, 0, 0);
    let mut counts = BTreeMap::new();
    for (zone, first_year) in ZONES {
        let tz: Tz = zone.parse().expect(zone);
        let changes = changes(tz, first_year);
        assert_eq!(changes.is_empty(), CONSTANT.contains(&zone), "{zone} has changes in these years");
        for (time, days) in TIMES.iter().flat_map(|time| DAYS.iter().map(move |days| (time, *days))) {
            let line = ComparedLine::new(time, days, tz);
            lines += 1;
            for change in &changes {
                // Whole days, where they do not hold hundreds of slots.
                let reach = if line.names_hours { TimeDelta::hours(26) } else { TimeDelta::minutes(185) };
                let (from, to) = (change.at - reach, change.at + reach);
                let ours = line.ours(from, to, SLOTS_MAX);
                let expected = line.expected(line.theirs(from, to, SLOTS_MAX), change, &mut counts);
                around_changes += expected.len();
                line.assert_same(&ours, &expected);
            }
            for month in (1..=36).step_by(4) {
                let from = start_of(first_year) + TimeDelta::days(i64::from(month) * 30);
                let is_far = |change: &Change| (change.at - from).abs() > TimeDelta::days(2);
                if changes.iter().all(is_far) {
                    let end = changes.iter().map(|change| change.at).filter(|at| *at > from).min();
                    let end = end.unwrap_or(DateTime::<Utc>::MAX_UTC) - TimeDelta::days(2);
                    let expected = line.theirs(from, end, 3);
                    samples += expected.len();
                    line.assert_same(&line.ours(from, end, 3), &expected);
                }
            }
        }
    }
    println!(
        "{lines} pairs of line and zone; {around_changes} slots around changes, {samples} samples elsewhere; {counts:?}"
    );
    println!("{:.1} s", started.elapsed().as_secs_f64());
    assert!(lines >= 500 * 5 && around_changes >= 100_000 && samples >= 50_000, "this test has become small");
    // A reason that nothing needs any more should go.
    for (difference, reason) in REASONS {
        assert!(counts.get(&difference).is_some_and(|count| *count > 0), "nothing differs by {difference:?}: {reason}");
    }
}
