//! Whole beats in memory, with a manual clock and time that passes as fast as it can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use futures_util::future::BoxFuture;
use taskq::TaskId;
use taskq::backend::memory::MemoryBackend;
use taskq::backend::{BackendError, Kv, Put, SharedKv};
use taskq::client::Client;
use taskq::definition::Registry;
use taskq::internal::clock::Clock;
use taskq::settings::Settings;
use tokio::task::JoinHandle;

use super::beat::Beat;
use super::status::{BeatControl, BeatSummary};
use crate::due::{Handled, MissReason};
use crate::entry::{Entry, Misfire, OnDoubt, Origin};
use crate::schedule::Schedule;
use crate::store::{EventKind, Facts, Pending, Store};

/// A store that goes away when it is told to, and can lose answers.
#[derive(Debug)]
struct FaultyKv {
    inner: SharedKv,
    is_away: AtomicBool,
    /// The number of conditional changes that will be made and answered by an error.
    answers_lost: AtomicUsize,
}

impl FaultyKv {
    fn check(&self) -> Result<(), BackendError> {
        if self.is_away.load(Ordering::Relaxed) { Err(away()) } else { Ok(()) }
    }
}

fn away() -> BackendError {
    BackendError::Failed { what: "anything".to_owned(), source: "it is away".into() }
}

impl Kv for FaultyKv {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        Box::pin(async move {
            self.check()?;
            self.inner.get(key).await
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            self.check()?;
            self.inner.put(key, value, ttl).await
        })
    }

    fn compare_and_put<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            self.check()?;
            let put = self.inner.compare_and_put(key, expected, value, ttl).await?;
            let less = |left: usize| left.checked_sub(1);
            match self.answers_lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
                Ok(_) => Err(away()),
                Err(_) => Ok(put),
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expected: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        Box::pin(async move {
            self.check()?;
            self.inner.delete(key, expected).await
        })
    }

    fn scan<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        Box::pin(async move {
            self.check()?;
            self.inner.scan(prefix).await
        })
    }
}

struct BeatInMemory {
    client: Client,
    clock: Clock,
    faulty: Arc<FaultyKv>,
    store: Store,
    entries: BTreeMap<String, Entry>,
}

impl BeatInMemory {
    async fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let url = format!("memory:{}", TaskId::new());
        let clock = Clock::manual(DateTime::from_timestamp(1_800_000_000, 500_000_000).expect("a moment"));
        let builder = Client::builder().settings(Settings::default()).broker(&url).results(&url).clock(clock.clone());
        let client = builder.build().await.expect("memory is always there");
        let inner: SharedKv = MemoryBackend::shared(&url);
        let faulty = Arc::new(FaultyKv { inner, is_away: AtomicBool::new(false), answers_lost: AtomicUsize::new(0) });
        let store = Store::new(Arc::clone(&faulty) as SharedKv);
        let entries = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        Self { client, clock, faulty, store, entries }
    }

    async fn start(&self) -> (BeatControl, JoinHandle<BeatSummary>) {
        let builder = Beat::builder(self.client.clone()).registry(Registry::default());
        let beat = builder.store(self.store.clone()).entries(self.entries.clone()).build().await.expect("it is well");
        let control = beat.control();
        let running = tokio::spawn(beat.work());
        (control, running)
    }

    /// Lets both clocks pass so many seconds.
    async fn pass(&self, seconds: u32) {
        for _ in 0..seconds * 4 {
            self.clock.advance(TimeDelta::milliseconds(250));
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Returns the ids of all tasks that were sent.
    async fn sent(&self) -> Vec<String> {
        let queue = self.client.declare("default").await.expect("memory");
        let browse = self.client.broker().browse(&queue, 10_000).await.expect("memory");
        let ids = browse
            .deliveries
            .iter()
            .map(|delivery| delivery.message.headers.text("id").expect("it has one").to_owned());
        ids.collect()
    }

    async fn facts(&self, name: &str) -> Facts {
        self.store.facts_of(name).await.expect("memory").expect("something is known")
    }

    async fn missed(&self, name: &str) -> Vec<(u64, MissReason)> {
        let history = self.store.history_of(name).await.expect("memory");
        let missed = history.events().iter().filter_map(|event| match &event.kind {
            EventKind::Missed(missed) => Some((missed.count, missed.reason)),
            EventKind::Fired { .. } | EventKind::Asked { .. } => None,
        });
        missed.collect()
    }
}

fn every_second(name: &str) -> Entry {
    let every = Schedule::every(Duration::from_secs(1), DateTime::UNIX_EPOCH).expect("it is long enough");
    Entry::new(name, "t", every, Origin::RunTime)
}

fn assert_each_once(sent: &[String]) {
    let unique: BTreeSet<_> = sent.iter().collect();
    assert_eq!(unique.len(), sent.len(), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_neither_floods_nor_stops_it_nor_repeats_a_slot() {
    let fixture = BeatInMemory::new([every_second("tick")]).await;
    let (control, running) = fixture.start().await;
    let mut before = 0;
    let mut jumps = [0, 3600, -3600, 7200, -7200].into_iter().enumerate().collect::<Vec<_>>();
    for (index, seconds) in jumps.drain(..) {
        fixture.clock.advance(TimeDelta::seconds(seconds));
        fixture.pass(20).await;
        let sent = fixture.sent().await;
        assert_each_once(&sent);
        let new = sent.len() - before;
        assert!((15..=25).contains(&new), "{new} slots in 20 seconds after jump {index}, of {seconds} s");
        before = sent.len();
    }
    control.stop();
    let summary = running.await.expect("it does not panic");
    assert_eq!(summary.fired as usize, before);
    assert!(fixture.missed("tick").await.iter().all(|(_, reason)| *reason == MissReason::Passed));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_over_what_was_fired_stops_neither_it_nor_its_successor() {
    let fixture = BeatInMemory::new([every_second("tick")]).await;
    let (control, running) = fixture.start().await;
    fixture.pass(3700).await;
    let mut before = fixture.sent().await.len();
    assert!((3690..=3710).contains(&before), "{before}");
    fixture.clock.advance(TimeDelta::hours(-1));
    fixture.pass(20).await;
    control.stop();
    running.await.expect("it does not panic");
    let (control, running) = fixture.start().await;
    for _ in 0..2 {
        let sent = fixture.sent().await;
        assert_each_once(&sent);
        let new = sent.len() - before;
        assert!((15..=25).contains(&new), "{new} slots in 20 seconds");
        before = sent.len();
        fixture.pass(20).await;
    }
    control.stop();
    running.await.expect("it does not panic");
    assert_eq!(fixture.missed("tick").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_stops_it_and_everything_is_fired_or_listed() {
    let fixture = BeatInMemory::new([Entry { misfire: Misfire::Skip, ..every_second("tick") }]).await;
    let (control, running) = fixture.start().await;
    fixture.pass(10).await;
    fixture.faulty.is_away.store(true, Ordering::Relaxed);
    fixture.pass(8).await;
    let while_away = fixture.sent().await.len();
    fixture.pass(60).await;
    assert_eq!(fixture.sent().await.len(), while_away, "nothing is sent without trust");
    fixture.faulty.is_away.store(false, Ordering::Relaxed);
    fixture.pass(20).await;
    control.stop();
    running.await.expect("it does not panic");
    let sent = fixture.sent().await;
    assert_each_once(&sent);
    let missed: u64 = fixture.missed("tick").await.iter().map(|(count, _)| count).sum();
    let facts = fixture.facts("tick").await;
    let slots = |id: &String| DateTime::parse_from_rfc3339(&id["tick@".len()..]).expect("a slot").timestamp();
    let (first, last) = (sent.iter().map(slots).min().expect("some"), sent.iter().map(slots).max().expect("some"));
    assert_eq!((last - first + 1) as u64, sent.len() as u64 + missed, "each slot is fired or listed");
    assert_eq!((facts.fired_count, facts.missed_count), (sent.len() as u64, missed));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_costs_no_slot_and_repeats_none() {
    for on_doubt in [OnDoubt::Again, OnDoubt::Skip] {
        let fixture = BeatInMemory::new([Entry { on_doubt, misfire: Misfire::All, ..every_second("tick") }]).await;
        let (control, running) = fixture.start().await;
        fixture.pass(5).await;
        for _ in 0..4 {
            fixture.faulty.answers_lost.store(1, Ordering::Relaxed);
            fixture.pass(5).await;
        }
        control.stop();
        running.await.expect("it does not panic");
        let sent = fixture.sent().await;
        assert_each_once(&sent);
        assert!(sent.len() >= 20 && fixture.missed("tick").await.is_empty(), "{on_doubt}: {sent:?}");
        assert_eq!(fixture.facts("tick").await.pending, []);
    }
}

#[tokio::test(start_paused = true)]
async fn slots_claimed_by_another_leader_are_sent_again_or_listed() {
    let nightly = |name: &str, on_doubt| {
        let schedule = Schedule::cron("0 3 * * *", "UTC").expect("a line");
        Entry { on_doubt, ..Entry::new(name, "t", schedule, Origin::RunTime) }
    };
    let fixture = BeatInMemory::new([nightly("again", OnDoubt::Again), nightly("skip", OnDoubt::Skip)]).await;
    let slot: DateTime<chrono::Utc> = "2027-01-15T03:00:00Z".parse().expect("a moment");
    for name in ["again", "skip"] {
        let pending = Pending { slot, due: slot, expires: None };
        let facts = Facts { pending: vec![pending], term: 1, ..Facts::new(Handled::since(fixture.clock.now())) };
        fixture.store.save_facts(name, None, &facts).await.expect("memory");
    }
    let (control, running) = fixture.start().await;
    fixture.pass(3).await;
    control.stop();
    running.await.expect("it does not panic");
    assert_eq!(fixture.sent().await, ["again@2027-01-15T03:00:00Z"]);
    assert_eq!(fixture.missed("skip").await, [(1, MissReason::InDoubt)]);
    let history = fixture.store.history_of("again").await.expect("memory");
    assert!(matches!(history.events()[0].kind, EventKind::Fired { again: true, .. }), "{history:?}");
    for name in ["again", "skip"] {
        assert_eq!(fixture.facts(name).await.pending, []);
    }
}

#[tokio::test(start_paused = true)]
async fn facts_of_a_newer_version_block_their_entry_alone_and_are_kept() {
    let fixture = BeatInMemory::new([every_second("newer"), every_second("tick")]).await;
    let facts = Bytes::from_static(br#"{"v":2}"#);
    fixture.store.kv().put("beat/facts/newer", facts.clone(), None).await.expect("memory");
    let (control, running) = fixture.start().await;
    fixture.pass(2).await;
    // Slots are missed meanwhile, which the history of an entry with known facts lists.
    fixture.clock.advance(TimeDelta::seconds(60));
    fixture.pass(5).await;
    control.stop();
    running.await.expect("it does not panic");
    let sent = fixture.sent().await;
    assert!(sent.len() >= 5 && sent.iter().all(|id| id.starts_with("tick@")), "{sent:?}");
    assert_eq!(fixture.missed("newer").await, []);
    assert!(!fixture.missed("tick").await.is_empty());
    assert_eq!(fixture.store.kv().get("beat/facts/newer").await.expect("memory"), Some(facts));
}

#[tokio::test(start_paused = true)]
async fn state_of_a_newer_version_keeps_a_beat_from_leading() {
    let fixture = BeatInMemory::new([every_second("tick")]).await;
    let known = Bytes::from_static(br#"{"v":2}"#);
    fixture.store.kv().put("beat/known", known.clone(), None).await.expect("memory");
    let (control, running) = fixture.start().await;
    fixture.pass(5).await;
    assert!(!control.status().leads);
    assert_eq!(fixture.store.kv().get("beat/leader").await.expect("memory"), None, "another beat may lead");
    control.stop();
    running.await.expect("it does not panic");
    assert_eq!(fixture.sent().await, Vec::<String>::new());
    assert_eq!(fixture.store.kv().get("beat/known").await.expect("memory"), Some(known));
}

#[tokio::test(start_paused = true)]
async fn changes_at_run_time_take_effect_while_it_runs() {
    let fixture = BeatInMemory::new([every_second("fixed")]).await;
    let (control, running) = fixture.start().await;
    fixture.pass(3).await;
    assert!(fixture.store.add(&every_second("added"), fixture.clock.now()).await.expect("memory"));
    assert!(!fixture.store.add(&every_second("added"), fixture.clock.now()).await.expect("memory"), "there is one");
    fixture.pass(5).await;
    assert!(fixture.facts("added").await.fired_count >= 2);
    for name in ["fixed", "added"] {
        assert!(fixture.store.pause(name, true, fixture.clock.now()).await.expect("memory"));
    }
    fixture.pass(3).await;
    let paused = fixture.sent().await.len();
    fixture.pass(30).await;
    assert_eq!(fixture.sent().await.len(), paused, "nothing is sent");
    assert!(fixture.store.pause("fixed", false, fixture.clock.now()).await.expect("memory"));
    assert!(fixture.store.remove("added").await.expect("memory"));
    fixture.pass(5).await;
    control.stop();
    running.await.expect("it does not panic");
    let facts = fixture.facts("fixed").await;
    assert!(
        facts.missed_count <= 1 && facts.last.expect("one was sent").slot > fixture.clock.now() - TimeDelta::seconds(3)
    );
    assert_eq!(fixture.store.facts_of("added").await.expect("memory"), None);
    assert_each_once(&fixture.sent().await);
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_one_slot_is_removed_a_day_after_it_and_its_history_stays() {
    let fixture = BeatInMemory::new([]).await;
    let once = |slot| Entry::new("launch", "t", Schedule::once(slot), Origin::RunTime);
    let slot = fixture.clock.now() + TimeDelta::seconds(5);
    let (control, running) = fixture.start().await;
    assert!(fixture.store.add(&once(slot), fixture.clock.now()).await.expect("memory"));
    fixture.pass(3600).await;
    assert_eq!(fixture.sent().await.len(), 1);
    let there = fixture.store.override_of("launch").await.expect("memory").added;
    assert!(there.is_some() && control.status().entries == 1, "it is still to be seen");
    fixture.clock.advance(TimeDelta::hours(23));
    fixture.pass(700).await;
    assert_eq!(fixture.store.overrides().await.expect("memory"), [], "it is gone");
    assert_eq!((fixture.store.facts_of("launch").await.expect("memory"), control.status().entries), (None, 0));
    assert_eq!(fixture.store.history_of("launch").await.expect("memory").events().len(), 1);
    // The name is free again, and the new slot is listed with the old one.
    assert!(
        fixture
            .store
            .add(&once(fixture.clock.now() + TimeDelta::seconds(5)), fixture.clock.now())
            .await
            .expect("memory")
    );
    fixture.pass(10).await;
    assert_eq!(fixture.store.history_of("launch").await.expect("memory").events().len(), 2);
    control.stop();
    running.await.expect("it does not panic");
    assert_each_once(&fixture.sent().await);
}

/// Two programs on one store with groups of their own: each leads and sends.
#[tokio::test(start_paused = true)]
async fn groups_know_nothing_of_each_other() {
    let fixture = BeatInMemory::new([every_second("tick")]).await;
    let shared = Arc::clone(&fixture.faulty) as SharedKv;
    let mut beats = Vec::new();
    for store in [Store::new(Arc::clone(&shared)), Store::of_group(shared, "billing")] {
        let builder = Beat::builder(fixture.client.clone()).registry(Registry::default());
        let beat = builder.store(store.clone()).entries(fixture.entries.clone()).build().await.expect("it is well");
        beats.push((store, beat.control(), tokio::spawn(beat.work())));
    }
    fixture.pass(5).await;
    assert!(beats.iter().all(|(_, control, _)| control.status().leads));
    let billing = &beats[1].0;
    assert!(billing.pause("tick", true, fixture.clock.now()).await.expect("memory"));
    assert_eq!(fixture.store.overrides().await.expect("memory"), [], "it is the other group's");
    assert_eq!(billing.overrides().await.expect("memory").len(), 1);
    fixture.pass(5).await;
    for (_, control, running) in beats {
        control.stop();
        running.await.expect("it does not panic");
    }
    let sent = fixture.sent().await;
    assert_each_once(&sent);
    let theirs = sent.iter().filter(|id| id.starts_with("billing/tick@")).count();
    assert!((3..=7).contains(&theirs) && sent.len() - theirs >= 8, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn of_three_one_fires_and_the_next_goes_on_at_once_when_it_stops() {
    let fixture = BeatInMemory::new([every_second("tick")]).await;
    let mut beats = Vec::new();
    for _ in 0..3 {
        beats.push(fixture.start().await);
        fixture.pass(2).await;
    }
    let mut leaders = Vec::new();
    while let Some(index) = beats.iter().position(|(control, _)| control.status().leads) {
        assert_eq!(beats.iter().filter(|(control, _)| control.status().leads).count(), 1);
        let (control, running) = beats.remove(index);
        control.stop();
        leaders.push(running.await.expect("it does not panic").fired);
        fixture.pass(3).await;
    }
    assert_eq!(leaders.len(), 3, "each has led");
    let sent = fixture.sent().await;
    assert_each_once(&sent);
    assert_eq!(leaders.iter().sum::<u64>() as usize, sent.len());
    assert_eq!(fixture.missed("tick").await, []);
}
