//! The limit on lines of one cause: the first ones of a minute are written, later ones are counted and summed up.
//!
//! Strangers can cause as many lines as they can send messages, and a task that always fails causes one with each
//! attempt. A *kind* is a line of the code; a *cause* is a kind with what the line is about, the task. Each kind has a
//! minute of its own, which begins with its first line. In it are written:
//!
//! * of each cause the first [`OF_CAUSE_MAX`], as long as the kind has not written [`OF_KIND_MAX`];
//! * the first line of each cause, for [`CAUSES_MAX`] causes: a task that fails once is seen beside another one that
//!   fails a thousand times.
//!
//! So a kind writes no more than `OF_KIND_MAX + CAUSES_MAX` lines in a minute, whatever names there are, and keeps no
//! more than `CAUSES_MAX` of them.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// The time after which the lines that were not written are summed up, and the count begins anew.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// The largest number of lines of one cause in a period.
const OF_CAUSE_MAX: u64 = 20;

/// The number of lines of one kind in a period from which on only the first line of a cause is written.
const OF_KIND_MAX: u64 = 100;

/// The largest number of causes of one kind that are told apart in a period.
const CAUSES_MAX: usize = 100;

/// The number of causes that a sum names.
const NAMED_MAX: usize = 3;

/// The lines of each kind in its period. `E` is an example of the lines that were not written.
#[derive(Debug)]
pub(super) struct Flood<K, E> {
    kinds: HashMap<K, KindOfLine<E>>,
}

#[derive(Debug)]
struct KindOfLine<E> {
    since: Instant,
    written: u64,
    /// How many lines there were of each cause, and how many of them were not written.
    causes: BTreeMap<Box<str>, (u64, u64)>,
    /// The number of lines of further causes, none of which was written.
    others: u64,
    example: Option<E>,
}

/// The lines of one kind that were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwritten<E> {
    /// The number of lines.
    pub(super) count: u64,
    /// The time in which there were so many.
    pub(super) within: Duration,
    /// The causes with the most lines, with their numbers: `shop.buy (17), shop.sell (2), others (5)`. Empty if the
    /// lines are about nothing in particular.
    pub(super) about: String,
    /// One of the lines.
    pub(super) example: E,
}

impl<K, E> Default for Flood<K, E> {
    fn default() -> Self {
        Self { kinds: HashMap::new() }
    }
}

impl<K: Eq + Hash, E> Flood<K, E> {
    /// Returns whether a line of this kind about `about` is to be written now. One that is not is counted, with an
    /// example of it if it is the first.
    pub(super) fn admits(&mut self, kind: K, about: &str, now: Instant, example: impl FnOnce() -> E) -> bool {
        let kind = self.kinds.entry(kind).or_insert_with(|| KindOfLine::new(now));
        let is_written = kind.admits(about);
        if !is_written {
            kind.example.get_or_insert_with(example);
        }
        is_written
    }

    /// Removes the kinds whose period is over, and returns those with lines that were not written.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Unwritten<E>> {
        self.take(|kind| now.saturating_duration_since(kind.since) >= PERIOD, now)
    }

    /// Removes all kinds, and returns those with lines that were not written.
    pub(super) fn all(&mut self, now: Instant) -> Vec<Unwritten<E>> {
        self.take(|_| true, now)
    }

    /// Returns when the next period ends in which there are lines that were not written.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kinds.values().filter(|kind| kind.example.is_some()).map(|kind| kind.since + PERIOD).min()
    }

    fn take(&mut self, is_taken: impl Fn(&KindOfLine<E>) -> bool, now: Instant) -> Vec<Unwritten<E>> {
        let taken = self.kinds.extract_if(|_, kind| is_taken(kind));
        taken.filter_map(|(_, kind)| kind.unwritten(now)).collect()
    }
}

impl<E> KindOfLine<E> {
    fn new(since: Instant) -> Self {
        Self { since, written: 0, causes: BTreeMap::new(), others: 0, example: None }
    }

    fn admits(&mut self, about: &str) -> bool {
        if !self.causes.contains_key(about) {
            if self.causes.len() == CAUSES_MAX {
                self.others += 1;
                return false;
            }
            self.causes.insert(about.into(), (0, 0));
        }
        let Some((lines, unwritten)) = self.causes.get_mut(about) else { return false };
        let is_written = *lines == 0 || (*lines < OF_CAUSE_MAX && self.written < OF_KIND_MAX);
        *lines += 1;
        if is_written {
            self.written += 1;
        } else {
            *unwritten += 1;
        }
        is_written
    }

    fn unwritten(self, now: Instant) -> Option<Unwritten<E>> {
        let mut causes: Vec<(&str, u64)> = self
            .causes
            .iter()
            .filter(|(_, (_, count))| *count > 0)
            .map(|(about, (_, count))| (&**about, *count))
            .collect();
        let count = self.others + causes.iter().map(|(_, count)| count).sum::<u64>();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named = causes.iter().filter(|(about, _)| !about.is_empty()).take(NAMED_MAX);
        let mut shown: Vec<String> = named.clone().map(|(about, count)| format!("{about} ({count})")).collect();
        let others = count - named.map(|(_, count)| count).sum::<u64>();
        if others > 0 && !shown.is_empty() {
            shown.push(format!("others ({others})"));
        }
        let within = now.saturating_duration_since(self.since);
        Some(Unwritten { count, within, about: shown.join(", "), example: self.example? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A flood of one kind of line, and the time at which it begins.
    fn begin() -> (Flood<u8, String>, Instant) {
        (Flood::default(), Instant::now())
    }

    /// The number of these lines that are written.
    fn written<'a>(flood: &mut Flood<u8, String>, about: impl IntoIterator<Item = &'a str>, now: Instant) -> usize {
        about.into_iter().filter(|about| flood.admits(0, about, now, || format!("a line about {about}"))).count()
    }

    #[test]
    fn the_first_lines_of_each_cause_are_written() {
        let names: Vec<String> = (0..5000).map(|number| format!("task {number}")).collect();
        let names = || names.iter().map(String::as_str);
        let one = |count| std::iter::repeat_n("shop.buy", count);
        for (what, lines, expected) in [
            ("one line", vec!["shop.buy"], 1),
            ("a few of one cause", one(20).collect(), 20),
            ("many of one cause", one(10_000).collect(), 20),
            ("many about nothing", std::iter::repeat_n("", 10_000).collect(), 20),
            ("some of several causes", one(30).chain(std::iter::repeat_n("shop.sell", 5)).collect(), 25),
            ("a rare cause beside floods", names().take(50).cycle().take(5000).chain(["shop.rare"]).collect(), 101),
            ("more causes than are told apart", names().collect(), 100),
            ("many of many causes", names().take(200).cycle().take(10_000).collect(), 100),
            (
                "many of each cause, one after the other",
                names().take(200).flat_map(|name| std::iter::repeat_n(name, 30)).collect(),
                5 * 20 + 95,
            ),
        ] {
            let (mut flood, now) = begin();
            assert_eq!(written(&mut flood, lines.iter().copied(), now), expected, "{what}");
        }
    }

    #[test]
    fn unwritten_lines_are_summed_up_when_their_minute_is_over() {
        let (mut flood, start) = begin();
        let after = |seconds| start + Duration::from_secs(seconds);
        let lines = |name, count| std::iter::repeat_n(name, count);
        assert_eq!(flood.next(), None);
        assert_eq!(written(&mut flood, lines("a", 20), start), 20);
        assert_eq!(flood.next(), None, "everything was written");
        let flooded =
            lines("a", 7).chain(lines("b", 30)).chain(lines("c", 22)).chain(lines("d", 21)).chain(lines("e", 5));
        assert_eq!(written(&mut flood, flooded, after(10)), 65);
        assert_eq!(flood.next(), Some(after(60)));
        assert_eq!(flood.over(after(59)), []);
        let expected = Unwritten {
            count: 20,
            within: PERIOD,
            about: "b (10), a (7), c (2), others (1)".to_owned(),
            example: "a line about a".to_owned(),
        };
        assert_eq!(flood.over(after(60)), [expected]);
        assert_eq!((flood.next(), flood.over(after(600))), (None, vec![]), "they are told once");
        // The next minute begins with the next line.
        assert_eq!(written(&mut flood, lines("", 22), after(70)), 20);
        let expected = Unwritten {
            count: 2,
            within: Duration::from_secs(5),
            about: String::new(),
            example: "a line about ".to_owned(),
        };
        assert_eq!(flood.over(after(75)), []);
        assert_eq!(flood.all(after(75)), [expected], "the process ends");
    }

    #[test]
    fn kinds_have_minutes_of_their_own() {
        let (mut flood, start) = begin();
        for kind in [1, 2] {
            for _ in 0..21 {
                flood.admits(kind, "a", start + Duration::from_secs(u64::from(kind)), String::new);
            }
        }
        assert_eq!(flood.over(start + Duration::from_secs(61)).len(), 1);
        assert_eq!(flood.over(start + Duration::from_secs(62)).len(), 1);
    }

    proptest! {
        #[test]
        fn every_line_is_written_or_counted_and_few_are_written(names in prop::collection::vec(0_u8..200, 0..2000)) {
            let (mut flood, now) = begin();
            let names: Vec<String> = names.iter().map(u8::to_string).collect();
            let written = written(&mut flood, names.iter().map(String::as_str), now);
            prop_assert!(written <= OF_KIND_MAX as usize + CAUSES_MAX);
            let counted: u64 = flood.all(now).iter().map(|sum| sum.count).sum();
            prop_assert_eq!(written + counted as usize, names.len());
        }
    }
}
