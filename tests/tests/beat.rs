//! Beat as its users see it, in real processes: beats that die and freeze, slots that were missed, entries that change while it
//! runs, mistakes, and many entries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;
use taskq_tests::harness::{App, Finished, Folder, Ledger, Process, Servers, now_ms, unique, wait_until, wait_within};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// A folder with a `taskq.toml` and, if nothing else is said there, the embedded file.
struct Stage {
    folder: Folder,
    app: App,
    ledger: Ledger,
}

impl Stage {
    /// `settings` come first in the file, `entries` give each entry's name and keys. `LEDGER` stands for the ledger's path.
    fn new(settings: &str, entries: &[(&str, &str)]) -> Self {
        let (folder, ledger) = (Folder::new("beat"), Ledger::new());
        let app = App::new(SHOP).folder(&folder);
        let stage = Self { folder, app, ledger };
        stage.write(settings, entries);
        stage
    }

    fn write(&self, settings: &str, entries: &[(&str, &str)]) {
        let mut text = format!("{settings}\n");
        for (name, keys) in entries {
            write!(text, "[schedule.{name}]\n{}\n", keys.replace("LEDGER", self.ledger.path())).expect("it is a text");
        }
        std::fs::write(self.folder.path().join("taskq.toml"), text).expect("the folder can be written");
    }

    fn worker(&self) -> Process {
        let mut worker = self.app.start(&["worker", "--unsupervised", "-c", "8"]);
        worker.wait_until_ready();
        worker
    }

    fn beat(&self, name: &str) -> Process {
        let mut beat = self.app.start(&["beat", "-n", name]);
        beat.wait_until_ready();
        beat
    }

    fn schedule(&self, arguments: &[&str]) -> Finished {
        self.app.run(&[&["schedule"], arguments].concat())
    }

    /// The name of the beat that leads, if one does.
    fn leader(&self, entry: &str) -> Option<String> {
        let leader = self.schedule(&["show", entry]).expect_exit(0).json()["leader"].clone();
        Some(leader["node"].as_str()?.split('@').next().expect("there is a first part").to_owned())
    }

    fn history(&self, entry: &str) -> Vec<Value> {
        self.schedule(&["history", entry]).expect_exit(0).json_lines()
    }

    /// How often each slot of an entry had an effect, by its time in seconds.
    fn effects(&self, entry: &str) -> BTreeMap<i64, usize> {
        let mut effects = BTreeMap::new();
        for noted in self.ledger.entries() {
            if let Some(slot) = noted.id.strip_prefix(&format!("{entry}@")) {
                *effects.entry(seconds(slot)).or_default() += 1;
            }
        }
        effects
    }
}

fn seconds(moment: &str) -> i64 {
    DateTime::parse_from_rfc3339(moment).unwrap_or_else(|error| panic!("{moment} is no slot: {error}")).timestamp()
}

fn moment(value: &Value) -> i64 {
    seconds(value.as_str().expect("a moment is a text"))
}

/// The slots, a second apart, that history says were missed.
fn missed(history: &[Value]) -> BTreeSet<i64> {
    let missed = history.iter().filter(|event| event["event"] == "missed");
    missed
        .flat_map(|event| {
            assert!(event["why"].is_string(), "it says why: {event}");
            moment(&event["first"])..=moment(&event["last"])
        })
        .collect()
}

const TICK: &str = "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"tick\", 0]\nevery = \"1s\"\nmisfire = \"all\"\n";

/// What became of three beats of which the leader was killed and frozen in turn.
struct Ordeal {
    slots: usize,
    fired: usize,
    missed: usize,
    doubles: usize,
    /// From each death to the next slot that had an effect, in milliseconds.
    gaps: Vec<u64>,
}

/// Kills the leader, and freezes it for longer than its lease, in turn, `rounds` times; looks at every slot afterwards.
fn torment(stage: &Stage, rounds: usize) -> Ordeal {
    let names = ["one", "two", "three"];
    let worker = stage.worker();
    let mut beats: BTreeMap<String, Process> =
        names.iter().map(|name| ((*name).to_owned(), stage.beat(name))).collect();
    let mut listed = BTreeSet::new();
    let mut gaps = Vec::new();
    let effects_after =
        |at: u64| stage.ledger.entries().iter().filter(|noted| noted.at_ms > at).map(|noted| noted.at_ms).min();
    wait_until("the first slot is fired", || (!stage.effects("tick").is_empty()).then_some(()));
    for round in 0..rounds {
        let leader = wait_until("one leads", || stage.leader("tick"));
        let at = now_ms();
        if round % 2 == 0 {
            beats.remove(&leader).expect("it is one of three").kill();
        } else {
            beats[&leader].signal("STOP");
        }
        let another = || stage.leader("tick").filter(|now| *now != leader);
        wait_within("another leads", Duration::from_secs(90), another);
        let next = wait_until("it fires", || effects_after(at + 500));
        gaps.push(next - at);
        if round % 2 == 0 {
            beats.insert(leader.clone(), stage.beat(&leader));
        } else {
            beats[&leader].signal("CONT");
            // It finds that it leads no more.
            let log = beats.get_mut(&leader).expect("it is one of three");
            log.wait_for("it has noticed", |beat| beat.stderr().contains("leads no more").then_some(()));
        }
        listed.extend(missed(&stage.history("tick")));
        let seen = stage.effects("tick").len();
        wait_until("slots go on", || (stage.effects("tick").len() > seen + 2).then_some(()));
    }
    for beat in beats.into_values() {
        beat.drain();
    }
    listed.extend(missed(&stage.history("tick")));
    // What was sent has run when there is nothing in the queue any more.
    wait_until("the worker is done", || {
        let sent = stage.schedule(&["show", "tick"]).expect_exit(0).json();
        let last = moment(&sent["last"]["slot"]);
        stage.effects("tick").contains_key(&last).then_some(())
    });
    worker.drain();
    let effects = stage.effects("tick");
    let (first, last) = (*effects.keys().next().expect("there is one"), *effects.keys().last().expect("there is one"));
    let all: BTreeSet<i64> = (first..=last).collect();
    let fired: BTreeSet<i64> = effects.keys().copied().collect();
    let unexplained: Vec<_> = all.iter().filter(|slot| !fired.contains(slot) && !listed.contains(slot)).collect();
    assert!(unexplained.is_empty(), "neither fired nor listed as missed: {unexplained:?}");
    Ordeal {
        slots: all.len(),
        fired: fired.len(),
        missed: listed.len(),
        doubles: effects.values().filter(|count| **count > 1).count(),
        gaps,
    }
}

fn judge(what: &str, ordeal: &Ordeal) {
    let Ordeal { slots, fired, missed, doubles, gaps } = ordeal;
    println!("{what}: {slots} slots, {fired} fired, {missed} listed as missed, {doubles} twice, gaps in ms {gaps:?}");
    assert_eq!(*doubles, 0, "no slot has two effects");
    assert!(fired * 100 >= slots * 95, "{fired} of {slots}");
}

#[test]
fn leaders_that_die_and_freeze_cost_no_slot_and_repeat_none_on_sqlite() {
    let stage = Stage::new("", &[("tick", TICK)]);
    judge("sqlite", &torment(&stage, 2));
}

/// A database of Redis that no other test uses, since beats that share a store are one scheduler.
fn redis_stage(database: u8, entries: &[(&str, &str)]) -> Option<Stage> {
    let servers = Servers::from_env()?;
    let redis = format!("{}/{database}", servers.redis.trim_end_matches("/0").trim_end_matches('/'));
    let mut connection = redis::Client::open(&*redis)
        .and_then(|client| client.get_connection())
        .expect("the Redis of the tests answers");
    redis::cmd("FLUSHDB").exec(&mut connection).expect("it can be emptied");
    let settings =
        format!("broker_url = \"{}\"\nresult_url = \"{redis}\"\ndefault_queue = \"{}\"", servers.amqp, unique("beat"));
    Some(Stage::new(&settings, entries))
}

#[test]
fn leaders_that_die_and_freeze_cost_no_slot_and_repeat_none_on_redis() {
    let Some(stage) = redis_stage(11, &[("tick", TICK)]) else { return };
    judge("redis", &torment(&stage, 2));
}

/// The long version of the two above: about two minutes each.
#[test]
#[ignore = "it takes about five minutes"]
fn leaders_that_die_and_freeze_for_minutes() {
    judge("sqlite", &torment(&Stage::new("", &[("tick", TICK)]), 12));
    let Some(stage) = redis_stage(12, &[("tick", TICK)]) else { return };
    judge("redis", &torment(&stage, 12));
}

#[test]
fn what_was_missed_while_no_beat_ran_is_treated_as_each_entry_says() {
    let entry = |misfire: &str| {
        format!(
            "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"{misfire}\", 0]\nevery = \"1s\"\nmisfire = \"{misfire}\"\n"
        )
    };
    let entries = ["skip", "one", "all"].map(|misfire| (misfire, entry(misfire)));
    let stage = Stage::new("", &entries.each_ref().map(|(name, keys)| (*name, keys.as_str())));
    let worker = stage.worker();
    let beat = stage.beat("first");
    wait_until("each has been fired", || {
        ["skip", "one", "all"].iter().all(|name| stage.effects(name).len() >= 2).then_some(())
    });
    beat.drain();
    let last = |name: &str| moment(&stage.schedule(&["show", name]).expect_exit(0).json()["last"]["slot"]);
    let before = ["skip", "one", "all"].map(last);
    let until = now_ms() / 1000 + 11;
    wait_until("ten slots have passed", || (now_ms() / 1000 > until).then_some(()));
    let back = i64::try_from(now_ms() / 1000).expect("it is small");
    let beat = stage.beat("second");
    wait_until("each goes on", || ["skip", "one", "all"].iter().all(|name| last(name) > back + 2).then_some(()));
    beat.drain();
    for (name, before) in ["skip", "one", "all"].into_iter().zip(before) {
        let end = last(name);
        wait_until("what was sent has run", || stage.effects(name).contains_key(&end).then_some(()));
        let (effects, history) = (stage.effects(name), stage.history(name));
        let listed = missed(&history);
        assert!(effects.values().all(|count| *count == 1), "{name}: {effects:?}");
        let while_away = before + 1..back;
        let fired = while_away.clone().filter(|slot| effects.contains_key(slot)).count();
        let whys: BTreeSet<_> = history.iter().filter_map(|event| event["why"].as_str()).collect();
        match name {
            "all" => assert_eq!((fired, listed.len()), (while_away.count(), 0), "{name}: {history:?}"),
            _ => {
                // The newest, which was still on time, stands for the others.
                assert!(listed.len() >= 9, "{name}: {history:?}");
                assert!(fired <= 1, "{name}: {effects:?}");
                assert_eq!(whys, BTreeSet::from(["passed"]), "{name}");
            }
        }
        let all: BTreeSet<i64> = (*effects.keys().next().expect("some")..=end).collect();
        assert!(
            all.iter().all(|slot| effects.contains_key(slot) != listed.contains(slot)),
            "{name}: each is one or the other"
        );
    }
    worker.drain();
}

#[test]
fn entries_are_changed_while_beat_runs() {
    let stage = Stage::new(
        "",
        &[("yearly", "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"yearly\", 0]\ncron = \"0 0 1 1 *\"\n")],
    );
    let worker = stage.worker();
    let beat = stage.beat("b@here");
    let path = stage.ledger.path();
    let added =
        stage.schedule(&["add", "often", "shop.ledger", path, "often", "0", "--every", "1s"]).expect_exit(0).json();
    assert_eq!((&added["name"], &added["words"]), (&Value::from("often"), &Value::from("every second")));
    wait_until("it is fired", || (stage.effects("often").len() >= 2).then_some(()));
    assert!(
        stage
            .schedule(&["add", "often", "shop.add", "2", "3", "--every", "1h"])
            .expect_exit(2)
            .stderr
            .contains("already")
    );

    let rows = stage.schedule(&["list"]).expect_exit(0).json_lines();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("it has a name")).collect();
    assert_eq!(names, ["often", "yearly"]);
    assert_eq!(rows[1]["words"], "at 00:00 on the 1st in January, UTC");
    assert!(rows[1]["next"].as_str().expect("there is one").ends_with("-01-01T00:00:00Z"), "{}", rows[1]);

    stage.schedule(&["pause", "often"]).expect_exit(0);
    let count = || stage.schedule(&["show", "often"]).expect_exit(0).json()["fired_count"].as_u64().expect("a number");
    // The leader hears of it within a second or so; then two seconds pass without a slot.
    wait_until("it is paused", || {
        let (before, at) = (count(), now_ms());
        wait_until("time passes", || (now_ms() > at + 2500).then_some(()));
        (count() == before).then_some(())
    });
    let paused = count();
    stage.schedule(&["resume", "often"]).expect_exit(0);
    wait_until("it goes on", || (count() > paused + 1).then_some(()));
    let shown = stage.schedule(&["show", "often"]).expect_exit(0).json();
    assert!(shown["missed_count"].as_u64().expect("a number") <= 1, "{shown}");

    let run = stage.schedule(&["run", "yearly"]).expect_exit(0).json();
    let id = run["id"].as_str().expect("it has an id").to_owned();
    assert!(id.starts_with("yearly@"), "{id}");
    wait_until("it has run", || stage.ledger.entries().iter().any(|noted| noted.id == id).then_some(()));

    assert!(stage.schedule(&["remove", "yearly", "--yes"]).expect_exit(2).stderr.contains("taskq.toml"));
    stage.schedule(&["remove", "often"]).expect_exit(2);
    stage.schedule(&["remove", "often", "--yes"]).expect_exit(0);
    assert!(stage.schedule(&["history", "often"]).expect_exit(5).stderr.contains("yearly"));
    assert_eq!(stage.schedule(&["list"]).expect_exit(0).json_lines().len(), 1);
    let ended = beat.drain().json_lines().pop().expect("it says how it ended");
    assert_eq!((&ended["event"], &ended["node"]), (&Value::from("ended"), &Value::from("b@here")));
    assert!(ended["fired"].as_u64().expect("a number") >= 4, "{ended}");
    worker.drain();
}

#[test]
fn wrong_entries_are_refused_with_their_place_and_the_mend() {
    let good = "task = \"shop.add\"\nargs = [2, 3]\nevery = \"1h\"\n";
    let stage = Stage::new("", &[("good", good)]);
    assert_eq!(stage.app.run(&["check"]).expect_exit(0).json()["schedule"]["entries"], 1);
    for (what, keys, words) in [
        ("line", good.replace("every = \"1h\"", "cron = \"61 * * * *\""), "minutes go from 0 to 59"),
        ("zone", good.replace("every = \"1h\"", "cron = \"0 2 * * *\"\ntz = \"Berlin\""), "Europe/Berlin"),
        ("task", good.replace("shop.add", "shop.ad"), "did you mean `shop.add`?"),
        ("arguments", good.replace("[2, 3]", "[2]"), "`y: i64`"),
        ("types", good.replace("[2, 3]", "[2, \"x\"]"), "`y: i64`"),
    ] {
        stage.write("", &[("good", good), ("bad", &keys)]);
        let faults = stage.app.run(&["check"]).expect_exit(3).json()["schedule"]["faults"].clone();
        let faults = faults.as_array().expect("a list");
        assert_eq!(faults.len(), 1, "{what}: {faults:?}");
        for command in
            [&["beat"][..], &["worker", "-B"], &["worker", "-B", "--unsupervised"], &["dev"], &["schedule", "list"]]
        {
            let refused = stage.app.run(command).expect_exit(3);
            for word in ["taskq.toml: [schedule.bad]", words] {
                assert!(refused.stderr.contains(word), "{what}: {word} is not said\n{refused}");
                assert!(faults[0].as_str().expect("a text").contains(word), "{what}: {faults:?}");
            }
        }
    }
    stage.write("result_url = \"none\"", &[("good", good)]);
    for command in ["check", "beat"] {
        let refused = stage.app.run(&[command]).expect_exit(3);
        assert!(format!("{}{}", refused.stdout, refused.stderr).contains("TASKQ_BEAT_STORE"), "{refused}");
    }
    stage.write("result_url = \"none\"\nbeat_store = \"sqlite:beat.db\"", &[("good", good)]);
    stage.app.run(&["check"]).expect_exit(0);
    stage.beat("b").drain();
}

#[test]
fn processes_of_a_worker_are_beats_of_which_one_leads() {
    let stage = Stage::new("", &[("tick", TICK)]);
    let mut worker = stage.app.start(&["worker", "-B", "--processes", "2", "--state-dir", "state"]);
    worker.wait_until_ready();
    wait_until("slots are fired", || (stage.effects("tick").len() >= 3).then_some(()));
    let ended = worker.drain();
    assert_eq!(ended.stderr.matches("this one leads no more").count(), 1, "{ended}");
    assert!(stage.effects("tick").values().all(|count| *count == 1));
    assert_eq!(stage.leader("tick"), None, "the lease was given back");
}

#[test]
fn ten_thousand_entries_cost_little() {
    let keys = |number: usize| {
        format!(
            "task = \"shop.add\"\nargs = [{number}, 1]\ncron = \"{} {} 1 1 *\"\ntz = \"Europe/Berlin\"\n",
            number % 60,
            number % 24
        )
    };
    let entries: Vec<(String, String)> = (0..10_000).map(|number| (format!("entry-{number}"), keys(number))).collect();
    let entries: Vec<(&str, &str)> = entries.iter().map(|(name, keys)| (name.as_str(), keys.as_str())).collect();
    let stage = Stage::new("", &entries);
    let few = Stage::new("", &entries[..1]);
    for (what, stage) in [("1 entry", &few), ("10,000 entries", &stage)] {
        let started = std::time::Instant::now();
        let mut beat = stage.beat("b");
        let ready = started.elapsed();
        beat.wait_for("it leads", |beat| beat.stderr().contains("this one leads").then_some(()));
        let leads = started.elapsed();
        let started_cpu = cpu_ms(beat.id());
        let mut before = started_cpu;
        wait_until("it has looked at each", || {
            std::thread::sleep(Duration::from_millis(500));
            let was = std::mem::replace(&mut before, cpu_ms(beat.id()));
            (was == before).then_some(())
        });
        let (cpu, at) = (cpu_ms(beat.id()), std::time::Instant::now());
        wait_until("five idle seconds pass", || (at.elapsed() > Duration::from_secs(5)).then_some(()));
        let idle = (cpu_ms(beat.id()) - cpu) as f64 / at.elapsed().as_millis() as f64 * 100.0;
        println!(
            "{what}: ready after {ready:?}, leads after {leads:?} and {started_cpu} ms of a processor, idle {idle:.2} % of a processor, {} KiB",
            memory_kib(beat.id())
        );
        assert!(idle < 20.0, "{idle} %");
        beat.drain();
    }
}

/// The time that a process has spent on a processor, in milliseconds; the clock ticks a hundred times a second.
fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number") * 10).sum()
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
