//! Revoked tasks: what is kept of one, and the set that a worker looks into.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::message::TaskId;

/// The maximum number of tasks in a set; the first that came goes first. Celery's workers keep as many.
const TASKS_MAX: usize = 50_000;

/// A revocation, as it is kept in Kv for workers that are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Revocation {
    /// The version of the format.
    pub v: u32,
    /// Whether a body that does not listen is ended with its process.
    #[serde(default)]
    pub terminate: bool,
}

impl Revocation {
    /// The beginning of the keys in Kv; the id follows.
    pub const PREFIX: &str = "revoked:";

    /// The newest version of the format that this release reads.
    pub const NEWEST: u32 = 1;

    /// Makes a revocation; `terminate`: a body that does not listen is ended with its process.
    pub fn new(terminate: bool) -> Self {
        Self { v: Self::NEWEST, terminate }
    }

    /// The key in Kv.
    pub fn key(id: &TaskId) -> String {
        format!("{}{id}", Self::PREFIX)
    }
}

/// The revoked tasks that a worker knows, for as long as each is kept, and at most 50,000 of them.
#[derive(Debug, Default)]
pub struct Revoked {
    kept: HashMap<TaskId, KeptRevocation>,
    /// Each with the time until which it is kept; entries that were revoked again are there twice.
    order: VecDeque<(TaskId, Instant)>,
}

/// A task in the set.
#[derive(Debug, Clone, Copy)]
struct KeptRevocation {
    until: Instant,
    revocation: Revocation,
}

impl Revoked {
    /// Adds a task, to be kept until `now + kept_for`. Returns whether it is new. The order to terminate it stays.
    pub fn add(&mut self, id: &TaskId, revocation: Revocation, now: Instant, kept_for: Duration) -> bool {
        self.expire(now);
        // Beyond what a clock can tell is as good as for ever.
        let until = now.checked_add(kept_for).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        self.order.push_back((id.clone(), until));
        let before = self.kept.insert(id.clone(), KeptRevocation { until, revocation });
        if before.is_some_and(|before| before.revocation.terminate)
            && let Some(kept) = self.kept.get_mut(id)
        {
            kept.revocation.terminate = true;
        }
        let is_new = before.is_none();
        while self.order.len() > TASKS_MAX {
            self.drop_first();
        }
        is_new
    }

    /// Forgets a task. Returns whether it was known.
    pub fn remove(&mut self, id: &TaskId) -> bool {
        self.kept.remove(id).is_some()
    }

    /// Returns the revocation of a task, if it is revoked.
    pub fn get(&self, id: &TaskId, now: Instant) -> Option<Revocation> {
        // Nearly always there is none at all.
        if self.kept.is_empty() {
            return None;
        }
        self.kept.get(id).filter(|kept| kept.until > now).map(|kept| kept.revocation)
    }

    /// Lists the revoked tasks, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &TaskId> {
        self.kept.keys()
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((id, until)) = self.order.pop_front()
            && self.kept.get(&id).is_some_and(|kept| kept.until == until)
        {
            self.kept.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(number: usize) -> TaskId {
        TaskId::parse(&number.to_string()).expect("it is an id")
    }

    #[test]
    fn each_is_kept_for_its_time() {
        let (mut revoked, now) = (Revoked::default(), Instant::now());
        let (mild, hard) = (Revocation::new(false), Revocation::new(true));
        assert!(revoked.add(&id(1), hard, now, HOUR));
        assert!(!revoked.add(&id(1), mild, now + HOUR / 2, HOUR), "again, and longer");
        assert_eq!(revoked.get(&id(1), now + HOUR), Some(hard));
        assert_eq!(revoked.get(&id(1), now + 2 * HOUR), None);
        assert!(revoked.add(&id(2), mild, now + 2 * HOUR, HOUR));
        assert_eq!(revoked.ids().collect::<Vec<_>>(), [&id(2)]);
        assert!(revoked.remove(&id(2)) && !revoked.remove(&id(2)));
        assert!(revoked.add(&id(3), mild, now, Duration::MAX));
        assert_eq!(revoked.get(&id(3), now + 1000 * HOUR), Some(mild));
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let (mut revoked, now) = (Revoked::default(), Instant::now());
        for number in 0..TASKS_MAX + 10 {
            revoked.add(&id(number), Revocation::new(false), now, HOUR);
        }
        assert_eq!(revoked.ids().count(), TASKS_MAX);
        assert!(revoked.get(&id(9), now).is_none() && revoked.get(&id(10), now).is_some());
    }
}
