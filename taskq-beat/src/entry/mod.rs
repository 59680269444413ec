//! Entries: which task is sent, when, and what happens to slots that could not be sent; one entry per periodic task.
//!
//! Entries come from three places: the attributes of tasks, `[schedule.NAME]` in `taskq.toml`, and additions at run
//! time. [`collect`] combines the first two. Entries added at run time are stored as JSON, in the same form as in the
//! file, and parsed by the same [`Entry::read`]. [`check`] validates an entry against the tasks of a program.
//!
//! All mistakes are reported together, each with its place and its remedy.
//!
//! | file | content |
//! |---|---|
//! | `entry`, `options` | [`Entry`] and the types of its fields |
//! | `read`, `describe`, `time_span` | from the description of an entry to the entry, and back |
//! | `sources` | the entries of a program |
//! | `check`, `mistake` | validation, and everything that is wrong |

mod check;
mod describe;
#[expect(clippy::module_inception, reason = "the main type of a room stands in the file of its name")]
mod entry;
mod mistake;
mod options;
mod read;
mod sources;
#[cfg(test)]
mod tests;
mod time_span;

pub use self::check::{check, check_overlap};
pub use self::entry::{Entry, MISFIRE_MAX_DEFAULT};
pub use self::mistake::{Mistake, Mistakes};
pub use self::options::{Misfire, OnDoubt, Origin, Overlap};
pub use self::sources::{add, collect};
