//! What an entry may say beside what and when.

use std::fmt;
use std::path::PathBuf;

/// What becomes of slots that nobody fired while they were due: beat was down, the store was away, the clock was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfire {
    /// Nothing: the next slot is the next one. Only a slot that is less than a minute late, and the newest, is still fired.
    Skip,
    /// The newest of them is fired, however late, and stands for all. The default.
    #[default]
    One,
    /// All of them are fired, oldest first, up to a bound.
    All,
}

/// Whether an entry is sent while its run before is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is. The default.
    #[default]
    Allow,
    /// It is not: the slot counts as missed.
    Skip,
}

/// What a beat does with a slot that another one has begun to send, and of which nobody knows whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDoubt {
    /// Sends it again, under the same id, so that a worker knows the second copy. The default.
    #[default]
    Again,
    /// Leaves it: it counts as missed.
    Skip,
}

/// Where an entry comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The attribute of a task, written at this place.
    Task(String),
    /// A file, by its path.
    File(PathBuf),
    /// Whoever added it while beat was running.
    RunTime,
}

/// The word for each value, as people write it.
macro_rules! words {
    ($name:ident { $($value:ident = $word:literal),+ }) => {
        impl $name {
            /// All values there are.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The word for it.
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
    /// Where the entry `name` is written, for people.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Task(place) => format!("{place}, #[task] of `{name}`"),
            Self::File(path) => format!("{}: [schedule.{}]", path.display(), key(name)),
            Self::RunTime => format!("the entry `{name}`, added at run time"),
        }
    }
}

/// A name as TOML wants it in a header.
fn key(name: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { format!("{name:?}") }
}
