//! The entries of beat as their users see them: changing them while it runs, looking at them, and mistakes.

use serde_json::Value;
use taskq_tests::harness::{Stage, now_ms, wait_until};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[test]
fn entries_are_changed_while_beat_runs() {
    let stage = Stage::new(
        SHOP,
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
    let stage = Stage::new(SHOP, "", &[("good", good)]);
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
