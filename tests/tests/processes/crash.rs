//! Workers that die: `kill -9` in the middle of the work, and an abort at each gap of settling. Nothing is lost,
//! nothing forks, everything ends once, and what ran twice is no more than what the dead had in hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, scope};
use std::time::{Duration, Instant};

use taskq::client::DeadEntry;
use taskq::{Call, Client, TaskId, TaskState};
use taskq_tests::harness::{
    App, Audit, Deaths, Expected, Ledger, Process, Servers, Vhost, now_ms, unique, wait_within,
};
use taskq_tests::tasks;

/// The claims of a dead worker hold for some seconds, and may follow each other.
const PATIENCE: Duration = Duration::from_secs(120);

/// The variable that sets the number of crashes at each gap.
const CRASHES_VARIABLE: &str = "TASKQ_TEST_CRASHES";

/// The number of crashes at each gap if [`CRASHES_VARIABLE`] is not set: a sample for each change. `scripts/nightly`
/// and `scripts/torture` count 50.
const CRASHES: usize = 10;

/// The number of crashes at each of the widest gaps in the long test.
const MANY_CRASHES: usize = 1000;

/// How many gaps are crashed at side by side.
const SIDE_BY_SIDE: usize = 3;

/// How many attempts of a crashing worker run at once: few, so that it is quick to start and to die.
const CRASH_CONCURRENCY: usize = 2;

/// The prefix of the keys of results, and of the channels on which they are published.
const RESULT_PREFIX: &str = "celery-task-meta-";

/// Servers, a client and a runtime to drive it.
struct Fixture {
    vhost: Vhost,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn start() -> Option<Self> {
        let vhost = Vhost::create(&Servers::from_env()?)?;
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
        let builder = Client::builder().broker(&vhost.servers.amqp).results(&vhost.servers.redis);
        let client = runtime.block_on(builder.build()).expect("the servers are up");
        Some(Self { vhost, client, runtime })
    }

    fn shop(&self) -> App {
        App::new(env!("CARGO_BIN_EXE_shop")).servers(&self.vhost.servers)
    }

    fn send<T: 'static>(&self, calls: Vec<Call<T>>) {
        let report = self.runtime.block_on(async { self.client.send_all(calls).await });
        report.all().expect("every task is accepted");
    }

    /// How many of these tasks have not ended.
    fn unended(&self, tasks: &[Expected]) -> usize {
        let ids: Vec<TaskId> = tasks.iter().map(|task| task_id(&task.id)).collect();
        let results = self.client.results().expect("there is a backend");
        let records = self.runtime.block_on(results.read(&ids)).expect("Redis is up");
        records.iter().filter(|record| !record.as_ref().is_some_and(|record| record.state.is_terminal())).count()
    }

    /// How many messages are ready in these queues.
    fn ready<Q: AsRef<str>>(&self, queues: impl IntoIterator<Item = Q>) -> u64 {
        let broker = self.client.broker();
        let ready = |queue: Q| match self.runtime.block_on(broker.stats(queue.as_ref())) {
            Ok(stats) => stats.ready,
            // A level of the ladder that nobody has needed yet.
            Err(taskq::broker::BrokerError::NoQueue { .. }) => 0,
            Err(error) => panic!("{error}"),
        };
        queues.into_iter().map(ready).sum()
    }

    /// How many messages wait on the ladder, up to delays that are longer than any here.
    fn delayed(&self) -> u64 {
        self.ready((0..12).map(|level| format!("taskq.delay.{level}")))
    }

    fn dead(&self) -> Vec<DeadEntry> {
        self.runtime.block_on(self.client.dead().list(usize::MAX)).expect("the dead set can be read")
    }
}

/// Waits until nothing is `left`, at many looks in a row: a copy that a worker holds for the moment is nowhere to be
/// seen.
fn wait_until_empty(left: impl Fn() -> u64) {
    let mut looks = 0;
    wait_within("nothing is left", PATIENCE, || {
        looks = if left() == 0 { looks + 1 } else { 0 };
        (looks >= 20).then_some(())
    });
}

fn task_id(id: &str) -> TaskId {
    TaskId::parse(id).expect("the ids of these tests are good ones")
}

type EndsById = BTreeMap<String, Vec<(TaskState, u32)>>;

/// Every terminal record of the tasks whose ids begin alike, from the moment of watching: each that is stored is
/// published, and one that loses is not.
struct Ends {
    over: Arc<AtomicBool>,
    listener: JoinHandle<EndsById>,
}

impl Ends {
    fn watch(url: &str, prefix: &str) -> Self {
        let client = redis::Client::open(url).expect("a good URL");
        let mut connection = client.get_connection().expect("Redis is up");
        let pattern = format!("{RESULT_PREFIX}{prefix}*");
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let (ready, subscribed) = std::sync::mpsc::channel();
        let listener = std::thread::spawn(move || {
            let mut messages = connection.as_pubsub();
            messages.psubscribe(pattern).expect("Redis takes subscriptions");
            messages.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out can be set");
            ready.send(()).expect("somebody waits for this");
            let mut ends = EndsById::new();
            loop {
                match messages.get_message() {
                    Ok(message) => note_end(&mut ends, message.get_channel_name(), message.get_payload_bytes()),
                    // Nothing more has come since everything was over.
                    Err(error) if error.is_timeout() && stop.load(Ordering::Acquire) => return ends,
                    Err(error) if error.is_timeout() => {}
                    Err(error) => panic!("the subscription broke: {error}"),
                }
            }
        });
        subscribed.recv().expect("the subscription is made");
        Self { over, listener }
    }

    fn finish(self) -> EndsById {
        self.over.store(true, Ordering::Release);
        self.listener.join().expect("the listener ends in good order")
    }
}

fn note_end(ends: &mut EndsById, channel: &str, document: &[u8]) {
    let id = task_id(channel.trim_start_matches(RESULT_PREFIX));
    let record = taskq::internal::codec::result::decode(&id, document).expect("records can be read");
    if record.state.is_terminal() {
        ends.entry(record.id.to_string()).or_default().push((record.state, record.attempt));
    }
}

#[test]
fn killed_workers_lose_nothing_and_repeat_only_what_they_had_in_hand() {
    const TASKS: usize = 1000;
    const CONCURRENCY: usize = 8;
    let prefix = unique("killed");
    let Some(fixture) = Fixture::start() else { return };
    let ends = Ends::watch(&fixture.vhost.servers.redis, &prefix);
    let (queue, ledger) = (unique("killed"), Ledger::new());
    let ids: Vec<String> = (0..TASKS).map(|number| format!("{prefix}-{number}")).collect();
    fixture.send(ids.iter().map(|id| tasks::ledger(ledger.path(), "-", 20).queue(queue.clone()).id(id)).collect());

    let start = || {
        let concurrency = CONCURRENCY.to_string();
        fixture.shop().start(&["worker", "--unsupervised", "-c", &concurrency, "-Q", &queue, "-l", "error"])
    };
    let mut deaths = Deaths::default();
    let mut worker = start();
    for share in [200, 450, 700] {
        worker.wait_for("a part of the tasks has run", |_| (ledger.len() >= share).then_some(()));
        deaths.kill(worker);
        let ran = ledger.len();
        assert!(ran < TASKS, "the worker was to be killed while it works, and {ran} tasks had run");
        worker = start();
    }
    let expected: Vec<_> =
        ids.into_iter().map(|id| Expected { id, last_attempt: 0, state: TaskState::Success }).collect();
    wait_within("every task has ended", PATIENCE, || (fixture.unended(&expected) == 0).then_some(()));
    wait_until_empty(|| fixture.ready([&queue]) + fixture.delayed());
    worker.drain();
    assert_eq!(fixture.ready([&queue]) + fixture.delayed(), 0, "acknowledged, all of them");
    assert!(fixture.dead().is_empty(), "none failed");

    let (entries, ends) = (ledger.entries(), ends.finish());
    let audit = Audit {
        expected: &expected,
        entries: &entries,
        deaths: &deaths,
        concurrency: CONCURRENCY,
        ends: &ends,
        dead: &[],
    };
    let findings = audit.assert_kept("killed workers");
    println!("{TASKS} tasks, {} kills: {} runs were repeated", deaths.len(), findings.duplicated);
}

/// The outcome of the tasks of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Retry,
    Failure,
}

/// A point in the code where workers crash, and what their tasks come to.
#[derive(Debug, Clone, Copy)]
struct Gap {
    point: &'static str,
    outcome: Outcome,
}

/// The crashes at one gap, and the tasks that were sent for them.
struct Story {
    gap: Gap,
    queue: String,
    ledger: Ledger,
    expected: Vec<Expected>,
    deaths: Deaths,
}

impl Gap {
    fn all() -> VecDeque<Self> {
        let points = [
            "run.ended",
            "settle.begun",
            "settle.recorded",
            "settle.published",
            "settle.finished",
            "settle.acknowledged",
        ];
        let outcomes = [Outcome::Success, Outcome::Retry, Outcome::Failure];
        let all = points.into_iter().flat_map(|point| outcomes.map(|outcome| Self { point, outcome }));
        // Nothing follows a success, so nothing is published.
        all.filter(|gap| gap.point != "settle.published" || gap.outcome != Outcome::Success).collect()
    }

    /// Between effect and record, between record and what follows, between that and the acknowledgement, and between
    /// record and acknowledgement where nothing follows.
    fn widest() -> VecDeque<Self> {
        use Outcome::{Retry, Success};
        let gaps = [
            ("run.ended", Success),
            ("settle.recorded", Retry),
            ("settle.published", Retry),
            ("settle.finished", Success),
        ];
        gaps.map(|(point, outcome)| Self { point, outcome }).into()
    }

    /// Crashes workers here until `crashes` of them have died.
    fn crash(self, fixture: &Fixture, prefix: &str, crashes: usize) -> Story {
        let queue = unique(self.point);
        let mut story =
            Story { gap: self, queue, ledger: Ledger::new(), expected: Vec::new(), deaths: Deaths::default() };
        while story.deaths.len() < crashes {
            // From the first settlement to the third: what comes back takes other ways than what comes first.
            let survived = story.deaths.len() % 3;
            story.send(fixture, prefix, 2 + survived);
            let action = if survived == 0 { "return".to_owned() } else { format!("{survived}*off->1*return") };
            let since = now_ms();
            let mut worker = story.worker(&fixture.shop().env("FAILPOINTS", &format!("{}={action}", self.point)));
            let mut fed = Instant::now();
            wait_within(&format!("a worker has crashed: {self:?}"), PATIENCE, || {
                if worker.has_ended() {
                    return Some(());
                }
                // Several ends are settled at once, and what is claimed waits: there may be too little left to crash
                // at.
                if fed.elapsed() > Duration::from_millis(500) {
                    story.send(fixture, prefix, 1);
                    fed = Instant::now();
                }
                None
            });
            let pid = worker.id();
            let ended = worker.finish();
            story.deaths.note(pid, since);
            assert_eq!(ended.exit, -1, "{self:?}: it was to be ended by a signal\n{ended}");
            assert!(!ended.stderr.contains("panicked"), "{self:?}: {ended}");
        }
        story
    }
}

impl Story {
    fn worker(&self, shop: &App) -> Process {
        // What is looked at is one process and its end.
        let concurrency = CRASH_CONCURRENCY.to_string();
        shop.start(&["worker", "--unsupervised", "-c", &concurrency, "-Q", &self.queue, "-l", "error"])
    }

    /// Sends so many more tasks. Half of them come by the delay ladder, and are claimed before they run.
    fn send(&mut self, fixture: &Fixture, prefix: &str, count: usize) {
        let Gap { point, outcome } = self.gap;
        let (last_attempt, state) = match outcome {
            Outcome::Success => (0, TaskState::Success),
            Outcome::Retry => (2, TaskState::Success),
            Outcome::Failure => (0, TaskState::Failure),
        };
        for _ in 0..count {
            let number = self.expected.len();
            let id = format!("{prefix}-{}-{number}", self.queue);
            let claimed = point == "settle.finished" || number % 2 == 1;
            let (path, queue) = (self.ledger.path(), self.queue.clone());
            match outcome {
                Outcome::Success => send_one(fixture, tasks::ledger(path, "-", 0).queue(queue), &id, claimed),
                Outcome::Retry => {
                    let call = tasks::ledger_flaky(path, "-", 0, last_attempt, 100);
                    send_one(fixture, call.queue(queue), &id, claimed);
                }
                Outcome::Failure => send_one(fixture, tasks::ledger_fail(path, "-", 0).queue(queue), &id, claimed),
            }
            self.expected.push(Expected { id, last_attempt, state: state.clone() });
        }
    }

    /// Everything that must hold of it, once everything is over.
    fn check(&self, ends: &EndsById, dead: &[DeadEntry], fixture: &Fixture) {
        let gap = self.gap;
        let entries = self.ledger.entries();
        let mine = |entry: &&DeadEntry| entry.letter.queue == self.queue;
        let dead_ids: Vec<String> = dead.iter().filter(mine).map(|entry| dead_id(entry).0).collect();
        // Each story has a share of all ends.
        let ends_of = |task: &Expected| Some((task.id.clone(), ends.get(&task.id)?.clone()));
        let own: EndsById = self.expected.iter().filter_map(ends_of).collect();
        let audit = Audit {
            expected: &self.expected,
            entries: &entries,
            deaths: &self.deaths,
            concurrency: CRASH_CONCURRENCY,
            ends: &own,
            dead: &dead_ids,
        };
        let findings = audit.assert_kept(&format!("{gap:?}"));
        let (tasks, crashes) = (self.expected.len(), self.deaths.len());
        println!("{gap:?}: {crashes} crashes, {tasks} tasks, {} runs were repeated", findings.duplicated);

        let dead: BTreeSet<_> = dead.iter().filter(mine).map(dead_id).collect();
        let failed = self.expected.iter().filter(|task| task.state == TaskState::Failure);
        let failed: BTreeSet<_> = failed.map(|task| (task.id.clone(), "failed".to_owned(), 1)).collect();
        assert_eq!(dead, failed, "{gap:?}: the dead are those that failed");

        for task in &self.expected {
            let handle = fixture.client.handle::<()>(task_id(&task.id));
            let status = fixture.runtime.block_on(handle.status()).expect("Redis is up");
            let value = status.value.map_or_else(|| "none".to_owned(), |value| value.get().to_owned());
            let failure = status.failure.map(|failure| failure.message());
            let expected = match gap.outcome {
                Outcome::Success => ("null", None),
                Outcome::Retry => ("2", None),
                Outcome::Failure => ("none", Some("noted, and failed")),
            };
            assert_eq!((value.as_str(), failure.as_deref()), expected, "{gap:?}: {}", task.id);
        }
    }
}

fn dead_id(entry: &DeadEntry) -> (String, String, u32) {
    let id = entry.id.as_ref().map_or_else(String::new, TaskId::to_string);
    (id, entry.letter.reason.clone(), entry.letter.attempts)
}

fn send_one<T: 'static>(fixture: &Fixture, call: Call<T>, id: &str, claimed: bool) {
    let call = call.id(id);
    fixture.send(vec![if claimed { call.countdown(Duration::from_millis(100)) } else { call }]);
}

/// Returns the number of crashes at each gap: [`CRASHES_VARIABLE`] if it is set, otherwise [`CRASHES`].
fn crashes_at_each_gap() -> usize {
    let Ok(count) = std::env::var(CRASHES_VARIABLE) else { return CRASHES };
    let count = count.parse().ok().filter(|count| *count > 0);
    count.unwrap_or_else(|| panic!("{CRASHES_VARIABLE} is to be a number of crashes, at least 1"))
}

#[test]
fn a_crash_at_any_gap_of_settling_repeats_a_step_and_skips_none() {
    crash_at(Gap::all(), crashes_at_each_gap());
}

#[test]
#[ignore = "takes many minutes"]
fn a_thousand_crashes_at_the_widest_gaps_repeat_a_step_and_skip_none() {
    crash_at(Gap::widest(), MANY_CRASHES);
}

/// Crashes workers so often at each of these gaps, and looks at what became of everything.
fn crash_at(gaps: VecDeque<Gap>, crashes: usize) {
    let prefix = unique("gap");
    let Some(fixture) = Fixture::start() else { return };
    let ends = Ends::watch(&fixture.vhost.servers.redis, &prefix);
    let gaps = Mutex::new(gaps);
    let next = || gaps.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    // Those that are done crashing are finished by a last worker while others crash: leases take their time.
    let finished = Mutex::new(Vec::new());
    scope(|threads| {
        for _ in 0..SIDE_BY_SIDE {
            threads.spawn(|| {
                while let Some(gap) = next() {
                    let story = gap.crash(&fixture, &prefix, crashes);
                    let worker = story.worker(&fixture.shop());
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push((story, worker));
                }
            });
        }
    });
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (story, _) in &finished {
        wait_within(&format!("every task has ended: {:?}", story.gap), PATIENCE, || {
            (fixture.unended(&story.expected) == 0).then_some(())
        });
    }
    // Copies that are still on their way would show a fork only now.
    let left = || fixture.delayed() + fixture.ready(finished.iter().map(|(story, _)| &story.queue));
    wait_until_empty(left);
    let (stories, workers): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
    for worker in workers {
        worker.drain();
    }
    let left = fixture.delayed() + fixture.ready(stories.iter().map(|story: &Story| &story.queue));
    assert_eq!(left, 0, "acknowledged, all of them");

    let dead = fixture.dead();
    let ends = ends.finish();
    for story in &stories {
        story.check(&ends, &dead, &fixture);
    }
}
