//! The running beat: it waits until it leads, and then fires the slots that are due.
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
//! A term in brief: [`lead`] loads the state of all entries into a [`planner`], which knows the entry that is due next.
//! [`fire`] claims, sends and marks its slots. Beside it, [`overrides`] reports changes at run time, [`expire`] removes
//! entries without further slots, and the lease is renewed; all of them end with the term.
//!
//! | file | content |
//! |---|---|
//! | `beat` | [`Beat`]: candidate, leader, candidate again, until it is stopped |
//! | `builder` | [`BeatBuilder`], [`BeatError`], [`open_store`] |
//! | `lead` | one term of a leader, and its loop |
//! | `planner` | the entries of a leader, and the next that is due; pure |
//! | `fire` | from a due slot to a confirmed message |
//! | `call` | the call of an entry |
//! | `overrides`, `expire` | changes at run time, and entries without further slots |
//! | `foreign_leader` | a warning when the leader does not know the entries of this program |
//! | `clock_watch` | clocks that were moved |
//! | `run_now` | a run apart from the slots of an entry |
//! | `status` | what a beat tells others |

#[expect(clippy::module_inception, reason = "the main type of a room stands in the file of its name")]
mod beat;
mod builder;
mod call;
mod clock_watch;
mod expire;
mod fire;
mod foreign_leader;
mod lead;
mod overrides;
mod planner;
mod run_now;
mod status;
#[cfg(test)]
mod tests;

pub use self::beat::Beat;
pub use self::builder::{BeatBuilder, BeatError, open_store};
pub use self::run_now::{RunNowError, run_now};
pub use self::status::{BeatControl, BeatStatus, BeatSummary};
