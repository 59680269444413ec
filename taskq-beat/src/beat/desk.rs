//! Which entries a leader has, where each stands, and which is next. Nothing here waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::agenda::Agenda;
use crate::due::{Handled, due, given_up};
use crate::entry::Entry;
use crate::store::{AtRunTime, Event, Facts, Known, What};

/// Who gave up what an entry had missed when it was paused.
const BY_THE_PAUSE: &str = "pause";

/// The entries of a leader.
#[derive(Debug)]
pub(super) struct Desk {
    program: Arc<BTreeMap<String, Arc<Entry>>>,
    items: HashMap<String, Item>,
    agenda: Agenda,
}

/// An entry, and where it stands.
#[derive(Debug)]
struct Item {
    entry: Arc<Entry>,
    /// It was added at run time, and may be removed.
    is_added: bool,
    /// Slots no later than this are not the entry's own: it was added, changed or let go on then.
    since: DateTime<Utc>,
    /// If it was let go on: when it had been paused.
    paused: Option<DateTime<Utc>>,
    /// `None` while a job has it.
    standing: Option<Standing>,
}

/// Where an entry stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) facts: Facts,
    /// What the store has, as far as is known.
    pub(super) stored: Option<Bytes>,
    /// Whether the facts are newer than what the store has, because it could not be reached.
    pub(super) is_unsaved: bool,
    /// What the history lacks, for the same reason.
    pub(super) unwritten: Vec<Event>,
}

/// What is to be done about an entry.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: Arc<Entry>,
    /// It was added at run time, and may have been removed a moment ago.
    pub(super) is_added: bool,
    pub(super) standing: Standing,
}

/// What has been done about it, and when to look again.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) name: String,
    pub(super) standing: Standing,
    pub(super) again_after: TimeDelta,
}

impl Standing {
    pub(super) fn new(facts: Facts, stored: Option<Bytes>) -> Self {
        Self { facts, stored, is_unsaved: false, unwritten: Vec::new() }
    }

    /// Whether something was begun and is not over.
    fn is_open(&self) -> bool {
        self.is_unsaved || !self.facts.pending.is_empty()
    }

    /// Slots until `since` are not those of `entry`. What was due when it was `paused` is listed as missed, at `now`.
    fn begin_after(&mut self, since: DateTime<Utc>, entry: &Entry, paused: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        if self.facts.handled.until().is_some_and(|until| until >= since) {
            return;
        }
        if let Some(missed) = paused.and_then(|paused| given_up(entry, &self.facts.handled, paused)) {
            self.facts.note_missed(std::slice::from_ref(&missed));
            self.unwritten.push(Event { at: now, by: BY_THE_PAUSE.to_owned(), what: What::Missed(missed) });
            self.is_unsaved = true;
        }
        self.facts.handled = self.facts.handled.clone().resumed(since);
    }
}

impl Desk {
    /// The entries of the program, with what was said of them and added at run time, and what is known of them. All are
    /// looked at first.
    pub(super) fn new(
        program: Arc<BTreeMap<String, Arc<Entry>>>,
        at_run_time: Vec<(String, AtRunTime)>,
        facts: Vec<(String, Facts, Bytes)>,
        known: &Known,
        now: DateTime<Utc>,
    ) -> Self {
        let mut facts: HashMap<_, _> = facts.into_iter().map(|(name, facts, stored)| (name, (facts, stored))).collect();
        let mut desk = Self { program, items: HashMap::new(), agenda: Agenda::new() };
        let mut said: HashMap<String, AtRunTime> = at_run_time.into_iter().collect();
        let program = Arc::clone(&desk.program);
        for name in program.keys() {
            let at_run_time = said.remove(name).unwrap_or_default();
            desk.put(name, &at_run_time, known.since(name).unwrap_or(now), facts.remove(name), now);
        }
        for (name, at_run_time) in said {
            let known = facts.remove(&name);
            desk.put(&name, &at_run_time, now, known, now);
        }
        desk
    }

    /// Something was said of an entry at run time.
    pub(super) fn change(&mut self, name: &str, at_run_time: &AtRunTime, now: DateTime<Utc>) {
        // An entry that was there stays known since then; what was paused says so itself.
        let since = self.items.get(name).map_or(now, |item| item.since);
        self.put(name, at_run_time, since, None, now);
    }

    /// This is all that was said at run time.
    pub(super) fn change_all(&mut self, at_run_time: Vec<(String, AtRunTime)>, now: DateTime<Utc>) {
        let mut said: HashMap<String, AtRunTime> = at_run_time.into_iter().collect();
        for name in self.items.keys().cloned().collect::<Vec<_>>() {
            self.change(&name, &said.remove(&name).unwrap_or_default(), now);
        }
        for (name, at_run_time) in said {
            self.change(&name, &at_run_time, now);
        }
    }

    fn put(
        &mut self,
        name: &str,
        at_run_time: &AtRunTime,
        since: DateTime<Utc>,
        known: Option<(Facts, Bytes)>,
        now: DateTime<Utc>,
    ) {
        let pause = at_run_time.pause;
        let resumed = pause.filter(|pause| !pause.is_on);
        let of_program = self.program.get(name);
        let is_added = of_program.is_none();
        let (entry, since) = match (of_program, &at_run_time.added) {
            (Some(entry), added) => {
                if added.is_some() {
                    tracing::warn!(
                        entry = name,
                        "beat: an entry of this name was added at run time and is not used: the program has one, too"
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
        let there = self.items.remove(name);
        let mut standing = match (there, known) {
            (Some(item), _) => item.standing,
            (None, Some((facts, stored))) => Some(Standing::new(facts, Some(stored))),
            (None, None) => Some(Standing::new(Facts::new(Handled::since(since)), None)),
        };
        if let Some(standing) = &mut standing {
            standing.begin_after(since, &entry, paused, now);
            self.agenda.set(name, Some(now));
        }
        self.items.insert(name.to_owned(), Item { entry, is_added, since, paused, standing });
    }

    fn forget(&mut self, name: &str) {
        self.items.remove(name);
        self.agenda.set(name, None);
    }

    /// The clock was moved: no time that was computed holds any more.
    pub(super) fn look_at_all(&mut self, now: DateTime<Utc>) {
        for (name, item) in &self.items {
            if item.standing.is_some() {
                self.agenda.set(name, Some(now));
            }
        }
    }

    /// When there is something to look at.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        self.agenda.next()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The next job, if there is one at `now`. Entries about which there is nothing to do are put back on the way.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> Option<Job> {
        while let Some(name) = self.agenda.take_due(now) {
            let Some(item) = self.items.get_mut(&*name) else { continue };
            let Some(mut standing) = item.standing.take() else { continue };
            // Whether the run before is over is asked later, and only of those that would be sent.
            let decision = (!standing.is_open()).then(|| due(&item.entry, &standing.facts.handled, now, false));
            let idle = decision.filter(|decision| decision.fire.is_empty() && decision.missed.is_empty());
            let Some(decision) = idle else {
                return Some(Job { entry: Arc::clone(&item.entry), is_added: item.is_added, standing });
            };
            standing.facts.handled = decision.handled;
            item.standing = Some(standing);
            self.agenda.set(&name, decision.wake);
        }
        None
    }

    /// A job is over. An entry that has been removed meanwhile is gone.
    pub(super) fn end(&mut self, done: Done, now: DateTime<Utc>) {
        let Some(item) = self.items.get_mut(&done.name) else { return };
        let mut standing = done.standing;
        standing.begin_after(item.since, &item.entry, item.paused, now);
        item.standing = Some(standing);
        self.agenda.set(&done.name, now.checked_add_signed(done.again_after));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::due::Why;
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

    fn desk(entries: &[Entry], at_run_time: Vec<(String, AtRunTime)>, facts: Vec<(String, Facts, Bytes)>) -> Desk {
        let program = entries.iter().map(|entry| (entry.name.clone(), Arc::new(entry.clone()))).collect();
        let known = Known::default().with(entries.iter(), at(100));
        Desk::new(Arc::new(program), at_run_time, facts, &known, at(100))
    }

    fn names(desk: &mut Desk, now: i64) -> Vec<String> {
        let mut names: Vec<String> =
            std::iter::from_fn(|| desk.begin(at(now))).map(|job| job.entry.name.clone()).collect();
        names.sort();
        names
    }

    fn said(added: Option<&Entry>, pause: Option<(bool, i64)>) -> AtRunTime {
        AtRunTime {
            added: added.map(|entry| Added { entry: entry.describe(), at: at(100) }),
            pause: pause.map(|(is_on, since)| Pause { is_on, at: at(since), from: None }),
        }
    }

    #[test]
    fn only_what_is_due_becomes_a_job() {
        let mut desk =
            desk(&[entry("a", 10), entry("b", 7)], vec![("c".into(), said(Some(&entry("c", 10)), None))], vec![]);
        assert_eq!((names(&mut desk, 100), desk.next(), desk.len()), (vec![], Some(at(105)), 3));
        assert_eq!(names(&mut desk, 110), ["a", "b", "c"]);
        assert_eq!(desk.next(), None, "jobs have them all");
    }

    #[test]
    fn what_was_begun_is_a_job_at_once_even_of_a_paused_entry() {
        let pending = Pending { slot: at(90), due: at(90), expires: None };
        let facts = Facts { pending: vec![pending], ..Facts::new(Handled::since(at(90))) };
        let facts = ["a", "b"].map(|name| (name.to_owned(), facts.clone(), Bytes::new()));
        let mut desk = desk(&[entry("a", 10)], vec![("a".into(), said(None, Some((true, 95))))], facts.to_vec());
        assert_eq!(names(&mut desk, 100), ["a"], "there is no entry `b` any more");
    }

    #[test]
    fn a_paused_entry_has_no_slots_and_goes_on_from_where_it_is_let() {
        let mut desk = desk(&[entry("a", 10)], vec![("a".into(), said(None, Some((true, 95))))], vec![]);
        assert_eq!((names(&mut desk, 150), desk.next()), (vec![], None));
        desk.change("a", &said(None, Some((false, 155))), at(156));
        assert_eq!((names(&mut desk, 156), desk.next()), (vec![], Some(at(160))));
        assert_eq!(names(&mut desk, 160), ["a"]);
    }

    #[test]
    fn what_was_missed_when_an_entry_was_paused_is_listed() {
        let facts = Facts::new(Handled::since(at(71)));
        // Paused at 125, let go on at 155; 80 to 120 had been missed by then.
        let pause = Pause { is_on: false, at: at(155), from: Some(at(125)) };
        let said = AtRunTime { added: None, pause: Some(pause) };
        let mut desk = desk(&[entry("a", 10)], vec![("a".into(), said)], vec![("a".into(), facts, Bytes::new())]);
        let job = desk.begin(at(156)).expect("there is something to write");
        let [Event { what: What::Missed(missed), .. }] = &job.standing.unwritten[..] else { panic!("{job:?}") };
        assert_eq!((missed.first, missed.last, missed.count, missed.why), (at(80), at(120), 5, Why::Paused));
        assert_eq!(job.standing.facts.missed_count, 5);
        let decision = due(&job.entry, &job.standing.facts.handled, at(156), false);
        assert_eq!((decision.fire, decision.missed, decision.wake), (vec![], vec![], Some(at(160))));
    }

    #[test]
    fn changes_come_through_while_a_job_is_under_way() {
        let mut desk = desk(&[entry("a", 10)], vec![("b".into(), said(Some(&entry("b", 10)), None))], vec![]);
        let jobs: Vec<Job> = std::iter::from_fn(|| desk.begin(at(110))).collect();
        assert_eq!(jobs.len(), 2);
        desk.change_all(vec![("a".into(), said(None, Some((true, 111))))], at(111));
        for job in jobs {
            let done = Done { name: job.entry.name.clone(), standing: job.standing, again_after: TimeDelta::zero() };
            desk.end(done, at(112));
        }
        assert_eq!((names(&mut desk, 200), desk.next(), desk.len()), (vec![], None, 1), "paused, and removed");
        desk.change("b", &said(Some(&entry("b", 50)), None), at(201));
        assert_eq!(names(&mut desk, 201), ["b"], "it was added at 100");
    }

    #[test]
    fn a_clock_that_was_moved_makes_it_look_at_all() {
        let mut desk = desk(&[entry("a", 3600)], vec![], vec![]);
        assert_eq!((names(&mut desk, 100), desk.next()), (vec![], Some(at(3600))));
        desk.look_at_all(at(50));
        assert_eq!(desk.next(), Some(at(50)));
        assert_eq!((names(&mut desk, 50), desk.next()), (vec![], Some(at(3600))));
    }
}
