//! When an entry has its slots: moments in time, each of which is to be fired once.
//!
//! A [`Schedule`] is a pure function of time, the same in every process that knows its text: [`Schedule::next_after`]
//! returns the first slot later than a given moment. Everything else (what is late, what was missed) is decided in
//! [`due`](crate::due) from the slots that have been handled.
//!
//! | file | content |
//! |---|---|
//! | `schedule` | [`Schedule`], one of the three kinds of schedule |
//! | `cron` | [`Cron`]: steps through the times that a cron line names |
//! | `field`, `fields` | parsing of one field, and of a whole cron line |
//! | `zone` | conversion between local time and UTC across clock changes |
//! | `every`, `once` | [`Every`], slots at equal distances; [`Once`], a single slot |
//! | `words` | schedules in English |
//! | `error` | [`ScheduleError`] |

mod cron;
mod error;
mod every;
mod field;
mod fields;
mod once;
#[expect(clippy::module_inception, reason = "the main type of a room stands in the file of its name")]
mod schedule;
#[cfg(test)]
mod tests;
mod words;
mod zone;

use chrono::TimeDelta;

pub use self::cron::Cron;
pub use self::error::ScheduleError;
pub use self::every::Every;
pub use self::once::Once;
pub use self::schedule::Schedule;

/// How far ahead a slot is searched for: 40 years, which is longer than weekdays and leap years take to come round. A
/// schedule without a slot within that time has no further slot.
const HORIZON: TimeDelta = TimeDelta::days(40 * 366);
