//! The scheduler of taskq: what is to be sent, when, and what becomes of what was missed.
//!
//! Most of it decides, and does nothing: it takes values and gives values, and knows neither a broker nor a store nor a clock.
//!
//! * [`entry`]: what is to be sent, from the attributes of tasks, `taskq.toml` and run time, with every mistake and its mend
//! * [`schedule`]: when, as a function of time: cron lines in time zones, equal distances, single moments
//! * [`due`]: which slots of an entry are fired now, which were missed and why, and when to look again
//! * [`agenda`]: which of many entries is next
//!
//! The rest acts:
//!
//! * [`Beat`]: waits, fires, and stops
//! * [`leader`]: which of several beats it is that fires
//! * [`store`]: what they keep between them: facts, history, and what is added or paused at run time
//!
//! ```
//! use chrono::{DateTime, TimeDelta, Utc};
//! use taskq_beat::due::{Handled, due};
//! use taskq_beat::entry::{Entry, Origin};
//!
//! # fn main() -> Result<(), taskq_beat::entry::Mistakes> {
//! let description = serde_json::json!({ "task": "reports.nightly", "cron": "0 2 * * *", "tz": "Europe/Berlin" });
//! let entry = Entry::read("nightly", &description, Origin::RunTime)?;
//!
//! let start: DateTime<Utc> = "2026-03-28T12:00:00Z".parse().expect("a moment");
//! let decision = due(&entry, &Handled::since(start), start, false);
//! let wake = decision.wake.expect("there is a next night");
//! assert_eq!(wake.to_string(), "2026-03-29 01:00:00 UTC"); // 02:00 is skipped in this night; 03:00 is the next there is
//!
//! let decision = due(&entry, &decision.handled, wake + TimeDelta::seconds(1), false);
//! assert_eq!(decision.fire[0].id.as_str(), "nightly@2026-03-29T01:00:00Z");
//! # Ok(())
//! # }
//! ```

pub mod agenda;
pub mod beat;
pub mod due;
pub mod entry;
pub mod leader;
pub mod schedule;
pub mod store;

pub use beat::{Beat, BeatBuilder, BeatControl, BeatError, BeatStatus, BeatSummary};
