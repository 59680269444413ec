//! All tasks of a program.

use std::collections::{BTreeSet, HashMap};

use super::{Definition, Place};

/// One task's entry in the list that `#[task]` makes. Use [`Registry::collect`] to read it.
#[derive(Clone, Copy)]
pub struct Registration(pub &'static Definition);

inventory::collect!(Registration);

/// The tasks of a program, by name.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    tasks: HashMap<&'static str, &'static Definition>,
}

/// The tasks of this program cannot be run as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two functions of one name.
    #[error("two tasks are called {name:?}: {first} and {second}; rename one, or give it `#[task(name = \"…\")]`")]
    Duplicate {
        /// The name.
        name: &'static str,
        /// One of the two places.
        first: Place,
        /// The other.
        second: Place,
    },
    /// No function at all.
    #[error(
        "no task is registered in this program; the linker drops a crate that is never mentioned, so write \
         `use my_tasks as _;` (with the name of the crate that holds the tasks) above `fn main`"
    )]
    Empty,
}

impl Registry {
    /// All tasks that are linked into this program. Fails if two have the same name.
    pub fn collect() -> Result<Self, RegistryError> {
        Self::of(inventory::iter::<Registration>.into_iter().map(|registration| registration.0))
    }

    /// The registry of these tasks. Fails if two have the same name.
    pub fn of(definitions: impl IntoIterator<Item = &'static Definition>) -> Result<Self, RegistryError> {
        let mut tasks: HashMap<&'static str, &'static Definition> = HashMap::new();
        for definition in definitions {
            if let Some(earlier) = tasks.insert(definition.name, definition) {
                // Link order is unspecified; the message should not be.
                let mut places = [earlier.place, definition.place];
                places.sort_by_key(|place| (place.file, place.line));
                let [first, second] = places;
                return Err(RegistryError::Duplicate { name: definition.name, first, second });
            }
        }
        Ok(Self { tasks })
    }

    /// This registry, if there is anything in it.
    pub fn not_empty(self) -> Result<Self, RegistryError> {
        if self.tasks.is_empty() { Err(RegistryError::Empty) } else { Ok(self) }
    }

    /// The task of this name.
    pub fn get(&self, name: &str) -> Option<&'static Definition> {
        self.tasks.get(name).copied()
    }

    /// All tasks, by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Definition> {
        let mut tasks: Vec<_> = self.tasks.values().copied().collect();
        tasks.sort_by_key(|task| task.name);
        tasks.into_iter()
    }

    /// The packages whose tasks are linked.
    pub fn packages(&self) -> BTreeSet<&'static str> {
        self.tasks.values().map(|task| task.place.package).collect()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}
