//! Which slots of an entry have been dealt with.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// So many stretches are told apart. More than a few only come of a clock that is moved again and again.
const STRETCHES_MAX: usize = 4;

/// Which slots of an entry have been dealt with, fired or not: stretches of time, in order.
///
/// One moment would do if clocks only went forward. When a clock is put forward by mistake, an hour of slots is missed; when
/// it is put right again, those slots come once more, and this time they can be fired. Slots that were fired must not be. So
/// the stretches that were missed are left open between those that were not, and while the clock shows a time in one of them,
/// beat goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handled(Vec<Stretch>);

/// Slots later than `after` and no later than `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    after: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// Where beat stands at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Slots after this moment are open.
    Open(DateTime<Utc>),
    /// All slots until this moment, which is still to come, have been dealt with.
    Ahead(DateTime<Utc>),
    /// It is earlier than anything that is known.
    Before,
}

impl Handled {
    /// Of an entry that is known since this moment: earlier slots are not its own.
    pub fn since(at: DateTime<Utc>) -> Self {
        Self(vec![Stretch { after: at, until: at }])
    }

    /// The newest moment that has been dealt with.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        self.0.last().map(|stretch| stretch.until)
    }

    /// The same, and nothing until `now` is open: for an entry that was paused and goes on, or has got another schedule.
    #[must_use]
    pub fn resumed(mut self, now: DateTime<Utc>) -> Self {
        self.close(now, now);
        self
    }

    pub(super) fn standing(&self, now: DateTime<Utc>) -> Standing {
        match self.at(now).map(|index| self.0[index]) {
            None => Standing::Before,
            Some(stretch) if stretch.until > now => Standing::Ahead(stretch.until),
            Some(stretch) => Standing::Open(stretch.until),
        }
    }

    /// Slots until `until` have been dealt with, from where beat stood at `now`.
    pub(super) fn close(&mut self, now: DateTime<Utc>, until: DateTime<Utc>) {
        match self.at(now) {
            Some(index) => self.0[index].until = self.0[index].until.max(until),
            None => self.0.insert(0, Stretch { after: until, until }),
        }
        self.join();
    }

    /// Slots after `after` and no later than `until` have been dealt with; those before them, from where beat stood at
    /// `now`, stay open in case that time comes again.
    pub(super) fn close_after(&mut self, now: DateTime<Utc>, after: DateTime<Utc>, until: DateTime<Utc>) {
        let index = self.at(now).map_or(0, |index| index + 1);
        self.0.insert(index, Stretch { after, until });
        self.join();
    }

    /// The newest stretch that has begun before `now`. A slot at the very beginning of a stretch is not in it, and is open
    /// as long as the clock shows no more.
    fn at(&self, now: DateTime<Utc>) -> Option<usize> {
        self.0.iter().rposition(|stretch| stretch.after < now)
    }

    /// Makes one of stretches that touch, and of the oldest where there are too many: an open slot is lost then, which is
    /// better than a second firing.
    fn join(&mut self) {
        let mut joined: Vec<Stretch> = Vec::with_capacity(self.0.len());
        for stretch in self.0.drain(..) {
            match joined.last_mut() {
                Some(last) if last.until >= stretch.after => last.until = last.until.max(stretch.until),
                _ => joined.push(stretch),
            }
        }
        while joined.len() > STRETCHES_MAX {
            let oldest = joined.remove(0);
            joined[0].after = oldest.after;
        }
        self.0 = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    fn stretches(handled: &Handled) -> Vec<(i64, i64)> {
        handled.0.iter().map(|stretch| (stretch.after.timestamp(), stretch.until.timestamp())).collect()
    }

    #[test]
    fn stretches_are_joined_and_bounded() {
        let mut handled = Handled::since(at(100));
        assert_eq!(handled.standing(at(101)), Standing::Open(at(100)));
        assert_eq!(handled.standing(at(100)), Standing::Before);
        handled.close(at(120), at(110));
        assert_eq!((handled.standing(at(105)), handled.until()), (Standing::Ahead(at(110)), Some(at(110))));
        // A hole, from 110 to 200.
        handled.close_after(at(220), at(200), at(210));
        assert_eq!(stretches(&handled), [(100, 110), (200, 210)]);
        assert_eq!(handled.standing(at(150)), Standing::Open(at(110)));
        assert_eq!(handled.standing(at(200)), Standing::Open(at(110)));
        assert_eq!(handled.standing(at(201)), Standing::Ahead(at(210)));
        // The time in the hole comes again.
        handled.close(at(150), at(145));
        assert_eq!(stretches(&handled), [(100, 145), (200, 210)]);
        handled.close(at(199), at(200));
        assert_eq!(stretches(&handled), [(100, 210)]);
        // A time before everything.
        handled.close(at(50), at(50));
        assert_eq!(stretches(&handled), [(50, 50), (100, 210)]);
        for start in [300, 400, 500] {
            handled.close_after(at(start + 50), at(start), at(start + 50));
        }
        assert_eq!(stretches(&handled), [(50, 210), (300, 350), (400, 450), (500, 550)]);
        assert_eq!(stretches(&handled.resumed(at(600)))[3], (500, 600));
    }

    #[test]
    fn it_is_kept_as_json() {
        let handled = Handled::since(at(0)).resumed(at(5));
        let text = serde_json::to_string(&handled).expect("it is plain");
        assert_eq!(text, r#"[{"after":"1970-01-01T00:00:00Z","until":"1970-01-01T00:00:05Z"}]"#);
        assert_eq!(serde_json::from_str::<Handled>(&text).expect("it was written"), handled);
    }
}
