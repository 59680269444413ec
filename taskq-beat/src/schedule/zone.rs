//! Conversion between the local time of a zone and UTC, across clock changes.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// A bound on the offset of every zone from UTC, and on every clock change.
const CHANGE_MAX: TimeDelta = TimeDelta::hours(26);

/// The moments at which a clock shows a local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// One moment, as on almost all days.
    Once(DateTime<Utc>),
    /// Two moments: the clock is put back, and shows the time again.
    Twice(DateTime<Utc>, DateTime<Utc>),
    /// No moment: the clock is put forward past the time. The value is the first moment after the change.
    Skipped(DateTime<Utc>),
}

/// A stretch of local time that the clock shows twice, seen from one of its two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeat {
    /// Whether the stretch is seen from its second half.
    pub(super) is_second: bool,
    /// The moment at which the clock is put back.
    pub(super) change: DateTime<Utc>,
    /// The local time after the change: the beginning of the repeated stretch.
    pub(super) begins: NaiveDateTime,
    /// The local time that the clock would have shown without the change: the end of the repeated stretch, exclusive.
    pub(super) ends: NaiveDateTime,
}

/// Returns the local time at a moment.
pub(super) fn civil(tz: Tz, moment: DateTime<Utc>) -> NaiveDateTime {
    moment.with_timezone(&tz).naive_local()
}

/// Returns the moments at which the clock shows the local time `civil`.
pub(super) fn moment(tz: Tz, civil: NaiveDateTime) -> Moment {
    match tz.from_local_datetime(&civil) {
        MappedLocalTime::Single(moment) => Moment::Once(moment.to_utc()),
        MappedLocalTime::Ambiguous(first, second) => Moment::Twice(first.to_utc(), second.to_utc()),
        MappedLocalTime::None => {
            let about = civil.and_utc();
            let is_past = |moment: DateTime<Utc>| self::civil(tz, moment) > civil;
            Moment::Skipped(first_where(about - CHANGE_MAX, about + CHANGE_MAX, is_past))
        }
    }
}

/// Returns the repeated stretch that contains `at`, if there is one.
pub(super) fn repeat_at(tz: Tz, at: DateTime<Utc>) -> Option<Repeat> {
    let shown = civil(tz, at);
    let Moment::Twice(first, second) = moment(tz, shown) else { return None };
    let offset = |moment: DateTime<Utc>| tz.offset_from_utc_datetime(&moment.naive_utc()).fix();
    let before = offset(first);
    let change = first_where(whole(first), whole(second), |moment| offset(moment) != before);
    let begins = civil(tz, change);
    Some(Repeat { is_second: at >= change, change, begins, ends: begins + (second - first) })
}

/// Rounds a moment down to the second.
fn whole(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment - TimeDelta::nanoseconds(i64::from(moment.timestamp_subsec_nanos()))
}

/// Returns the first whole second after `low` at which `holds` is true. The predicate must be false at `low`, true at
/// `high`, and change only once in between.
fn first_where(low: DateTime<Utc>, high: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    let at = |second| DateTime::from_timestamp(second, 0).expect("it lies between two moments");
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if holds(at(middle)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    at(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect(text)
    }

    fn shown(text: &str) -> NaiveDateTime {
        text.parse().expect(text)
    }

    #[test]
    fn moments_around_changes() {
        use chrono_tz::Tz::{
            Africa__Casablanca, America__Sao_Paulo, Australia__Lord_Howe, Europe__Berlin, Pacific__Apia,
        };
        for (tz, civil, expected) in [
            (Europe__Berlin, "2026-03-29T01:59:59", Moment::Once(at("2026-03-29T00:59:59Z"))),
            (Europe__Berlin, "2026-03-29T02:30:00", Moment::Skipped(at("2026-03-29T01:00:00Z"))),
            (Europe__Berlin, "2026-03-29T03:00:00", Moment::Once(at("2026-03-29T01:00:00Z"))),
            (
                Europe__Berlin,
                "2026-10-25T02:00:00",
                Moment::Twice(at("2026-10-25T00:00:00Z"), at("2026-10-25T01:00:00Z")),
            ),
            (Europe__Berlin, "2026-10-25T03:00:00", Moment::Once(at("2026-10-25T02:00:00Z"))),
            (Australia__Lord_Howe, "2026-10-04T02:10:00", Moment::Skipped(at("2026-10-03T15:30:00Z"))),
            (
                Australia__Lord_Howe,
                "2026-04-05T01:45:00",
                Moment::Twice(at("2026-04-04T14:45:00Z"), at("2026-04-04T15:15:00Z")),
            ),
            (America__Sao_Paulo, "2018-11-04T00:30:00", Moment::Skipped(at("2018-11-04T03:00:00Z"))),
            (Africa__Casablanca, "2026-03-22T02:30:00", Moment::Skipped(at("2026-03-22T02:00:00Z"))),
            (Pacific__Apia, "2011-12-30T12:00:00", Moment::Skipped(at("2011-12-30T10:00:00Z"))),
        ] {
            assert_eq!(moment(tz, shown(civil)), expected, "{civil} in {tz}");
        }
    }

    #[test]
    fn a_repeat_is_seen_from_both_halves() {
        let tz = Tz::Australia__Lord_Howe;
        for (moment, is_second) in [("2026-04-04T14:30:00Z", false), ("2026-04-04T14:59:59.5Z", false)]
            .into_iter()
            .chain([("2026-04-04T15:00:00Z", true), ("2026-04-04T15:29:59.9Z", true)])
        {
            let repeat = Repeat {
                is_second,
                change: at("2026-04-04T15:00:00Z"),
                begins: shown("2026-04-05T01:30:00"),
                ends: shown("2026-04-05T02:00:00"),
            };
            assert_eq!(repeat_at(tz, at(moment)), Some(repeat), "{moment}");
        }
        assert_eq!(repeat_at(tz, at("2026-04-04T14:29:59Z")), None);
        assert_eq!(repeat_at(tz, at("2026-04-04T15:30:00Z")), None);
    }
}
