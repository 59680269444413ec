//! The slots of an entry that have been handled.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// The largest number of stretches that are kept. More than a few only arise from a clock that is moved again and
/// again.
const STRETCHES_MAX: usize = 4;

/// The slots of an entry that have been handled, fired or not, as stretches of time in order.
///
/// A single moment would do if clocks only went forward. When a clock is put forward by mistake, an hour of slots is
/// missed; when it is corrected, those slots come once more, and this time they can be fired. Slots that were fired
/// must not be fired again. Therefore missed stretches are left open between the handled ones, and while the clock
/// shows a time in an open stretch, beat continues from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    stretches: Vec<Stretch>,
    /// The number of periods by which an entry with slots at equal distances is ahead of a clock that was put back.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) periods_ahead: u64,
}

/// Slots later than `after` and no later than `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    after: DateTime<Utc>,
    until: DateTime<Utc>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Handled {
    /// Returns the handled slots of an entry that is known since this moment: earlier slots are not its own.
    pub fn since(at: DateTime<Utc>) -> Self {
        Self { stretches: vec![Stretch { after: at, until: at }], periods_ahead: 0 }
    }

    /// Returns the newest moment that has been handled.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        self.stretches.last().map(|stretch| stretch.until)
    }

    /// Returns the handled slots with a new beginning at `now`, for an entry that is resumed after a pause or whose
    /// schedule has changed. The slots in between stay open only for a clock that shows their time once more.
    #[must_use]
    pub fn resumed(mut self, now: DateTime<Utc>) -> Self {
        self.close_after(now, now, now);
        self
    }

    /// Returns the end of the stretch in which beat stands at `now`, which may be still to come; `None` if `now` is
    /// earlier than everything that has been handled.
    pub(super) fn until_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.at(now).map(|index| self.stretches[index].until)
    }

    /// Returns the stretch after the one in which beat stands at `now`: its slots are later than the first moment and
    /// no later than the second.
    pub(super) fn next_stretch(&self, now: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let next = self.at(now).map_or(0, |index| index + 1);
        self.stretches.get(next).map(|stretch| (stretch.after, stretch.until))
    }

    /// Notes that all slots until `until` have been handled, continuing from where beat stood at `now`, or from `now`
    /// on if that is earlier than everything handled before.
    pub(super) fn close(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) {
        match self.at(now) {
            Some(index) => self.stretches[index].until = self.stretches[index].until.max(until),
            None => self.stretches.insert(0, Stretch { after: now - TimeDelta::nanoseconds(1), until }),
        }
        self.join();
    }

    /// Notes that slots after `after` and no later than `until` have been handled. The slots before them, from where
    /// beat stood at `now`, stay open in case their time comes again.
    pub(super) fn close_after(&mut self, now: DateTime<Utc>, after: DateTime<Utc>, until: DateTime<Utc>) {
        let index = self.at(now).map_or(0, |index| index + 1);
        self.stretches.insert(index, Stretch { after, until });
        self.join();
    }

    /// Returns the index of the newest stretch that begins before `now`. A slot at the very beginning of a stretch is
    /// outside of it, and open until the clock has passed it.
    fn at(&self, now: DateTime<Utc>) -> Option<usize> {
        self.stretches.iter().rposition(|stretch| stretch.after < now)
    }

    /// Joins stretches that touch, and the oldest ones if there are too many: an open slot is lost then, which is
    /// better than a second firing.
    fn join(&mut self) {
        let mut joined: Vec<Stretch> = Vec::with_capacity(self.stretches.len());
        for stretch in self.stretches.drain(..) {
            match joined.last_mut() {
                Some(last) if last.until >= stretch.after => last.until = last.until.max(stretch.until),
                _ => joined.push(stretch),
            }
        }
        while joined.len() > STRETCHES_MAX {
            let oldest = joined.remove(0);
            joined[0].after = oldest.after;
        }
        self.stretches = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    fn stretches(handled: &Handled) -> Vec<(i64, i64)> {
        handled.stretches.iter().map(|stretch| (stretch.after.timestamp(), stretch.until.timestamp())).collect()
    }

    #[test]
    fn stretches_are_joined_and_bounded() {
        let mut handled = Handled::since(at(100));
        assert_eq!(handled.until_at(at(101)), Some(at(100)));
        assert_eq!(handled.until_at(at(100)), None);
        handled.close(at(120), at(110));
        assert_eq!((handled.until_at(at(105)), handled.until()), (Some(at(110)), Some(at(110))));
        // A gap, from 110 to 200.
        handled.close_after(at(220), at(200), at(210));
        assert_eq!(stretches(&handled), [(100, 110), (200, 210)]);
        for (now, until, next) in [(150, 110, Some((200, 210))), (200, 110, Some((200, 210))), (201, 210, None)] {
            let next = next.map(|(after, until)| (at(after), at(until)));
            assert_eq!((handled.until_at(at(now)), handled.next_stretch(at(now))), (Some(at(until)), next), "{now}");
        }
        // The time in the gap comes again.
        handled.close(at(150), at(145));
        assert_eq!(stretches(&handled), [(100, 145), (200, 210)]);
        handled.close(at(199), at(200));
        assert_eq!(stretches(&handled), [(100, 210)]);
        // A time before everything.
        handled.close(at(50), at(50));
        assert_eq!(stretches(&handled), [(49, 50), (100, 210)]);
        assert_eq!(handled.until_at(at(50)), Some(at(50)));
        for start in [300, 400, 500] {
            handled.close_after(at(start + 50), at(start), at(start + 50));
        }
        assert_eq!(stretches(&handled), [(49, 210), (300, 350), (400, 450), (500, 550)]);
        assert_eq!(stretches(&handled.resumed(at(600))), [(49, 350), (400, 450), (500, 550), (600, 600)]);
    }

    #[test]
    fn it_is_kept_as_json() {
        let handled = Handled::since(at(0)).resumed(at(5));
        let text = serde_json::to_string(&handled).expect("it is plain");
        let stretch = |at: &str| format!(r#"{{"after":"1970-01-01T00:00:0{at}Z","until":"1970-01-01T00:00:0{at}Z"}}"#);
        assert_eq!(text, format!(r#"{{"stretches":[{},{}]}}"#, stretch("0"), stretch("5")));
        assert_eq!(serde_json::from_str::<Handled>(&text).expect("it was written"), handled);
    }
}
