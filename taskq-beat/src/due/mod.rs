//! The decision about an entry at a moment. Pure: values in, values out.
//!
//! [`due`] takes an entry, the slots that have been handled, and the time of the clock, and returns the slots to fire,
//! those that were missed and why, and when to look again. Time is UTC throughout; changes to and from summer time are
//! handled by the schedule and never seen here.
//!
//! **Clocks.** The decision rests on which slots have been handled, not on how much time has passed. A clock that jumps
//! forward makes slots late, and they are treated as after an outage: by the misfire policy of the entry, so there is
//! no flood. A clock that jumps back shows times whose slots were handled before: those are not fired again, but slots
//! that were left open ([`Handled`]) are. An entry with slots at equal distances goes on with later slots meanwhile
//! ([`timeline`]). The caller waits by a monotonic timer, looks at the clock in between, and asks about all entries
//! again when the clock was moved.
//!
//! ```
//! use chrono::{DateTime, TimeDelta, Utc};
//! use taskq_beat::entry::{Entry, Origin};
//! use taskq_beat::internal::due::{Handled, due};
//!
//! # fn main() -> Result<(), taskq_beat::entry::Mistakes> {
//! let description = serde_json::json!({ "task": "reports.nightly", "cron": "0 2 * * *", "tz": "Europe/Berlin" });
//! let entry = Entry::read("nightly", &description, Origin::RunTime)?;
//!
//! let start: DateTime<Utc> = "2026-03-28T12:00:00Z".parse().expect("a moment");
//! let decision = due(&entry, &Handled::since(start), start, false);
//! let wake = decision.wake.expect("there is a next night");
//! assert_eq!(wake.to_string(), "2026-03-29 01:00:00 UTC"); // 02:00 is skipped in this night
//!
//! let decision = due(&entry, &decision.handled, wake + TimeDelta::seconds(1), false);
//! assert_eq!(decision.fire[0].id.as_str(), "nightly@2026-03-29T01:00:00Z");
//! # Ok(())
//! # }
//! ```

mod decide;
mod decision;
mod handled;
mod jitter;
#[cfg(test)]
mod tests;
mod timeline;

pub use self::decide::due;
pub(crate) use self::decide::given_up;
pub use self::decision::{Decision, Firing, MissReason, Missed};
pub use self::handled::Handled;
