//! The entries of beat as their users see them: changing them while it runs, looking at them, and mistakes.

use serde_json::Value;
use taskq_tests::harness::{App, BeatFixture, now_ms, taskq, wait_until};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[test]
fn entries_are_changed_while_beat_runs() {
    let fixture = BeatFixture::new(
        SHOP,
        "",
        &[("yearly", "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"yearly\", 0]\ncron = \"0 0 1 1 *\"\n")],
    );
    let worker = fixture.worker();
    let beat = fixture.beat("b@here");
    let path = fixture.ledger.path();
    let added =
        fixture.schedule(&["add", "often", "shop.ledger", path, "often", "0", "--every", "1s"]).expect_exit(0).json();
    assert_eq!((&added["name"], &added["words"]), (&Value::from("often"), &Value::from("every second")));
    wait_until("it is fired", || (fixture.effects("often").len() >= 2).then_some(()));
    assert!(
        fixture
            .schedule(&["add", "often", "shop.add", "2", "3", "--every", "1h"])
            .expect_exit(2)
            .stderr
            .contains("already")
    );

    let rows = fixture.schedule(&["list"]).expect_exit(0).json_lines();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("it has a name")).collect();
    assert_eq!(names, ["often", "yearly"]);
    assert_eq!(rows[1]["words"], "at 00:00 on the 1st in January, UTC");
    assert!(rows[1]["next"].as_str().expect("there is one").ends_with("-01-01T00:00:00Z"), "{}", rows[1]);

    fixture.schedule(&["pause", "often"]).expect_exit(0);
    let count = || fixture.show("often")["fired_count"].as_u64().expect("a number");
    // The leader hears of it within a second or so; then two seconds pass without a slot.
    wait_until("it is paused", || {
        let (before, at) = (count(), now_ms());
        wait_until("time passes", || (now_ms() > at + 2500).then_some(()));
        (count() == before).then_some(())
    });
    let paused = count();
    fixture.schedule(&["resume", "often"]).expect_exit(0);
    wait_until("it goes on", || (count() > paused + 1).then_some(()));
    let shown = fixture.show("often");
    assert!(shown["missed_count"].as_u64().expect("a number") <= 1, "{shown}");

    let run = fixture.schedule(&["run", "yearly"]).expect_exit(0).json();
    let id = run["id"].as_str().expect("it has an id").to_owned();
    assert!(id.starts_with("yearly@"), "{id}");
    wait_until("it has run", || fixture.ledger.entries().iter().any(|noted| noted.id == id).then_some(()));
    let history = fixture.history("yearly");
    assert_eq!((history.len(), &history[0]["event"], &history[0]["id"]), (1, &"asked".into(), &Value::from(id)));
    assert!(history[0]["by"].as_str().expect("it says who").starts_with("schedule@"), "{history:?}");
    assert_eq!(fixture.show("yearly")["fired_count"], 0, "it is none of its slots");

    assert!(fixture.schedule(&["remove", "yearly", "--yes"]).expect_exit(2).stderr.contains("taskq.toml"));
    fixture.schedule(&["remove", "often"]).expect_exit(2);
    fixture.schedule(&["remove", "often", "--yes"]).expect_exit(0);
    assert!(fixture.schedule(&["history", "often"]).expect_exit(5).stderr.contains("yearly"));
    assert_eq!(fixture.schedule(&["list"]).expect_exit(0).json_lines().len(), 1);
    let ended = beat.drain().json_lines().pop().expect("it says how it ended");
    assert_eq!((&ended["event"], &ended["node"]), (&Value::from("ended"), &Value::from("b@here")));
    assert!(ended["fired"].as_u64().expect("a number") >= 4, "{ended}");
    worker.drain();
}

#[test]
fn wrong_entries_are_refused_with_their_place_and_the_mend() {
    let good = "task = \"shop.add\"\nargs = [2, 3]\nevery = \"1h\"\n";
    let fixture = BeatFixture::new(SHOP, "", &[("good", good)]);
    assert_eq!(fixture.app.run(&["check"]).expect_exit(0).json()["schedule"]["entries"], 1);
    for (what, keys, words) in [
        ("line", good.replace("every = \"1h\"", "cron = \"61 * * * *\""), "minutes go from 0 to 59"),
        ("zone", good.replace("every = \"1h\"", "cron = \"0 2 * * *\"\ntz = \"Berlin\""), "Europe/Berlin"),
        ("task", good.replace("shop.add", "shop.ad"), "did you mean `shop.add`?"),
        ("arguments", good.replace("[2, 3]", "[2]"), "`y: i64`"),
        ("types", good.replace("[2, 3]", "[2, \"x\"]"), "`y: i64`"),
        ("period", good.replace("1h", "100ms"), "is shorter than a second"),
        ("moment", good.replace("every = \"1h\"", "once = \"2030-02-30T08:00:00Z\""), "is not a moment"),
        ("two schedules", format!("{good}cron = \"0 9 * * *\"\n"), "keep one of them"),
        ("key", format!("{good}timezone = \"UTC\"\n"), "write `tz = "),
    ] {
        fixture.write("", &[("good", good), ("bad", &keys)]);
        let faults = fixture.app.run(&["check"]).expect_exit(3).json()["schedule"]["faults"].clone();
        let faults = faults.as_array().expect("a list");
        assert_eq!(faults.len(), 1, "{what}: {faults:?}");
        for command in
            [&["beat"][..], &["worker", "-B"], &["worker", "-B", "--unsupervised"], &["dev"], &["schedule", "list"]]
        {
            let refused = fixture.app.run(command).expect_exit(3);
            for word in ["taskq.toml: [schedule.bad]", words] {
                assert!(refused.stderr.contains(word), "{what}: {word} is not said\n{refused}");
                assert!(faults[0].as_str().expect("a text").contains(word), "{what}: {faults:?}");
            }
        }
    }
    fixture.write("", &[("good", good), ("good", good)]);
    let place = format!("taskq.toml: TOML parse error at line {}", good.lines().count() + 4);
    for command in [&["check"][..], &["beat"], &["worker", "-B", "--unsupervised"], &["dev"], &["schedule", "list"]] {
        let refused = fixture.app.run(command).expect_exit(3);
        for words in [&*place, "duplicate key", "give one of them another"] {
            assert!(refused.stderr.contains(words), "{words} is not said\n{refused}");
        }
    }
    let overlap = format!("{good}overlap = \"skip\"\n");
    fixture.write("result_url = \"none\"\nbeat_store = \"sqlite:beat.db\"", &[("bad", &overlap)]);
    for command in [&["check"][..], &["beat"], &["worker", "-B", "--unsupervised"], &["dev"]] {
        let refused = fixture.app.run(command).expect_exit(3);
        for words in ["[schedule.bad]", "set TASKQ_RESULT_URL", "or leave `overlap` out"] {
            assert!(format!("{}{}", refused.stdout, refused.stderr).contains(words), "{words} is not said\n{refused}");
        }
    }
    fixture.write("result_url = \"none\"\nbeat_store = \"sqlite:beat.db\"", &[]);
    let add = ["add", "bad", "shop.add", "2", "3", "--every", "1h", "--overlap", "skip"];
    assert!(fixture.schedule(&add).expect_exit(2).stderr.contains("leave `overlap` out"));
    for (arguments, words) in [
        (&["add", "bad", "shop.ad", "2", "3", "--every", "1h"][..], "did you mean `shop.add`?"),
        (&["add", "bad", "shop.add", "2", "--every", "1h"], "`y: i64`"),
        (&["add", "bad", "shop.add", "2", "3", "--cron", "61 * * * *"], "minutes go from 0 to 59"),
        (&["add", "bad", "shop.add", "2", "3", "--cron", "1 * * * *", "--tz", "Berlin"], "Europe/Berlin"),
    ] {
        assert!(fixture.schedule(arguments).expect_exit(2).stderr.contains(words), "{words} is not said");
    }
    fixture.write("result_url = \"none\"", &[("good", good)]);
    for command in ["check", "beat"] {
        let refused = fixture.app.run(&[command]).expect_exit(3);
        assert!(format!("{}{}", refused.stdout, refused.stderr).contains("TASKQ_BEAT_STORE"), "{refused}");
    }
    fixture.write("result_url = \"none\"\nbeat_store = \"sqlite:beat.db\"", &[("good", good)]);
    fixture.app.run(&["check"]).expect_exit(0);
    fixture.beat("b").drain();
}

#[test]
fn an_entry_that_may_not_overlap_waits_for_its_run_even_if_nobody_wants_the_result() {
    let keys =
        "task = \"shop.ledger_forgotten\"\nargs = [\"LEDGER\", \"slow\", 2500]\nevery = \"1s\"\noverlap = \"skip\"\n";
    let fixture = BeatFixture::new(SHOP, "", &[("slow", keys)]);
    let worker = fixture.worker();
    let beat = fixture.beat("b");
    wait_until("it has run", || (fixture.ledger.len() >= 3).then_some(()));
    beat.drain();
    worker.drain();
    let ends: Vec<u64> = fixture.ledger.entries().iter().map(|noted| noted.at_ms).collect();
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] >= 2500), "runs overlap: {ends:?}");
    let history = fixture.history("slow");
    let running = history.iter().filter(|event| event["why"] == "running").count();
    assert!(running >= 2, "slots between the runs are listed: {history:?}");
}

/// `taskq` has no tasks: it becomes the program, which has them.
#[test]
fn beat_stands_alone_and_asks_the_program_for_its_entries() {
    let keys = "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"tick\", 0]\nevery = \"1s\"\n";
    let fixture = BeatFixture::new(SHOP, "", &[("tick", keys)]);
    let worker = fixture.worker();
    let taskq: App = taskq().folder(&fixture.folder);
    let mut beat = taskq.start(&["-A", SHOP, "beat", "-n", "alone"]);
    let ready = beat.wait_until_ready();
    assert_eq!((&ready["entries"], &ready["node"]), (&Value::from(1), &stage_node("alone")));
    assert_eq!(ready["pid"], beat.id(), "it is the same process, so that a supervisor stops the right one");
    wait_until("it is fired", || (fixture.effects("tick").len() >= 2).then_some(()));
    // Arguments are checked against the tasks of that program, which `taskq` alone cannot know.
    fixture.write("", &[("tick", &keys.replace("shop.ledger", "shop.leger"))]);
    let refused = taskq.run(&["-A", SHOP, "beat"]).expect_exit(3);
    assert!(refused.stderr.contains("did you mean `shop.ledger`?"), "{refused}");
    beat.drain();
    worker.drain();
}

fn stage_node(name: &str) -> Value {
    Value::from(format!("{name}@{}", taskq::internal::host_name()))
}
