//! The state that beats share, under `beat/` in a [`Kv`](taskq::backend::Kv): Redis, an SQLite file, or memory. The
//! beats of a named group keep theirs under `beat:GROUP/`.
//!
//! | key | content | written by |
//! |---|---|---|
//! | `leader`, `term` | the holder of the lease, and the newest term | [`leader`](crate::leader) |
//! | `known` | since when each entry of the program has been known | the leader |
//! | `facts/NAME` | which slots have been handled, and which are being sent | the leader |
//! | `history/NAME` | the outcome of the newest slots | the leader |
//! | `entry/NAME` | an entry added at run time | [`Store::add`] |
//! | `pause/NAME` | whether an entry is paused, or was | [`Store::pause`] |
//! | `changes` | the names of the entries added, removed, paused or resumed last | the same methods |
//!
//! Facts are only ever replaced by a beat that knows their current value. So whatever happens to leases, of two beats
//! that both believe they lead one claims a slot, and the other learns of it. Nothing but the lease expires by itself,
//! since a yearly entry needs its facts for a year; but an entry added for a single slot is removed a day after it.
//!
//! Every value carries the version of its format, and a value of a newer version is neither interpreted nor overwritten
//! ([`versioned`](crate::versioned)).
//!
//! | file | content |
//! |---|---|
//! | `store` | [`Store`]: reading and conditional writing of any value |
//! | `facts`, `history`, `known` | the state of entries, each with its part of [`Store`] |
//! | `overrides`, `edit` | reading entries and pauses of run time, and changing them |
//! | `changes` | [`Changes`], by which a leader notices what was edited |
//! | `group` | the part of a Kv that belongs to a group |

pub(crate) mod changes;
mod edit;
mod facts;
mod group;
mod history;
mod keys;
mod known;
mod overrides;
#[expect(clippy::module_inception, reason = "the main type of a room stands in the file of its name")]
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::changes::{ChangedEntries, Changes};
pub use self::facts::{Facts, Fired, Pending};
pub(crate) use self::facts::{StoredFacts, facts_from};
pub use self::history::{Event, EventKind, History};
pub(crate) use self::known::Known;
pub use self::overrides::{Added, Override, Pause};
pub(crate) use self::store::Saved;
pub use self::store::Store;
pub use crate::due::{Handled, MissReason, Missed};
