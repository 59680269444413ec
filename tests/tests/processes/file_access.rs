//! The files that programs make are for their own user, or for a group where the settings say so. Files that more users
//! may use are told of, and so is the process that keeps a file locked.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use taskq_tests::harness::{App, ReadLock, SqliteFixture, SupervisedWorker, wait_until};

fn fixture() -> SqliteFixture {
    SqliteFixture::new(env!("CARGO_BIN_EXE_shop"), env!("CARGO_BIN_EXE_producer"))
}

/// The modes of all files in a folder, by name; those of folders in it with their content.
fn modes(folder: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let Ok(about) = path.symlink_metadata() else { continue };
        if about.is_dir() {
            found.extend(modes(&path).into_iter().map(|(inner, mode)| (format!("{name}/{inner}"), mode)));
        }
        found.insert(name, about.permissions().mode() & 0o777);
    }
    found
}

/// The program under a umask.
fn under(app: App, umask: &str) -> App {
    app.by(&["sh", "-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
}

#[test]
fn all_files_of_a_worker_are_its_users_alone_whatever_the_umask_is() {
    let supervised = SupervisedWorker::new(env!("CARGO_BIN_EXE_shop"));
    let app = under(supervised.app.clone(), "000");
    let mut worker = supervised.worker_of(&app, &["-c", "1", "--health", "health"]);
    let id = supervised.send(&["shop.slow", "600000"]);
    supervised.wait_until_started(&id);
    wait_until("all is well", || supervised.path("health").exists().then_some(()));
    let modes = modes(supervised.path("state").parent().expect("it is in a folder"));
    let has = |words: &str| modes.keys().any(|name| name.contains(words));
    for words in ["taskq.db-wal", "taskq.db-shm", "taskq.db-lease-", "health", ".flight", "/lock", "/owner"] {
        assert!(has(words), "{words} is missing: {modes:?}");
    }
    for (name, mode) in &modes {
        let expected = match name.as_str() {
            // The program, which the test has put there.
            "app" => continue,
            _ if name.ends_with(".flight") || name.contains('.') || name == "health" || name.contains("/o") => 0o600,
            _ if name.ends_with("/lock") => 0o600,
            _ => 0o700,
        };
        assert_eq!(*mode, expected, "{name} {mode:o}");
    }
    assert!(!worker.stderr().contains("other users"), "{}", worker.stderr());
    worker.wait_for("it runs", |_| Some(()));
    worker.kill();
}

#[test]
fn a_group_may_use_the_files_where_the_settings_say_so() {
    let fixture = fixture();
    let app = under(fixture.shop().env("TASKQ_FILE_MODE", "0660"), "077");
    let mut worker = app.start(&["worker", "--unsupervised", "-c", "1", "-l", "warn"]);
    worker.wait_until_ready();
    app.run(&["call", "shop.add", "1", "2", "--wait=30s"]).expect_exit(0);
    let modes = modes(fixture.file.folder());
    assert!(modes.len() >= 4 && modes.values().all(|mode| *mode == 0o660), "{modes:?}");
    assert_eq!(worker.stderr(), "");
    worker.drain();
    let refused = fixture.shop().env("TASKQ_FILE_MODE", "0644").run(&["check"]).expect_exit(3);
    for words in ["`file_mode` takes", "\"0600\"", "\"0660\"", "stop all writing by a lock"] {
        assert!(refused.stderr.contains(words), "{words}: {refused}");
    }
}

#[test]
fn a_file_that_others_may_use_stays_as_it_is_and_is_told_of() {
    let fixture = fixture();
    File::create(fixture.file.path()).expect("the folder can be written");
    fs::set_permissions(fixture.file.path(), fs::Permissions::from_mode(0o644)).expect("it is ours");
    let worker = fixture.ready_worker(1);
    let warnings: Vec<String> = worker.stderr().lines().filter(|line| line.contains("chmod")).map(Into::into).collect();
    let path = fixture.file.path().display().to_string();
    let remedy = format!("chmod 0600 {path} {path}-wal {path}-shm");
    assert!(warnings.len() == 1 && warnings[0].contains(&remedy), "{warnings:?}");
    let checked = fixture.shop().run(&["check"]).expect_exit(0).json();
    let exposure = checked["exposure"][0].as_str().unwrap_or_default();
    assert!(exposure.contains(&remedy) && exposure.contains("(mode 0644, owner "), "{checked}");
    let mode = fs::metadata(fixture.file.path()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    worker.drain();
}

/// A lock that takes no more than the right to read.
#[test]
fn the_process_that_keeps_a_file_locked_by_its_companion_is_named() {
    let fixture = fixture();
    let mut worker = fixture.ready_worker(8);
    let companion = format!("{}-shm", fixture.file.path().display());
    let lock = ReadLock::on(Path::new(&companion));
    let call = ["call", "shop.ledger", fixture.ledger.path(), "-", "0", "--id", "kept"];
    let refused = fixture.shop().run(&call).expect_exit(4);
    let named = format!("the process {} (", std::process::id());
    let by = format!("by a lock on {companion}");
    for said in [
        &refused.stderr,
        &worker.wait_for("it says so", |worker| Some(worker.stderr()).filter(|log| log.contains(&by))),
    ] {
        assert!(said.contains(&named) && said.contains(&by) && said.contains("end it if it hangs"), "{said}");
    }
    drop(lock);
    fixture.shop().run(&["call", "shop.add", "1", "2", "--wait=60s"]).expect_exit(0);
    worker.drain();
    println!("named: the process that holds the lock, by the command line and by the worker; then 1 task: run");
}
