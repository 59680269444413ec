//! The policies of an entry, and its origin.

use std::fmt;
use std::path::PathBuf;

/// The policy for slots that were not fired while they were due: beat was down, the store was away, or the clock was
/// moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Misfire {
    /// None of them is fired, except the newest if it is late by no more than a minute.
    Skip,
    /// The newest of them is fired, however late, in place of all. The default.
    #[default]
    One,
    /// All of them are fired, oldest first, up to a bound.
    All,
}

/// Whether an entry is sent while its previous run is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overlap {
    /// The entry is sent all the same. The default.
    #[default]
    Allow,
    /// The entry is not sent: the slot counts as missed.
    Skip,
}

/// The policy for a slot that another beat has begun to send without recording whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDoubt {
    /// The slot is sent again, under the same id, by which a worker recognizes the second copy. The default.
    #[default]
    Again,
    /// The slot is not sent again: it counts as missed.
    Skip,
}

/// The place where an entry is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The attribute of a task, at this place in the source.
    Task(String),
    /// The settings file with this path.
    File(PathBuf),
    /// An addition while beat was running.
    RunTime,
}

/// The word for each value, as it is written in `taskq.toml`.
macro_rules! words {
    ($name:ident { $($value:ident = $word:literal),+ }) => {
        impl $name {
            /// All values.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// Returns the word for the value, as it is written in `taskq.toml`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(Misfire { Skip = "skip", One = "one", All = "all" });
words!(Overlap { Allow = "allow", Skip = "skip" });
words!(OnDoubt { Again = "again", Skip = "skip" });

impl Origin {
    /// Returns the place where the entry `name` is written, as text for people.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Task(place) => format!("{place}, #[task] of `{name}`"),
            Self::File(path) => format!("{}: [schedule.{}]", path.display(), key(name)),
            Self::RunTime => format!("the entry `{name}`, added at run time"),
        }
    }
}

/// Returns a name as it is written in a TOML header, in quotes where necessary.
fn key(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { format!("{name:?}") }
}
