//! The order of entries: when to look at each. While nothing is due, it costs nothing, however many entries there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// The times at which to look at entries, by name.
///
/// Setting, removing and taking cost the logarithm of the number of entries. An entry that was taken is absent until
/// its next time is set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda {
    order: BTreeSet<(DateTime<Utc>, Arc<str>)>,
    times: HashMap<Arc<str>, DateTime<Utc>>,
}

impl Agenda {
    /// Returns an empty agenda.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sets the time at which to look at `name`, in place of any other; `None` for not at all.
    pub(crate) fn set(&mut self, name: &str, wake: Option<DateTime<Utc>>) {
        let name = self.remove(name).unwrap_or_else(|| name.into());
        if let Some(wake) = wake {
            self.order.insert((wake, Arc::clone(&name)));
            self.times.insert(name, wake);
        }
    }

    /// Removes `name`, and returns the key that was shared if it was present.
    fn remove(&mut self, name: &str) -> Option<Arc<str>> {
        let (name, wake) = self.times.remove_entry(name)?;
        let place = (wake, name);
        self.order.remove(&place);
        Some(place.1)
    }

    /// Returns when to look at the first entry; until then there is nothing to do.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        self.order.first().map(|(wake, _)| *wake)
    }

    /// Removes and returns an entry whose time has come, the earliest first.
    pub(crate) fn take_due(&mut self, now: DateTime<Utc>) -> Option<Arc<str>> {
        if self.next()? > now {
            return None;
        }
        let (_, name) = self.order.pop_first()?;
        self.times.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    #[test]
    fn the_earliest_comes_first() {
        let mut agenda = Agenda::new();
        assert_eq!((agenda.next(), agenda.take_due(at(99))), (None, None));
        for (name, wake) in [("a", 30), ("b", 10), ("c", 20), ("b", 40)] {
            agenda.set(name, Some(at(wake)));
        }
        assert_eq!((agenda.next(), agenda.times.len()), (Some(at(20)), 3));
        assert_eq!(agenda.take_due(at(19)), None);
        assert_eq!(agenda.take_due(at(35)).as_deref(), Some("c"));
        assert_eq!(agenda.take_due(at(35)).as_deref(), Some("a"));
        assert_eq!(agenda.take_due(at(35)), None);
        assert_eq!((agenda.times.get("b"), agenda.times.get("c")), (Some(&at(40)), None));
        agenda.set("b", None);
        assert!(agenda.times.is_empty() && agenda.next().is_none());
    }

    proptest! {
        #[test]
        fn it_is_a_map_ordered_by_time(changes in prop::collection::vec((0_u8..20, prop::option::of(0_i64..50)), 0..200)) {
            let mut agenda = Agenda::new();
            let mut expected = BTreeMap::new();
            for (name, wake) in changes {
                let name = name.to_string();
                agenda.set(&name, wake.map(at));
                match wake {
                    Some(wake) => drop(expected.insert(name, wake)),
                    None => drop(expected.remove(&name)),
                }
                prop_assert_eq!(agenda.next(), expected.values().min().copied().map(at));
                prop_assert_eq!(agenda.times.len(), expected.len());
            }
            let mut all: Vec<(i64, String)> = expected.into_iter().map(|(name, wake)| (wake, name)).collect();
            all.sort();
            let taken: Vec<String> = std::iter::from_fn(|| agenda.take_due(at(50))).map(|name| name.to_string()).collect();
            prop_assert_eq!(taken, all.into_iter().map(|(_, name)| name).collect::<Vec<_>>());
        }
    }
}
