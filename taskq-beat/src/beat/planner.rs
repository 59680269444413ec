//! The entries of a leader, the state of each, and the one that is due next. Nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::agenda::Agenda;
use crate::due::{Handled, due, given_up};
use crate::entry::Entry;
use crate::store::{Event, EventKind, Facts, Known, Override, StoredFacts};

/// The node name in the history event of slots that a pause gave up.
const BY_THE_PAUSE: &str = "pause";

/// The entries of a leader, ordered by when to look at each.
#[derive(Debug)]
pub(super) struct Planner {
    /// The entries of the program.
    program: Arc<BTreeMap<String, Arc<Entry>>>,
    /// All entries, including those added at run time.
    planned: HashMap<String, PlannedEntry>,
    agenda: Agenda,
}

/// An entry with its state.
#[derive(Debug)]
struct PlannedEntry {
    entry: Arc<Entry>,
    /// Whether the entry was added at run time, and so may be removed.
    is_added: bool,
    /// When the entry was added, changed or resumed: slots no later than this are not its own.
    since: DateTime<Utc>,
    /// When the pause had begun, if the entry was resumed.
    paused: Option<DateTime<Utc>>,
    /// The state; `None` while a job has it.
    state: Option<EntryState>,
}

/// The state of an entry, as far as this beat knows.
#[derive(Debug, Clone)]
pub(super) struct EntryState {
    pub(super) facts: Facts,
    /// The stored facts, as far as is known.
    pub(super) stored: Option<Bytes>,
    /// Whether the facts are newer than the stored ones, and have to be stored.
    pub(super) is_unsaved: bool,
    /// The events that have to be added to the stored history.
    pub(super) unwritten: Vec<Event>,
}

/// An entry with slots to fire or to mark.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    /// Whether the entry was added at run time, and so may have been removed a moment ago.
    pub(super) is_added: bool,
    pub(super) state: EntryState,
}

/// The state of an entry after a job, and when to look at it again.
#[derive(Debug)]
pub(super) struct FinishedJob {
    pub(super) name: String,
    pub(super) state: EntryState,
    pub(super) again_after: TimeDelta,
}

impl EntryState {
    /// Returns the state of an entry whose facts are those in the store.
    pub(super) fn new(facts: Facts, stored: Option<Bytes>) -> Self {
        Self { facts, stored, is_unsaved: false, unwritten: Vec::new() }
    }

    /// Whether a job was begun and has to be finished.
    fn is_open(&self) -> bool {
        self.is_unsaved || !self.facts.pending.is_empty()
    }

    /// Excludes the slots until `since`, which are not those of `entry`. Slots that were due when it was `paused` are
    /// listed as missed, at `now`.
    fn begin_after(&mut self, since: DateTime<Utc>, entry: &Entry, paused: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        if self.facts.handled.until().is_some_and(|until| until >= since) {
            return;
        }
        if let Some(missed) = paused.and_then(|paused| given_up(entry, &self.facts.handled, paused)) {
            self.facts.note_missed(std::slice::from_ref(&missed));
            self.unwritten.push(Event { at: now, by: BY_THE_PAUSE.to_owned(), kind: EventKind::Missed(missed) });
            self.is_unsaved = true;
        }
        self.facts.handled = self.facts.handled.clone().resumed(since);
    }
}

impl Planner {
    /// Returns the planner of the program's entries and of those added at run time, with their stored state. Each entry
    /// is to be looked at first.
    pub(super) fn new(
        program: Arc<BTreeMap<String, Arc<Entry>>>,
        overrides: Vec<(String, Override)>,
        facts: Vec<(String, StoredFacts)>,
        known: &Known,
        now: DateTime<Utc>,
    ) -> Self {
        let mut facts: HashMap<String, StoredFacts> = facts.into_iter().collect();
        let mut planner = Self { program, planned: HashMap::new(), agenda: Agenda::new() };
        let mut overrides: HashMap<String, Override> = overrides.into_iter().collect();
        let program = Arc::clone(&planner.program);
        for name in program.keys() {
            let entry_override = overrides.remove(name).unwrap_or_default();
            planner.put(name, &entry_override, known.since(name).unwrap_or(now), facts.remove(name), now);
        }
        for (name, entry_override) in overrides {
            let stored = facts.remove(&name);
            planner.put(&name, &entry_override, now, stored, now);
        }
        planner
    }

    /// Applies the current override of an entry.
    pub(super) fn change(&mut self, name: &str, entry_override: &Override, now: DateTime<Utc>) {
        // A planned entry keeps its beginning; an added or resumed one brings its own.
        let since = self.planned.get(name).map_or(now, |planned| planned.since);
        self.put(name, entry_override, since, None, now);
    }

    /// Applies all overrides there are; every other entry has none.
    pub(super) fn change_all(&mut self, overrides: Vec<(String, Override)>, now: DateTime<Utc>) {
        let mut overrides: HashMap<String, Override> = overrides.into_iter().collect();
        for name in self.planned.keys().cloned().collect::<Vec<_>>() {
            self.change(&name, &overrides.remove(&name).unwrap_or_default(), now);
        }
        for (name, entry_override) in overrides {
            self.change(&name, &entry_override, now);
        }
    }

    /// Plans an entry anew, with its override, its beginning, and its stored facts if they were just loaded.
    fn put(
        &mut self,
        name: &str,
        entry_override: &Override,
        since: DateTime<Utc>,
        stored: Option<StoredFacts>,
        now: DateTime<Utc>,
    ) {
        let pause = entry_override.pause;
        let resumed = pause.filter(|pause| !pause.is_on);
        let of_program = self.program.get(name);
        let is_added = of_program.is_none();
        let (entry, since) = match (of_program, &entry_override.added) {
            (Some(entry), added) => {
                if added.is_some() {
                    tracing::warn!(
                        entry = name,
                        "beat: an entry of this name was added at run time and is ignored, since the program has one too"
                    );
                }
                (Arc::clone(entry), since)
            }
            (None, Some(added)) => match added.read(name) {
                Ok(entry) => (Arc::new(entry), added.at),
                Err(mistakes) => {
                    tracing::warn!(entry = name, %mistakes, "beat: an entry that was added at run time cannot be used");
                    return self.forget(name);
                }
            },
            (None, None) => return self.forget(name),
        };
        let since = resumed.map_or(since, |resumed| resumed.at.max(since));
        let paused = resumed.and_then(|resumed| resumed.from);
        let entry = match pause {
            Some(pause) if pause.is_on && entry.enabled => Arc::new(Entry { enabled: false, ..(*entry).clone() }),
            _ => entry,
        };
        let mut state = match (self.planned.remove(name), stored) {
            (Some(planned), _) => planned.state,
            (None, Some(StoredFacts { facts, bytes })) => Some(EntryState::new(facts, Some(bytes))),
            (None, None) => Some(EntryState::new(Facts::new(Handled::since(since)), None)),
        };
        if let Some(state) = &mut state {
            state.begin_after(since, &entry, paused, now);
            self.agenda.set(name, Some(now));
        }
        self.planned.insert(name.to_owned(), PlannedEntry { entry, is_added, since, paused, state });
    }

    /// Removes an entry from the plan.
    fn forget(&mut self, name: &str) {
        self.planned.remove(name);
        self.agenda.set(name, None);
    }

    /// Looks at all entries again. After the clock was moved, no computed time holds any more.
    pub(super) fn look_at_all(&mut self, now: DateTime<Utc>) {
        for (name, planned) in &self.planned {
            if planned.state.is_some() {
                self.agenda.set(name, Some(now));
            }
        }
    }

    /// Returns when to look at an entry next.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.agenda.next()
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.planned.len()
    }

    /// Takes the next job that is due at `now`. Entries without slots to fire are planned anew on the way.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> Option<Job> {
        while let Some(name) = self.agenda.take_due(now) {
            let Some(planned) = self.planned.get_mut(&*name) else { continue };
            let Some(mut state) = planned.state.take() else { continue };
            // Whether the previous run is unfinished is asked later, and only if a slot would be fired.
            let decision = (!state.is_open()).then(|| due(&planned.entry, &state.facts.handled, now, false));
            let idle = decision.filter(|decision| decision.fire.is_empty() && decision.missed.is_empty());
            let Some(decision) = idle else {
                return Some(Job { entry: Arc::clone(&planned.entry), is_added: planned.is_added, state });
            };
            state.facts.handled = decision.handled;
            planned.state = Some(state);
            self.agenda.set(&name, decision.wake);
        }
        None
    }

    /// Takes back the state of an entry after a job. An entry that was removed meanwhile is ignored.
    pub(super) fn end(&mut self, finished: FinishedJob, now: DateTime<Utc>) {
        let Some(planned) = self.planned.get_mut(&finished.name) else { return };
        let mut state = finished.state;
        state.begin_after(planned.since, &planned.entry, planned.paused, now);
        planned.state = Some(state);
        self.agenda.set(&finished.name, now.checked_add_signed(finished.again_after));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::due::MissReason;
    use crate::entry::Origin;
    use crate::schedule::Schedule;
    use crate::store::{Added, Pause, Pending};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a moment")
    }

    fn entry(name: &str, period: u64) -> Entry {
        let every = Schedule::every(Duration::from_secs(period), DateTime::UNIX_EPOCH).expect("it is long enough");
        Entry::new(name, "t", every, Origin::RunTime)
    }

    fn planner(entries: &[Entry], overrides: Vec<(String, Override)>, facts: Vec<(String, StoredFacts)>) -> Planner {
        let program = entries.iter().map(|entry| (entry.name.clone(), Arc::new(entry.clone()))).collect();
        let known = Known::default().with(entries.iter(), at(100));
        Planner::new(Arc::new(program), overrides, facts, &known, at(100))
    }

    fn names(planner: &mut Planner, now: i64) -> Vec<String> {
        let mut names: Vec<String> =
            std::iter::from_fn(|| planner.begin(at(now))).map(|job| job.entry.name.clone()).collect();
        names.sort();
        names
    }

    fn changed(added: Option<&Entry>, pause: Option<(bool, i64)>) -> Override {
        Override {
            added: added.map(|entry| Added::new(entry, at(100))),
            pause: pause.map(|(is_on, since)| Pause { is_on, at: at(since), from: None }),
        }
    }

    fn stored(facts: Facts) -> StoredFacts {
        StoredFacts { facts, bytes: Bytes::new() }
    }

    #[test]
    fn only_an_entry_that_is_due_becomes_a_job() {
        let mut planner =
            planner(&[entry("a", 10), entry("b", 7)], vec![("c".into(), changed(Some(&entry("c", 10)), None))], vec![]);
        assert_eq!((names(&mut planner, 100), planner.next(), planner.len()), (vec![], Some(at(105)), 3));
        assert_eq!(names(&mut planner, 110), ["a", "b", "c"]);
        assert_eq!(planner.next(), None, "jobs have them all");
    }

    #[test]
    fn a_job_that_was_begun_comes_first_even_of_a_paused_entry() {
        let pending = Pending { slot: at(90), due: at(90), expires: None };
        let facts = Facts { pending: vec![pending], ..Facts::new(Handled::since(at(90))) };
        let facts = ["a", "b"].map(|name| (name.to_owned(), stored(facts.clone())));
        let mut planner =
            planner(&[entry("a", 10)], vec![("a".into(), changed(None, Some((true, 95))))], facts.to_vec());
        assert_eq!(names(&mut planner, 100), ["a"], "there is no entry `b` any more");
    }

    #[test]
    fn a_paused_entry_has_no_slots_and_goes_on_when_it_is_resumed() {
        let mut planner = planner(&[entry("a", 10)], vec![("a".into(), changed(None, Some((true, 95))))], vec![]);
        assert_eq!((names(&mut planner, 150), planner.next()), (vec![], None));
        planner.change("a", &changed(None, Some((false, 155))), at(156));
        assert_eq!((names(&mut planner, 156), planner.next()), (vec![], Some(at(160))));
        assert_eq!(names(&mut planner, 160), ["a"]);
    }

    #[test]
    fn slots_missed_when_an_entry_was_paused_are_listed() {
        let facts = Facts::new(Handled::since(at(71)));
        // Paused at 125, resumed at 155; 80 to 120 had been missed by then.
        let pause = Pause { is_on: false, at: at(155), from: Some(at(125)) };
        let paused = Override { added: None, pause: Some(pause) };
        let mut planner = planner(&[entry("a", 10)], vec![("a".into(), paused)], vec![("a".into(), stored(facts))]);
        let job = planner.begin(at(156)).expect("there is something to write");
        let [Event { kind: EventKind::Missed(missed), .. }] = &job.state.unwritten[..] else { panic!("{job:?}") };
        assert_eq!((missed.first, missed.last, missed.count, missed.reason), (at(80), at(120), 5, MissReason::Paused));
        assert_eq!(job.state.facts.missed_count, 5);
        let decision = due(&job.entry, &job.state.facts.handled, at(156), false);
        assert_eq!((decision.fire, decision.missed, decision.wake), (vec![], vec![], Some(at(160))));
    }

    #[test]
    fn changes_come_through_while_a_job_is_under_way() {
        let mut planner = planner(&[entry("a", 10)], vec![("b".into(), changed(Some(&entry("b", 10)), None))], vec![]);
        let jobs: Vec<Job> = std::iter::from_fn(|| planner.begin(at(110))).collect();
        assert_eq!(jobs.len(), 2);
        planner.change_all(vec![("a".into(), changed(None, Some((true, 111))))], at(111));
        for job in jobs {
            let finished =
                FinishedJob { name: job.entry.name.clone(), state: job.state, again_after: TimeDelta::zero() };
            planner.end(finished, at(112));
        }
        assert_eq!((names(&mut planner, 200), planner.next(), planner.len()), (vec![], None, 1), "paused, and removed");
        planner.change("b", &changed(Some(&entry("b", 50)), None), at(201));
        assert_eq!(names(&mut planner, 201), ["b"], "it was added at 100");
    }

    #[test]
    fn a_clock_that_was_moved_makes_it_look_at_all() {
        let mut planner = planner(&[entry("a", 3600)], vec![], vec![]);
        assert_eq!((names(&mut planner, 100), planner.next()), (vec![], Some(at(3600))));
        planner.look_at_all(at(50));
        assert_eq!(planner.next(), Some(at(50)));
        assert_eq!((names(&mut planner, 50), planner.next()), (vec![], Some(at(3600))));
    }
}
