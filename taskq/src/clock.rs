//! Sources of time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::io;

/// A source of wall-clock time: the system's clock, or a manual one that a test moves. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Clock(TimeSource);

#[derive(Debug, Clone, Default)]
enum TimeSource {
    #[default]
    System,
    Manual(Arc<Mutex<Manual>>),
}

type Action = Box<dyn FnOnce() + Send>;

/// A manual clock, which stands still until it is moved.
struct Manual {
    now: DateTime<Utc>,
    /// The actions to do, by their times; actions of one time in the order in which they were asked for.
    actions: BTreeMap<(DateTime<Utc>, u64), Action>,
    asked: u64,
}

impl Clock {
    /// Returns the system's clock.
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// Makes a clock that stands at `start` until it is moved.
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(TimeSource::Manual(Arc::new(Mutex::new(Manual { now: start, actions: BTreeMap::new(), asked: 0 }))))
    }

    /// Returns the current time.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            TimeSource::System => Utc::now(),
            TimeSource::Manual(manual) => lock(manual).now,
        }
    }

    /// Moves a manual clock forward (or back), and does the actions that are due by then. The system's clock stays as
    /// it is.
    ///
    /// # Panics
    ///
    /// If the result is beyond the range of dates, some 260,000 years from now.
    pub fn advance(&self, by: TimeDelta) {
        let TimeSource::Manual(manual) = &self.0 else { return };
        {
            let mut manual = lock(manual);
            manual.now = manual.now.checked_add_signed(by).expect("a clock is moved within what a calendar can show");
        }
        // Without the lock, since an action may ask for the time, or for another action.
        while let Some(action) = next_due(manual) {
            action();
        }
    }

    /// Does `action` once `delay` has passed by this clock: on the I/O thread, or, for a manual clock, inside the
    /// [`advance`](Self::advance) that gets there.
    pub fn after(&self, delay: Duration, action: impl FnOnce() + Send + 'static) {
        match &self.0 {
            TimeSource::System => {
                io::spawn(async move {
                    tokio::time::sleep(delay).await;
                    action();
                });
            }
            TimeSource::Manual(manual) => {
                let mut manual = lock(manual);
                let due = TimeDelta::from_std(delay).ok().and_then(|delay| manual.now.checked_add_signed(delay));
                manual.asked += 1;
                let key = (due.unwrap_or(DateTime::<Utc>::MAX_UTC), manual.asked);
                manual.actions.insert(key, Box::new(action));
            }
        }
    }
}

fn next_due(manual: &Mutex<Manual>) -> Option<Action> {
    let mut manual = lock(manual);
    let now = manual.now;
    let first = manual.actions.first_entry()?;
    (first.key().0 <= now).then(|| first.remove())
}

/// Locks a manual clock. No code panics while it holds this lock, so poisoning is ignored.
fn lock(manual: &Mutex<Manual>) -> MutexGuard<'_, Manual> {
    manual.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clocks that are moved together are equal, and so are all that show the system's time.
impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (TimeSource::System, TimeSource::System) => true,
            (TimeSource::Manual(one), TimeSource::Manual(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Clock {}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manual({}, {} to do)", self.now, self.actions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_done_when_its_time_has_come_and_in_order() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = Arc::clone(&done);
            move || done.lock().expect("no test panics with it").push(what)
        };
        clock.after(Duration::from_secs(20), note("at 20"));
        clock.after(Duration::from_secs(10), note("at 10"));
        clock.after(Duration::from_secs(10), note("at 10, second"));
        clock.after(Duration::MAX, note("never"));
        let (inner, again) = (clock.clone(), note("asked for at 10"));
        clock.after(Duration::from_secs(10), move || inner.after(Duration::from_secs(5), again));
        clock.advance(TimeDelta::seconds(9));
        assert!(done.lock().expect("alone").is_empty());
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(*done.lock().expect("alone"), ["at 10", "at 10, second"]);
        clock.advance(TimeDelta::days(1));
        assert_eq!(done.lock().expect("alone")[2..], ["asked for at 10", "at 20"]);
    }

    #[test]
    fn clocks_are_equal_if_they_are_one() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        assert_eq!(clock, clock.clone());
        assert_ne!(clock, Clock::manual(DateTime::UNIX_EPOCH));
        assert_ne!(clock, Clock::system());
        assert_eq!(Clock::system(), Clock::default());
    }
}
