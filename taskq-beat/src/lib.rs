//! The scheduler of taskq: sends periodic tasks at the slots of their schedules, and accounts for every slot that was
//! missed.
//!
//! A [`Beat`] runs in any number of processes. One of them is elected as the leader and sends the tasks; when it dies,
//! another takes over within eleven seconds. Programs usually run it by the command line of `taskq-worker` (`my-app
//! beat`), and embed it where they need to:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = taskq::Client::from_settings().await?;
//! let beat = taskq_beat::Beat::builder(client).build().await?;
//! let control = beat.control();
//! let running = tokio::spawn(beat.run());
//! // … and when the program ends:
//! control.stop();
//! println!("{} slots fired", running.await?.fired);
//! # Ok(())
//! # }
//! ```
//!
//! * [`entry`]: which task is sent, from the attributes of tasks, `taskq.toml` and run time, with every mistake and its
//!   remedy
//! * [`schedule`]: the slots, as a function of time: cron lines in time zones, equal distances, single moments
//! * [`store`]: the state that beats share: facts, history, and entries added or paused at run time
//!
//! An entry can be made from JSON while the program runs, and handed to the beats by [`Store::add`](store::Store::add):
//!
//! ```
//! use taskq_beat::entry::{Entry, Origin};
//!
//! # fn main() -> Result<(), taskq_beat::entry::Mistakes> {
//! let description = serde_json::json!({ "task": "reports.nightly", "cron": "0 2 * * *", "tz": "Europe/Berlin" });
//! let entry = Entry::read("nightly", &description, Origin::RunTime)?;
//! assert_eq!(entry.schedule.describe(), "at 02:00 every day, Europe/Berlin");
//!
//! let noon = "2026-03-28T12:00:00Z".parse().expect("a moment");
//! let slot = entry.schedule.next_after(noon).expect("there is a next night");
//! assert_eq!(slot.to_string(), "2026-03-29 01:00:00 UTC"); // 02:00 is skipped in this night
//! assert_eq!(entry.firing_id(slot).as_str(), "nightly@2026-03-29T01:00:00Z");
//! # Ok(())
//! # }
//! ```
//!
//! Inside, deciding and acting are apart. `schedule`, `entry`, `due` (the decision about an entry at a moment) and
//! `agenda` (the order of many entries) take values and return values; they know neither a broker nor a store nor a
//! clock. `leader` (the election), `store` and `beat` (claim, send, mark) act.

mod agenda;
mod beat;
mod due;
pub mod entry;
mod leader;
pub mod schedule;
pub mod store;
mod versioned;

pub use beat::{Beat, BeatBuilder, BeatControl, BeatError, BeatStatus, BeatSummary, RunNowError, open_store, run_now};

/// Parts of beat that the command line of `taskq-worker` needs beyond the public face.
///
/// Not covered by semantic versioning: anything in here may change or go with any release. The crates of this workspace
/// are released together, so they may use it; programs must not.
#[doc(hidden)]
pub mod internal {
    /// The decision about an entry at a moment.
    pub mod due {
        pub use crate::due::{Decision, Firing, Handled, MissReason, Missed, due};
    }

    /// The election of the beat that fires.
    pub mod leader {
        pub use crate::leader::{Holder, LEASE, LOOK_EVERY, RENEW_EVERY, TRUSTED_FOR, holder};
    }
}
