//! Entries from all their sources, and every mistake with its place and its remedy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use taskq::definition::{Definition, Registry};
use taskq::settings::Settings;
use taskq::task;

use super::{Entry, Misfire, Mistakes, OnDoubt, Origin, Overlap, add, check, collect};
use crate::schedule::Schedule;

#[task(name = "shop.report", cron = "0 2 * * *", tz = "Europe/Berlin")]
async fn report(days: Option<u32>) {
    let _ = days;
}

#[task(name = "shop.beat", every = "30s")]
async fn heart() {}

#[task(name = "shop.mail")]
async fn mail(user: u64, subject: String) {
    let _ = (user, subject);
}

/// Tasks whose schedules are mistakes: in a registry of their own.
mod wrong {
    use taskq::task;

    #[task(name = "wrong.line", cron = "0 25 * * *")]
    async fn line() {}

    #[task(name = "wrong.zone", cron = "0 2 * * *", tz = "Europe/Berlim")]
    async fn zone() {}

    #[task(name = "wrong.argument", every = "1h")]
    async fn argument(user: u64) {
        let _ = user;
    }
}

/// Returns the tasks of this program whose names begin with `beginning`.
fn registry(beginning: &str) -> Registry {
    let all = Registry::collect().expect("no two tasks of one name here");
    let definitions: Vec<&'static Definition> = all.iter().filter(|task| task.name.starts_with(beginning)).collect();
    assert!(!definitions.is_empty());
    Registry::of(definitions).expect("they were in one before")
}

fn read(description: &Value) -> Result<Entry, Mistakes> {
    Entry::read("nightly", description, Origin::File(PathBuf::from("taskq.toml")))
}

/// Loads settings from a file with this text.
fn settings(text: &str) -> Settings {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("taskq-beat-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("there is room for temporary files");
    let path = folder.join("taskq.toml");
    std::fs::write(&path, text).expect("the folder can be written");
    let settings = Settings::load(Some(&path));
    std::fs::remove_dir_all(&folder).expect("the folder is ours");
    settings.expect("only the schedules are mistakes")
}

#[test]
fn everything_that_can_be_said() {
    let description = json!({
        "task": "shop.mail", "cron": "0 9 * * MON", "tz": "Europe/Berlin", "args": [7], "kwargs": {"subject": "hello"},
        "queue": "mail", "priority": 7, "expires": "1h", "misfire": "all", "misfire_max": 10, "jitter": "30s",
        "on_doubt": "skip", "enabled": false, "foreign": true
    });
    let entry = read(&description).expect("all of it is right");
    let schedule = Schedule::cron("0 9 * * MON", "Europe/Berlin").expect("a line");
    let expected = Entry {
        args: vec![json!(7)],
        kwargs: [("subject".to_owned(), json!("hello"))].into_iter().collect(),
        queue: Some("mail".to_owned()),
        priority: Some(7),
        expires: Some(Duration::from_secs(3600)),
        misfire: Misfire::All,
        misfire_max: 10,
        jitter: Duration::from_secs(30),
        overlap: Overlap::Allow,
        on_doubt: OnDoubt::Skip,
        enabled: false,
        foreign: true,
        ..Entry::new("nightly", "shop.mail", schedule, Origin::File("taskq.toml".into()))
    };
    assert_eq!(entry, expected);
    assert_eq!(entry.describe(), description);
}

#[test]
fn an_entry_is_read_as_it_was_described() {
    for description in [
        json!({"task": "a", "cron": "*/5 * * * *", "tz": "UTC"}),
        json!({"task": "a", "every": "1m 30s"}),
        json!({"task": "a", "every": "7days", "start": "2030-01-01T00:00:00Z", "overlap": "skip", "misfire": "skip"}),
        json!({"task": "a", "every": "31days", "expires": "366days", "jitter": "40days 1h"}),
        json!({"task": "a", "once": "2030-01-31T08:00:00Z", "args": [null, {"x": [1.5]}]}),
    ] {
        let entry = Entry::read("a/b@c", &description, Origin::RunTime).expect("it is right");
        assert_eq!(entry.describe(), description);
        let text = serde_json::to_string(&entry).expect("it is plain");
        assert_eq!(serde_json::from_str::<Entry>(&text).expect("it was written"), entry);
    }
    let error = serde_json::from_str::<Entry>(r#"{"name": "x", "task": "a", "every": "1ms"}"#).expect_err("too short");
    assert!(
        error.to_string().starts_with("the entry `x`, added at run time: `every = \"1ms\"` is shorter than a second"),
        "{error}"
    );
}

#[test]
fn mistakes_name_the_place_and_the_remedy() {
    for (description, expected) in [
        (json!({"cron": "0 9 * * *"}), "names no task; write for example `task = \"reports.nightly\"`"),
        (json!({"task": "", "every": "1m"}), "`task` takes a task's name, not \"\""),
        (json!({"task": "a"}), "has no schedule; write `cron = "),
        (json!({"task": "a", "cron": "0 9 * * *", "every": "1m"}), "has `cron` and `every`; keep one of them"),
        (json!({"task": "a", "cron": "0 9 * *"}), "the cron line \"0 9 * *\" has 4 fields; write five fields"),
        (json!({"task": "a", "cron": "0 9 * * MONDAY"}), "names have three letters: write \"MON\""),
        (json!({"task": "a", "cron": 5}), "`cron` takes a cron line such as \"0 9 * * MON-FRI\", not 5"),
        (json!({"task": "a", "cron": "0 9 * * *", "tz": "Berlin"}), "did you mean \"Europe/Berlin\"?"),
        (json!({"task": "a", "every": "1m", "tz": "UTC"}), "`every` needs none, leave it out"),
        (json!({"task": "a", "every": "soon"}), "`every = \"soon\"`: expected number at 0; write for example \"30s\""),
        (json!({"task": "a", "every": "1M"}), "a month or a year has no fixed length"),
        (json!({"task": "a", "every": "500ms"}), "`every = \"500ms\"` is shorter than a second"),
        (json!({"task": "a", "every": "1h", "start": "noon"}), "`start = \"noon\"` is not a moment"),
        (
            json!({"task": "a", "cron": "0 9 * * *", "start": "2030-01-01T00:00:00Z"}),
            "`start` is the first slot of `every`",
        ),
        (json!({"task": "a", "once": "2030-01-31T08:00"}), "add a `Z` for UTC"),
        (
            json!({"task": "a", "every": "1m", "args": {"x": 1}}),
            "`args` takes a list of arguments, such as [1, \"two\"], not",
        ),
        (json!({"task": "a", "every": "1m", "kwargs": [1]}), "`kwargs` takes a table"),
        (json!({"task": "a", "every": "1m", "priority": 256}), "`priority` takes 0 to 255, not 256"),
        (
            json!({"task": "a", "every": "1m", "misfire": "last"}),
            "`misfire` takes \"skip\" or \"one\" or \"all\", not \"last\"",
        ),
        (json!({"task": "a", "every": "1m", "misfire_max": 5}), "`misfire_max` is the bound of `misfire = \"all\"`"),
        (json!({"task": "a", "every": "1m", "misfire": "all", "overlap": "skip"}), "keep one of them"),
        (json!({"task": "a", "every": "1m", "jitter": "400days"}), "`jitter` takes 0s to a year"),
        (json!({"task": "a", "every": "1m", "expires": "0s"}), "`expires` takes 1s to a year"),
        (json!({"task": "a", "every": "1m", "enabled": "no"}), "`enabled` takes true or false, not \"no\""),
        (json!({"task": "a", "every": "1m", "que": "x"}), "there is no key `que`; did you mean `queue`?"),
        (json!({"task": "a", "every": "1m", "queue": "taskq.dead"}), "names that begin with `taskq.` belong to taskq"),
        (json!({"task": "a", "every": "1m", "queue": "eu.*"}), "it contains `*` or `#`"),
        (json!({"task": "a", "crontab": "0 9 * * *"}), "there is no key `crontab`; write `cron = "),
        (json!("0 9 * * *"), "is a table"),
    ] {
        let mistakes = read(&description).expect_err(&description.to_string()).to_string();
        assert!(mistakes.contains(expected), "{description}: {mistakes}");
        assert!(mistakes.lines().all(|line| line.starts_with("taskq.toml: [schedule.nightly]: ")), "{mistakes}");
    }
    for name in ["", "two words", &"x".repeat(201)] {
        Entry::read(name, &json!({"task": "a", "every": "1m"}), Origin::RunTime).expect_err(name);
    }
}

#[test]
fn all_mistakes_are_reported_together() {
    let mistakes =
        read(&json!({"tsk": "a", "cron": "61 * * * *", "misfire": 3, "priority": -1})).expect_err("all wrong");
    let texts: Vec<&str> = mistakes.iter().map(|mistake| mistake.text.as_str()).collect();
    for (text, expected) in
        texts.iter().zip(["there is no key `tsk`", "names no task", "the minute `61`", "`misfire`", "`priority`"])
    {
        assert!(text.starts_with(expected), "{texts:#?}");
    }
    assert_eq!(texts.len(), 5, "{texts:#?}");
}

#[test]
fn tasks_and_settings_are_put_together() {
    let settings = settings(
        "[schedule.monday]\ntask = \"shop.mail\"\ncron = \"0 9 * * MON\"\nargs = [1]\nkwargs = { subject = \"hi\" }\n\
         [schedule.python]\ntask = \"py.clean\"\nevery = \"1h\"\nforeign = true\nargs = [1, 2, 3]\n\
         [schedule.\"launch party\".x]\n",
    );
    collect(&registry("shop."), &settings).expect_err("a name has no spaces");
    let mut settings = settings;
    settings.schedule.remove("launch party");
    let entries = collect(&registry("shop."), &settings).expect("all are right");
    let shown: Vec<(&str, String)> =
        entries.values().map(|entry| (entry.name.as_str(), entry.schedule.to_string())).collect();
    let expected = [
        ("monday", "cron 0 9 * * MON UTC"),
        ("python", "every 1h"),
        ("shop.beat", "every 30s"),
        ("shop.report", "cron 0 2 * * * Europe/Berlin"),
    ];
    assert_eq!(shown, expected.map(|(name, schedule)| (name, schedule.to_owned())));
    assert!(matches!(&entries["shop.beat"].origin, Origin::Task(place) if place.contains("tests.rs:")));
}

#[test]
fn mistakes_of_all_places_come_together() {
    let settings = settings(
        "[schedule.\"shop.report\"]\ntask = \"shop.report\"\nevery = \"1h\"\n\
         [schedule.unknown]\ntask = \"shop.mial\"\nevery = \"1h\"\n\
         [schedule.few]\ntask = \"shop.mail\"\nevery = \"1h\"\nargs = [1]\n\
         [schedule.many]\ntask = \"shop.beat\"\nevery = \"1h\"\nargs = [1]\n\
         [schedule.name]\ntask = \"shop.mail\"\nevery = \"1h\"\nargs = [1]\nkwargs = { topic = \"x\" }\n\
         [schedule.type]\ntask = \"shop.mail\"\nevery = \"1h\"\nargs = [\"one\", \"x\"]\n\
         [schedule.line]\ntask = \"shop.mail\"\ncron = \"9 * * *\"\n",
    );
    let mistakes = collect(&registry("shop."), &settings).expect_err("all wrong").to_string();
    for expected in [
        "[schedule.\"shop.report\"]: there is an entry of that name already, in taskq-beat/src/entry/tests.rs:",
        "[schedule.unknown]: there is no task `shop.mial` in this program; did you mean `shop.mail`? For a task of another \
         program write `foreign = true`",
        "[schedule.few]: shop.mail() is missing the argument `subject: String`; correct `args` or `kwargs`",
        "[schedule.many]: shop.beat() takes 0 arguments but 1 were given",
        "[schedule.name]: shop.mail() has no parameter `topic`; it has `user`, `subject`",
        "[schedule.type]: shop.mail() takes `user: u64`, and got a text of 3 characters",
        "[schedule.line]: the cron line \"9 * * *\" has 4 fields",
    ] {
        assert!(mistakes.contains(expected), "{expected}\n\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 7, "{mistakes}");
}

#[test]
fn mistakes_in_attributes_name_their_place() {
    let mistakes = collect(&registry("wrong."), &Settings::default()).expect_err("all wrong").to_string();
    for expected in [
        "#[task] of `wrong.line`: the hour `25` of the cron line \"0 25 * * *\": `25` is too large; hours go from 0 to 23",
        "#[task] of `wrong.zone`: there is no time zone \"Europe/Berlim\"; did you mean \"Europe/Berlin\"?",
        "#[task] of `wrong.argument`: wrong.argument() is missing the argument `user: u64`; beat sends a task that is \
         scheduled by its attribute without arguments: make the parameter an `Option`",
    ] {
        assert!(mistakes.contains(expected), "{expected}\n\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 3, "{mistakes}");
}

#[test]
fn entries_of_run_time_are_checked_by_the_same_rules() {
    let mut entries = BTreeMap::new();
    let entry =
        Entry::read("x", &json!({"task": "shop.mail", "every": "1m"}), Origin::RunTime).expect("it can be read");
    let mistake = check(&entry, &registry("shop.")).expect_err("arguments are missing");
    assert_eq!(mistake.place, "the entry `x`, added at run time");
    add(&mut entries, entry.clone()).expect("it is the first");
    let mistake = add(&mut entries, entry).expect_err("it is the second");
    assert_eq!(
        mistake.to_string(),
        "the entry `x`, added at run time: there is an entry of that name already, in the entry `x`, added at run time; give \
         one of them another name, or remove it"
    );
}
