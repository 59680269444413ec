//! Beats in real processes: leaders that die and freeze, slots that were missed, a clock that is moved, and many
//! entries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use taskq_tests::harness::{BeatFixture, MovedClock, Process, missed, moment, now_ms, wait_until, wait_within};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

const TICK: &str = "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"tick\", 0]\nevery = \"1s\"\nmisfire = \"all\"\n";

/// How many slots had more than one effect.
fn doubles(effects: &BTreeMap<i64, Vec<u64>>) -> usize {
    effects.values().filter(|times| times.len() > 1).count()
}

/// The outcome of three beats whose leader was killed and frozen in turn.
struct Ordeal {
    slots: usize,
    fired: usize,
    missed: usize,
    doubles: usize,
    /// From each death to the next slot that had an effect, in milliseconds.
    gaps: Vec<u64>,
}

/// Kills the leader, and freezes it for longer than its lease, in turn, `rounds` times; looks at every slot afterwards.
fn torment(fixture: &BeatFixture, rounds: usize) -> Ordeal {
    let names = ["one", "two", "three"];
    let worker = fixture.worker();
    let mut beats: BTreeMap<String, Process> =
        names.iter().map(|name| ((*name).to_owned(), fixture.beat(name))).collect();
    let mut listed = BTreeSet::new();
    let mut gaps = Vec::new();
    let effects_after =
        |at: u64| fixture.ledger.entries().iter().filter(|noted| noted.at_ms > at).map(|noted| noted.at_ms).min();
    wait_until("the first slot is fired", || (!fixture.effects("tick").is_empty()).then_some(()));
    for round in 0..rounds {
        let leader = wait_until("one leads", || fixture.leader("tick"));
        let at = now_ms();
        if round % 2 == 0 {
            beats.remove(&leader).expect("it is one of three").kill();
        } else {
            beats[&leader].signal("STOP");
        }
        let another = || fixture.leader("tick").filter(|now| *now != leader);
        wait_within("another leads", Duration::from_secs(90), another);
        let next = wait_until("it fires", || effects_after(at + 500));
        gaps.push(next - at);
        if round % 2 == 0 {
            beats.insert(leader.clone(), fixture.beat(&leader));
        } else {
            beats[&leader].signal("CONT");
            // It finds that it leads no more.
            let log = beats.get_mut(&leader).expect("it is one of three");
            log.wait_for("it has noticed", |beat| beat.stderr().contains("leads no more").then_some(()));
        }
        listed.extend(missed(&fixture.history("tick")));
        let seen = fixture.effects("tick").len();
        wait_until("slots go on", || (fixture.effects("tick").len() > seen + 2).then_some(()));
    }
    for beat in beats.into_values() {
        beat.drain();
    }
    listed.extend(missed(&fixture.history("tick")));
    // What was sent has run when there is nothing in the queue any more.
    wait_until("the worker is done", || {
        let last = moment(&fixture.show("tick")["last"]["slot"]);
        fixture.effects("tick").contains_key(&last).then_some(())
    });
    worker.drain();
    let effects = fixture.effects("tick");
    let (first, last) = (*effects.keys().next().expect("there is one"), *effects.keys().last().expect("there is one"));
    let all: BTreeSet<i64> = (first..=last).collect();
    let fired: BTreeSet<i64> = effects.keys().copied().collect();
    let unexplained: Vec<_> = all.iter().filter(|slot| !fired.contains(slot) && !listed.contains(slot)).collect();
    assert!(unexplained.is_empty(), "neither fired nor listed as missed: {unexplained:?}");
    Ordeal { slots: all.len(), fired: fired.len(), missed: listed.len(), doubles: doubles(&effects), gaps }
}

fn judge(what: &str, ordeal: &Ordeal) {
    let Ordeal { slots, fired, missed, doubles, gaps } = ordeal;
    println!("{what}: {slots} slots, {fired} fired, {missed} listed as missed, {doubles} twice, gaps in ms {gaps:?}");
    assert_eq!(*doubles, 0, "no slot has two effects");
    assert!(fired * 100 >= slots * 95, "{fired} of {slots}");
    assert!(gaps.iter().all(|gap| *gap < 30_000), "a lease is ten seconds: {gaps:?}");
}

#[test]
fn leaders_that_die_and_freeze_cost_no_slot_and_repeat_none_on_sqlite() {
    let fixture = BeatFixture::new(SHOP, "", &[("tick", TICK)]);
    judge("sqlite", &torment(&fixture, 2));
}

#[test]
fn leaders_that_die_and_freeze_cost_no_slot_and_repeat_none_on_redis() {
    let Some(fixture) = BeatFixture::on_servers(SHOP, 11, &[("tick", TICK)]) else { return };
    judge("redis", &torment(&fixture, 2));
}

/// The long version of the two above: about two minutes each.
#[test]
#[ignore = "it takes about five minutes"]
fn leaders_that_die_and_freeze_for_minutes() {
    judge("sqlite", &torment(&BeatFixture::new(SHOP, "", &[("tick", TICK)]), 12));
    let Some(fixture) = BeatFixture::on_servers(SHOP, 12, &[("tick", TICK)]) else { return };
    judge("redis", &torment(&fixture, 12));
}

#[test]
fn what_was_missed_while_no_beat_ran_is_treated_as_each_entry_says() {
    let entries = one_of_each("every = \"1s\"");
    let fixture = BeatFixture::new(SHOP, "", &with_keys(&entries));
    let worker = fixture.worker();
    let beat = fixture.beat("first");
    wait_until("each has been fired", || {
        ["skip", "one", "all"].iter().all(|name| fixture.effects(name).len() >= 2).then_some(())
    });
    beat.drain();
    let last = |name: &str| moment(&fixture.show(name)["last"]["slot"]);
    let before = ["skip", "one", "all"].map(last);
    let until = now_ms() / 1000 + 11;
    wait_until("ten slots have passed", || (now_ms() / 1000 > until).then_some(()));
    let back = i64::try_from(now_ms() / 1000).expect("it is small");
    let beat = fixture.beat("second");
    wait_until("each goes on", || ["skip", "one", "all"].iter().all(|name| last(name) > back + 2).then_some(()));
    beat.drain();
    for (name, before) in ["skip", "one", "all"].into_iter().zip(before) {
        let end = last(name);
        wait_until("what was sent has run", || fixture.effects(name).contains_key(&end).then_some(()));
        let (effects, history) = (fixture.effects(name), fixture.history(name));
        let listed = missed(&history);
        assert_eq!(doubles(&effects), 0, "{name}: {effects:?}");
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
        println!("ten slots without a beat, {name}: {fired} of them fired, {} listed as missed", listed.len());
        let all: BTreeSet<i64> = (*effects.keys().next().expect("some")..=end).collect();
        assert!(
            all.iter().all(|slot| effects.contains_key(slot) != listed.contains(slot)),
            "{name}: each is one or the other"
        );
    }
    worker.drain();
}

/// Three entries, one of each policy.
fn one_of_each(schedule: &str) -> [(&'static str, String); 3] {
    ["skip", "one", "all"].map(|misfire| {
        let task = format!("task = \"shop.ledger\"\nargs = [\"LEDGER\", \"{misfire}\", 0]\n");
        (misfire, format!("{task}{schedule}\nmisfire = \"{misfire}\"\n"))
    })
}

fn with_keys<'a>(entries: &'a [(&'static str, String); 3]) -> [(&'a str, &'a str); 3] {
    entries.each_ref().map(|(name, keys)| (*name, keys.as_str()))
}

/// By so much a clock has to be moved to show this moment now.
fn until(moment: i64) -> i64 {
    moment - i64::try_from(now_ms() / 1000).expect("it is small")
}

#[test]
fn an_hour_without_a_beat_is_treated_as_each_entry_says() {
    let Some(clock) = MovedClock::new() else { return };
    let entries = one_of_each("every = \"10m\"");
    let mut fixture = BeatFixture::new(SHOP, "", &with_keys(&entries));
    fixture.app = clock.of(&fixture.app);
    let worker = fixture.worker();
    // Between two slots.
    let start = 1_900_000_200 / 600 * 600 + 300;
    clock.put(until(start));
    let mut beat = fixture.beat("first");
    beat.wait_for("it leads", |beat| beat.stderr().contains("this beat leads").then_some(()));
    beat.drain();
    clock.put(until(start + 3600));
    let beat = fixture.beat("second");
    let mut said = Vec::new();
    for (name, fired, missed, why) in [("skip", 0, 6, "late"), ("one", 1, 5, "passed"), ("all", 6, 0, "")] {
        let count = |shown: &Value, key: &str| shown[key].as_u64().expect("a number");
        let dealt_with = || {
            let shown = fixture.show(name);
            (count(&shown, "fired_count") + count(&shown, "missed_count") == 6).then_some(shown)
        };
        let shown = wait_until("all six are dealt with", dealt_with);
        assert_eq!((count(&shown, "fired_count"), count(&shown, "missed_count")), (fired, missed), "{shown}");
        wait_until("what was sent has run", || (fixture.effects(name).len() as u64 == fired).then_some(()));
        let history = fixture.history(name);
        let whys: Vec<_> = history.iter().filter_map(|event| event["why"].as_str()).collect();
        assert_eq!(whys, Vec::from_iter((missed > 0).then_some(why)), "{history:?}");
        said.push(format!("{name}: {fired} fired, {missed} listed as missed"));
    }
    beat.drain();
    worker.drain();
    println!("an hour without a beat, six slots of each entry; {}", said.join("; "));
}

/// When a second's entry has had its effects, by a clock that nobody moves.
struct Times<'a> {
    fixture: &'a BeatFixture,
    before: usize,
    begun: Instant,
    seen: Vec<Duration>,
}

impl<'a> Times<'a> {
    fn new(fixture: &'a BeatFixture) -> Self {
        Self { fixture, before: fixture.effects("tick").len(), begun: Instant::now(), seen: Vec::new() }
    }

    fn wait_for(&mut self, count: usize) {
        wait_until("it goes on", || {
            let new = self.fixture.effects("tick").len() - self.before;
            self.seen.resize(new, self.begun.elapsed());
            (new >= count).then_some(())
        });
    }

    /// So many in so long, unless there are more than there may be.
    fn judge(&self) -> String {
        let (count, passed) = (self.seen.len(), self.begun.elapsed());
        assert!(count as u64 <= passed.as_secs() + 3, "{count} effects within {passed:?}");
        let mut last = Duration::ZERO;
        let gaps = self.seen.iter().map(|at| at.saturating_sub(std::mem::replace(&mut last, *at)));
        let gap = gaps.max().expect("there are some");
        format!("{count} effects within {} ms, at most {} ms apart", passed.as_millis(), gap.as_millis())
    }
}

#[test]
fn a_clock_that_is_moved_by_an_hour_neither_stops_nor_floods_it_nor_repeats_a_slot() {
    let Some(clock) = MovedClock::new() else { return };
    let tick = TICK.replace("misfire = \"all\"", "");
    let cron = tick.replace("every = \"1s\"", "cron = \"* * * * * *\"");
    let mut fixture = BeatFixture::new(SHOP, "", &[("tick", &tick), ("cron", &cron)]);
    fixture.app = clock.of(&fixture.app);
    clock.put(-7200);
    let worker = fixture.worker();
    let mut beats: BTreeMap<String, Process> =
        ["one", "two"].iter().map(|name| ((*name).to_owned(), fixture.beat(name))).collect();
    wait_until("both are fired", || {
        ["tick", "cron"].iter().all(|name| !fixture.effects(name).is_empty()).then_some(())
    });
    // While they are paused, the clock is put right: two hours are passed over, and are fired when they come again.
    fixture.schedule(&["pause", "tick", "cron"]).expect_exit(0);
    clock.put(0);
    fixture.schedule(&["resume", "tick", "cron"]).expect_exit(0);
    let mut said = Vec::new();
    for (seconds, what) in [
        (0, "right"),
        (-3600, "back"),
        (-7200, "back"),
        (-3600, "forward"),
        (0, "forward"),
        (3600, "forward"),
        (3595, "back"),
    ] {
        // The last one is back among what has just been fired.
        let mut times = Times::new(&fixture);
        clock.put(seconds);
        times.wait_for(8);
        if seconds == -7200 {
            // The next one goes on where this one was.
            let leader = wait_until("one leads", || fixture.leader("tick"));
            beats.remove(&leader).expect("it is one of two").kill();
            times.wait_for(16);
        }
        said.push(format!("{what} to {seconds} s: {}", times.judge()));
    }
    wait_until("times on the clock are fired when it is past all that were", || {
        let last = *fixture.effects("cron").keys().last().expect("there is one");
        (until(last) > 3590).then_some(())
    });
    for beat in beats.into_values() {
        beat.drain();
    }
    worker.drain();
    let doubles = ["tick", "cron"].map(|name| doubles(&fixture.effects(name)));
    println!("the clock moved; {}; slots with two effects: {doubles:?}", said.join("; "));
    assert_eq!(doubles, [0, 0]);
}

#[test]
fn when_summer_time_begins_and_ends_a_nightly_job_runs_once() {
    let Some(clock) = MovedClock::new() else { return };
    let nightly = TICK.replace("every = \"1s\"", "cron = \"30 2 * * *\"\ntz = \"Europe/Berlin\"");
    let mut fixture = BeatFixture::new(SHOP, "", &[("nightly", &nightly)]);
    fixture.app = clock.of(&fixture.app);
    let worker = fixture.worker();
    let mut before = 0;
    let mut said = Vec::new();
    // Of each night: the moments shortly before which the clock is put, and the slots that are fired.
    for (night, moments, slots) in [
        (
            "forward",
            &["2031-03-30T00:30:00Z", "2031-03-30T01:00:00Z", "2031-03-30T01:30:00Z"][..],
            &["2031-03-30T01:00:00Z"][..],
        ),
        ("back", &["2031-10-26T00:30:00Z", "2031-10-26T01:30:00Z"], &["2031-10-26T00:30:00Z"]),
    ] {
        let moments: Vec<i64> = moments.iter().map(|text| moment(&Value::from(*text))).collect();
        // Each night begins with an entry that is new.
        let name = format!("nightly-{night}");
        fixture.write("", &[(&name, &nightly)]);
        clock.put(until(moments[0] - 3600));
        let mut beat = fixture.beat(night);
        beat.wait_for("it leads", |beat| beat.stderr().contains("this beat leads").then_some(()));
        for moment in moments {
            clock.put(until(moment - 2));
            wait_until("the clock is past it", || (until(moment + 3) <= clock.seconds()).then_some(()));
        }
        let shown = wait_until("it is fired", || Some(fixture.show(&name)).filter(|shown| shown["fired_count"] == 1));
        let slots: Vec<i64> = slots.iter().map(|text| moment(&Value::from(*text))).collect();
        wait_until("it has run", || (!fixture.effects(&name).is_empty()).then_some(()));
        beat.drain();
        let fired: Vec<i64> = fixture.effects(&name).into_keys().collect();
        assert_eq!(fired, slots, "{shown}");
        assert_eq!(doubles(&fixture.effects(&name)), 0);
        before += fired.len();
        said.push(format!("{night}: {} run, {}", fired.len(), shown["last"]["slot"]));
    }
    worker.drain();
    println!("\"30 2 * * *\" in Europe/Berlin; {}; {before} runs in all", said.join("; "));
}

#[test]
fn processes_of_a_worker_are_beats_of_which_one_leads() {
    let fixture = BeatFixture::new(SHOP, "", &[("tick", TICK)]);
    let mut worker = fixture.app.start(&["worker", "-B", "--processes", "2", "--state-dir", "state"]);
    worker.wait_until_ready();
    wait_until("slots are fired", || (fixture.effects("tick").len() >= 3).then_some(()));
    let ended = worker.drain();
    assert_eq!(ended.stderr.matches("this beat leads no more").count(), 1, "{ended}");
    assert_eq!(doubles(&fixture.effects("tick")), 0);
    assert_eq!(fixture.leader("tick"), None, "the lease was given back");
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
    let fixture = BeatFixture::new(SHOP, "", &entries);
    let few = BeatFixture::new(SHOP, "", &entries[..1]);
    for (what, fixture) in [("1 entry", &few), ("10,000 entries", &fixture)] {
        let started = Instant::now();
        let mut beat = fixture.beat("b");
        let ready = started.elapsed();
        beat.wait_for("it leads", |beat| beat.stderr().contains("this beat leads").then_some(()));
        let leads = started.elapsed();
        let started_cpu = cpu_ms(beat.id());
        let mut before = started_cpu;
        wait_until("it has looked at each", || {
            std::thread::sleep(Duration::from_millis(500));
            let was = std::mem::replace(&mut before, cpu_ms(beat.id()));
            (was == before).then_some(())
        });
        let (cpu, at) = (cpu_ms(beat.id()), Instant::now());
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
