//! Runs that are settled and whose acknowledgement may have been lost.

use std::collections::{HashMap, VecDeque};

use taskq::message::RunKey;

/// The number of runs that are remembered.
const SETTLED_MAX: usize = 10_000;

/// The last settled runs whose message may be delivered once more, and then is to be acknowledged without a run.
#[derive(Debug, Default)]
pub(super) struct RecentlySettled {
    /// The number under which each was noted last.
    runs: HashMap<RunKey, u64>,
    /// The order in which they are forgotten. An entry whose number is not the run's last one is void.
    order: VecDeque<(u64, RunKey)>,
    next: u64,
}

impl RecentlySettled {
    /// Remembers a run, and forgets the oldest beyond [`SETTLED_MAX`].
    pub(super) fn remember(&mut self, key: RunKey) {
        self.next += 1;
        self.runs.insert(key.clone(), self.next);
        self.order.push_back((self.next, key));
        while self.order.len() > SETTLED_MAX {
            let Some((number, key)) = self.order.pop_front() else { break };
            if self.runs.get(&key) == Some(&number) {
                self.runs.remove(&key);
            }
        }
    }

    /// Whether a run is remembered; forgets it.
    pub(super) fn take(&mut self, key: &RunKey) -> bool {
        self.runs.remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;

    use super::*;

    fn key() -> RunKey {
        RunKey { id: TaskId::new(), generation: 0, attempt: 0, snoozes: 0 }
    }

    #[test]
    fn a_run_is_taken_once() {
        let (mut settled, one) = (RecentlySettled::default(), key());
        assert!(!settled.take(&one));
        settled.remember(one.clone());
        assert!(settled.take(&one));
        assert!(!settled.take(&one));
    }

    #[test]
    fn a_run_that_is_remembered_anew_is_as_young_as_that() {
        let (mut settled, one) = (RecentlySettled::default(), key());
        settled.remember(one.clone());
        assert!(settled.take(&one));
        for _ in 0..SETTLED_MAX / 2 {
            settled.remember(key());
        }
        settled.remember(one.clone());
        for _ in 0..SETTLED_MAX / 2 {
            settled.remember(key());
        }
        assert!(settled.take(&one), "its first note is void");
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let (mut settled, one) = (RecentlySettled::default(), key());
        settled.remember(one.clone());
        for _ in 0..SETTLED_MAX {
            settled.remember(key());
        }
        assert!(!settled.take(&one));
        assert_eq!((settled.runs.len(), settled.order.len()), (SETTLED_MAX, SETTLED_MAX));
    }
}
