//! The inheritance of a program from its starter: variables, signals, limits and folders. None of it may end in a
//! panic, in silence, or in a text that blames something else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use taskq_tests::harness::{App, Finished, Folder, Process, SupervisedWorker, children_of};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The shop with the embedded file in a folder of its own.
fn shop(folder: &Folder) -> App {
    App::new(SHOP).folder(folder)
}

fn start_worker(app: &App, arguments: &[&str]) -> Process {
    let mut worker = app.start(&[&["worker", "--state-dir", "state"], arguments].concat());
    worker.wait_until_ready();
    worker
}

/// The error that is said last.
fn error_of(finished: &Finished) -> &str {
    finished.stderr.lines().last().filter(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{finished}"))
}

#[test]
fn variables_of_others_may_hold_anything() {
    let folder = Folder::new("environment");
    let shop = shop(&folder).env_os("BAD", OsStr::from_bytes(b"\xa3")).env_os("TASKQ_BAD", OsStr::from_bytes(b"\xff"));
    let worker = start_worker(&shop, &[]);
    assert_eq!(shop.run(&["call", "shop.add", "2", "3", "--wait=60s"]).expect_exit(0).json()["value"], 5);
    worker.drain();
}

#[test]
fn a_setting_that_is_no_text_is_named() {
    let folder = Folder::new("environment");
    for (variable, arguments) in [
        ("TASKQ_BROKER_URL", &["call", "shop.add", "2", "3"][..]),
        ("TASKQ_RESULT_URL", &["worker", "--unsupervised"]),
        ("TASKQ_BEAT_GROUP", &["beat"]),
        ("RUST_LOG", &["status", "7"]),
    ] {
        let refused = shop(&folder).env_os(variable, OsStr::from_bytes(b"sqlite:\xa3")).run(arguments).expect_exit(3);
        let error = error_of(&refused);
        assert!(error.contains(variable) && error.contains("not Unicode"), "{refused}");
    }
}

#[test]
fn a_line_break_behind_a_url_makes_no_other_file() {
    let folder = Folder::new("environment");
    let shop = shop(&folder);
    let toml = folder.path().join("broken.toml");
    std::fs::write(&toml, "broker_url = \"sqlite:x.db\\n\"\n").expect("the folder can be written");
    for (app, arguments, place) in [
        (
            shop.clone().env("TASKQ_BROKER_URL", "sqlite:x.db\n"),
            &["call", "shop.add", "2", "3"][..],
            "TASKQ_BROKER_URL",
        ),
        (shop.clone().env("TASKQ_RESULT_URL", "sqlite:x.db "), &["status", "7"], "TASKQ_RESULT_URL"),
        (shop.clone(), &["--broker", "sqlite:x.db\n", "queues", "list"], "command line"),
        (shop, &["--config", "broken.toml", "call", "shop.add", "2", "3"], "broken.toml"),
    ] {
        let refused = app.run(arguments).expect_exit(3);
        assert!(error_of(&refused).contains(place), "{refused}");
    }
    let files = std::fs::read_dir(folder.path()).expect("it is there").count();
    assert_eq!(files, 1, "only the settings");
}

#[test]
fn signals_that_the_starter_has_blocked_are_received() {
    let folder = Folder::new("environment");
    let blocking = shop(&folder).by(&["env", "--block-signal", "--ignore-signal=TERM,CHLD"]);
    for arguments in [&[][..], &["--unsupervised"]] {
        let mut worker = blocking.start(&[&["worker"], arguments].concat());
        worker.wait_until_ready();
        worker.drain();
    }
    let mut beat = blocking.start(&["beat"]);
    beat.wait_until_ready();
    beat.drain();
}

#[test]
fn a_backtrace_does_not_hide_why_a_worker_does_not_start() {
    let supervised = SupervisedWorker::new(SHOP);
    let app = supervised.app.clone().env("SHOP_PANICS_AT_START", "no shelf is left").env("RUST_BACKTRACE", "1");
    let finished = app.run(&["worker", "--state-dir", "state"]).expect_exit(9);
    assert!(finished.stderr.contains("stack backtrace:"), "the frames are in the log\n{finished}");
    let error = error_of(&finished);
    assert!(error.contains("no shelf is left") && !error.contains("core::panicking"), "{finished}");
}

#[test]
fn too_few_descriptors_are_told_from_missing_rights() {
    let folder = Folder::new("environment");
    shop(&folder).run(&["call", "shop.add", "2", "3"]).expect_exit(0);
    let mut refused = 0;
    for limit in 5..30 {
        let limited = shop(&folder).by(&["sh", "-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
        let finished = limited.run(&["call", "shop.add", "2", "3"]);
        if finished.exit != 0 {
            refused += 1;
            assert!(error_of(&finished).contains("ulimit -n"), "with {limit} descriptors: {finished}");
        }
    }
    assert!((5..25).contains(&refused), "{refused} calls were refused");
    let worker = shop(&folder).by(&["sh", "-c", "ulimit -n 12; exec \"$0\" \"$@\""]).run(&["worker"]).expect_exit(7);
    assert!(error_of(&worker).contains("ulimit -n"), "{worker}");
}

#[test]
fn folders_of_others_and_long_names_are_no_obstacle() {
    let folder = Folder::new("environment");
    let (theirs, temporary) = (folder.path().join("theirs"), folder.path().join("tmp"));
    for made in [&theirs, &temporary] {
        std::fs::create_dir(made).expect("the folder can be written");
    }
    // Where this test may not give a folder away, the root folder is somebody else's already.
    let given = Command::new("chown").arg("12345").arg(&theirs).status().is_ok_and(|status| status.success());
    let runtime = if given { theirs.as_path() } else { "/".as_ref() };
    let app =
        shop(&folder).env_os("XDG_RUNTIME_DIR", runtime).env_os("TMPDIR", &temporary).env("HOSTNAME", &"h".repeat(300));
    let mut worker = app.start(&["worker"]);
    let ready = worker.wait_until_ready();
    assert!(ready["node"].as_str().is_some_and(|node| node.starts_with("taskq@hhhh")), "{ready}");
    let entries = |folder| std::fs::read_dir(folder).expect("it is there").count();
    assert_eq!((entries(&theirs), entries(&temporary)), (0, 1), "the state is in the temporary folder");
    worker.drain();
    // And where there is no such folder at all.
    let mut worker =
        app.env("XDG_RUNTIME_DIR", "/no/such").env("TMPDIR", "/dev/null").start(&["worker", "-n", &"n".repeat(300)]);
    worker.wait_until_ready();
    worker.drain();
}

#[test]
fn a_secret_in_a_file_is_in_no_environment() {
    let folder = Folder::new("environment");
    let secret = folder.path().join("broker");
    std::fs::write(&secret, "sqlite:in-secret.db\n").expect("the folder can be written");
    let file = secret.to_str().expect("it is text");
    let shop = shop(&folder).env("TASKQ_BROKER_URL_FILE", file);
    let mut worker = shop.start(&["worker", "--state-dir", "state"]);
    worker.wait_until_ready();
    let children = children_of(worker.id());
    for process in [&children[..], &[worker.id()]].concat() {
        for place in ["environ", "cmdline"] {
            let shown = std::fs::read(format!("/proc/{process}/{place}")).expect("it is ours");
            let shown = String::from_utf8_lossy(&shown);
            assert!(!shown.contains("in-secret"), "{shown}");
            assert_eq!(shown.contains(file), place == "environ", "{shown}");
        }
    }
    assert_eq!(shop.run(&["call", "shop.add", "2", "3", "--wait=60s"]).expect_exit(0).json()["value"], 5);
    let check = shop.run(&["check", "--json"]).expect_exit(0).json();
    let settings = check["settings"].as_array().expect("there are some");
    let broker = settings.iter().find(|setting| setting["key"] == "broker_url").expect("it is one");
    assert_eq!(broker["origin"], format!("TASKQ_BROKER_URL_FILE={file}"), "{check}");
    worker.drain();
    // A flag wins over the file, also in the processes that get it as a variable.
    let mut worker = shop.start(&["worker", "--state-dir", "state", "--broker", "sqlite:other.db"]);
    worker.wait_until_ready();
    let called = shop.run(&["--broker", "sqlite:other.db", "call", "shop.add", "2", "3", "--wait=60s"]);
    assert_eq!(called.expect_exit(0).json()["value"], 5);
    worker.drain();
    for (app, told) in [
        (shop.clone().env("TASKQ_BROKER_URL", "sqlite:x.db"), "TASKQ_BROKER_URL is set as well"),
        (shop.clone().env("TASKQ_SIGNING_KEY_FILE", "/no/such"), "TASKQ_SIGNING_KEY_FILE=/no/such: cannot be read"),
    ] {
        let refused = app.run(&["worker"]).expect_exit(3);
        assert!(error_of(&refused).contains(told), "{refused}");
    }
}
