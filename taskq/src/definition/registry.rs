//! All tasks of a program.

use std::collections::{BTreeSet, HashMap};

use super::{Definition, SourceLocation};

/// A task's entry in the list that `#[task]` makes; [`Registry::collect`] reads it.
#[derive(Clone, Copy)]
pub struct Registration(pub &'static Definition);

inventory::collect!(Registration);

/// The tasks of a program, by name.
#[derive(Debug, Default, Clone)]
pub struct Registry {
    tasks: HashMap<&'static str, &'static Definition>,
}

/// An error in the tasks of this program: they cannot be run as they are defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Two functions with one name.
    #[error("two tasks are called {name:?}: {first} and {second}; rename one, or give it `#[task(name = \"…\")]`")]
    Duplicate {
        /// The name of both.
        name: &'static str,
        /// The place of one.
        first: SourceLocation,
        /// The place of the other.
        second: SourceLocation,
    },
    /// No function is a task.
    #[error(
        "no task is registered in this program; the linker drops a crate that is never mentioned, so write \
         `use my_tasks as _;` (with the name of the crate that holds the tasks) above `fn main`"
    )]
    Empty,
    /// No task may be run.
    #[error("no task of this program fits the setting `tasks` ({patterns}); write names, or patterns such as shop.*")]
    NoneAllowed {
        /// The patterns of the setting.
        patterns: String,
    },
}

/// Returns whether `name` fits `pattern`, in which `*` stands for any characters.
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The earliest place of each part leaves the most for the next.
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

impl Registry {
    /// Collects all tasks that are linked into this program. Fails if two have equal names.
    pub fn collect() -> Result<Self, RegistryError> {
        Self::of(inventory::iter::<Registration>.into_iter().map(|registration| registration.0))
    }

    /// Makes a registry of these tasks. Fails if two have equal names.
    pub fn of(definitions: impl IntoIterator<Item = &'static Definition>) -> Result<Self, RegistryError> {
        let mut tasks: HashMap<&'static str, &'static Definition> = HashMap::new();
        for definition in definitions {
            if let Some(earlier) = tasks.insert(definition.name, definition) {
                // Link order is unspecified; the message should not be.
                let mut locations = [earlier.location, definition.location];
                locations.sort_by_key(|location| (location.file, location.line));
                let [first, second] = locations;
                return Err(RegistryError::Duplicate { name: definition.name, first, second });
            }
        }
        Ok(Self { tasks })
    }

    /// Keeps the tasks whose names fit one of these patterns, in which `*` stands for any characters. Without patterns
    /// all are kept. Fails with [`RegistryError::NoneAllowed`] if none is left.
    pub fn only(mut self, patterns: &[String]) -> Result<Self, RegistryError> {
        if patterns.is_empty() {
            return Ok(self);
        }
        self.tasks.retain(|name, _| patterns.iter().any(|pattern| fits(name, pattern)));
        if self.tasks.is_empty() { Err(RegistryError::NoneAllowed { patterns: patterns.join(",") }) } else { Ok(self) }
    }

    /// Returns this registry if it has a task, and [`RegistryError::Empty`] with the remedy if it has none.
    pub fn require_tasks(self) -> Result<Self, RegistryError> {
        if self.tasks.is_empty() { Err(RegistryError::Empty) } else { Ok(self) }
    }

    /// Returns the task with this name.
    pub fn get(&self, name: &str) -> Option<&'static Definition> {
        self.tasks.get(name).copied()
    }

    /// Iterates over all tasks, by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static Definition> {
        let mut tasks: Vec<_> = self.tasks.values().copied().collect();
        tasks.sort_by_key(|task| task.name);
        tasks.into_iter()
    }

    /// Returns the packages whose tasks are linked.
    pub fn packages(&self) -> BTreeSet<&'static str> {
        self.tasks.values().map(|task| task.location.package).collect()
    }

    /// Returns the number of tasks.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_stand_for_names() {
        for (pattern, name, expected) in [
            ("shop.buy", "shop.buy", true),
            ("shop.buy", "shop.buy2", false),
            ("shop.*", "shop.buy", true),
            ("shop.*", "shop.", true),
            ("shop.*", "workshop.buy", false),
            ("*.buy", "shop.buy", true),
            ("*.buy", "shop.buy.all", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(name, pattern), expected, "{pattern} {name}");
        }
    }
}
