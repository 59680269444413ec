//! Running programs whose file has a fault: they say which file and what the remedy is, nothing
//! that was accepted is lost without a word, nobody spins, and where the fault can go away the work goes on.

// The faults are made, and the processors' time is read, as Linux has it.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::scope;
use std::time::Duration;

use rusqlite::Connection;
use taskq::TaskState;
use taskq_tests::harness::{App, Audit, Deaths, Expected, Process, SqliteFixture, unique, wait_until};

/// How much of one processor a worker may use while it can do nothing; one that spins uses all of it.
const LOAD_MAX: f64 = 0.5;

/// For how long that is looked at.
const WINDOW: Duration = Duration::from_secs(2);

/// More tasks than a producer sends before it is stopped.
const MANY: usize = 1_000_000;

fn fixture() -> SqliteFixture {
    SqliteFixture::new(env!("CARGO_BIN_EXE_shop"), env!("CARGO_BIN_EXE_producer"))
}

/// Sends so many tasks, all of which have to be accepted.
fn send(fixture: &SqliteFixture, prefix: &str, count: usize) {
    fixture.producer(prefix, count, 50, 0).finish().expect_exit(0);
    let notes = fixture.notes(prefix);
    assert_eq!((notes.accepted.len(), notes.refused), (count, Vec::new()));
}

/// Checks that a program names the file, the fault and the remedy.
fn assert_says(said: &str, file: &Path, words: &[&str]) {
    assert!(said.contains(&file.display().to_string()), "the file is not named: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

/// Waits until the worker's log has all of these words on one line.
fn wait_until_logged(worker: &mut Process, words: &[&str]) {
    worker.wait_for("the worker says what is wrong", |worker| {
        let log = worker.stderr();
        log.lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    });
}

fn assert_rests(worker: &Process) {
    let load = worker.load(WINDOW);
    println!("the worker uses {load:.3} of a processor while it can do nothing");
    assert!(load < LOAD_MAX, "it uses {load:.3} of a processor, and can do nothing");
}

/// That all that was accepted ran once, and what was refused did not. `doubtful` may have run.
fn assert_all_ran_once(fixture: &SqliteFixture, prefixes: &[&str], doubtful: &[&str]) {
    wait_until("every message is settled", || (fixture.file.count("messages") == 0).then_some(()));
    let (entries, ends) = (fixture.ledger.entries(), fixture.file.ends());
    let ran = doubtful.iter().filter(|id| entries.iter().any(|entry| entry.id == **id)).map(ToString::to_string);
    let accepted = prefixes.iter().flat_map(|prefix| fixture.notes(prefix).accepted);
    let expected = accepted.chain(ran).map(|id| Expected { id, last_attempt: 0, state: TaskState::Success });
    let (expected, deaths): (Vec<_>, _) = (expected.collect(), Deaths::default());
    let audit =
        Audit { expected: &expected, entries: &entries, deaths: &deaths, concurrency: 8, ends: &ends, dead: &[] };
    audit.assert_kept("nobody died");
}

/// A file system in memory, of one test's own. Unmounted when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None`, with a line that says so, where this process may not mount anything.
    fn tmpfs(folder: &'a Path, size: &str) -> Option<Self> {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        let status = fs::read_to_string("/proc/self/status").expect("Linux says what a process may do");
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
        let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex, 16).ok()).expect("it is a number");
        if capabilities & CAP_SYS_ADMIN == 0 {
            eprintln!("skipped: a full disk needs one of its own, and this process may not mount it (CAP_SYS_ADMIN)");
            return None;
        }
        let options = format!("size={size}");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).status();
        assert!(status.expect("there is a mount command").success(), "nothing can be mounted on {}", folder.display());
        Some(Self(folder))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily, since a program that is being killed may still have the file open.
        let status = Command::new("umount").arg("-l").arg(self.0).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_is_said_and_the_work_goes_on_when_there_is_room() {
    let fixture = fixture();
    let Some(_mount) = Mount::tmpfs(fixture.file.folder(), "16m") else { return };
    let mut worker = fixture.ready_worker(8);
    send(&fixture, "before", 200);
    let filler = fixture.file.folder().join("filler");
    fill(&filler);
    let mut during = Vec::new();
    // Some find room in what SQLite has to itself.
    let refused = loop {
        let prefix = format!("during{}", during.len());
        fixture.producer(&prefix, 500, 50, 0).finish().expect_exit(0);
        let notes = fixture.notes(&prefix);
        during.push(prefix);
        if !notes.refused.is_empty() {
            break notes.refused;
        }
    };
    for (_, why) in refused {
        assert_says(&why, &fixture.file.path(), &["is full", "make room on it"]);
    }
    wait_until_logged(&mut worker, &["is full; make room on it", &fixture.file.path().display().to_string()]);
    assert_rests(&worker);
    fs::remove_file(filler).expect("it is there");
    send(&fixture, "after", 200);
    let prefixes: Vec<&str> = ["before", "after"].into_iter().chain(during.iter().map(String::as_str)).collect();
    assert_all_ran_once(&fixture, &prefixes, &[]);
    worker.drain();
    fixture.assert_tidy();
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    let mut filler = File::create(path).expect("there is room for a name");
    for size in [1 << 16, 1 << 12, 1] {
        loop {
            match filler.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{} cannot be written: {error}", path.display()),
            }
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_said_and_the_work_goes_on_when_it_may() {
    let fixture = fixture();
    // Without the trap the kernel would end the worker.
    let script = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let shell = fixture.file.app("sh");
    let mut worker =
        shell.start(&["-c", script, env!("CARGO_BIN_EXE_shop"), "worker", "--unsupervised", "-c", "8", "-l", "warn"]);
    worker.wait_until_ready();
    send(&fixture, "before", 200);
    wait_until("the tasks have run", || (fixture.file.count("messages") == 0).then_some(()));
    let limit = |limit: &str| {
        let status =
            Command::new("prlimit").args(["--pid", &worker.id().to_string(), &format!("--fsize={limit}:")]).status();
        assert!(status.expect("there is prlimit").success(), "the worker's limit cannot be set");
    };
    // The ledger is smaller than this.
    limit("200000");
    // Whatever is written behind the limit fails for the worker, and for nobody else.
    let mut during = Vec::new();
    wait_until("the worker says what is wrong", || {
        if worker.stderr().lines().any(|line| line.contains("did not read or write") && line.contains("ulimit -f")) {
            return Some(());
        }
        assert!(during.len() < 20, "the ledger must stay smaller than the limit\n{}", worker.stderr());
        during.push(format!("during{}", during.len()));
        send(&fixture, during.last().expect("it was just put there"), 50);
        None
    });
    assert_rests(&worker);
    limit("unlimited");
    send(&fixture, "after", 200);
    let prefixes: Vec<&str> = ["before", "after"].into_iter().chain(during.iter().map(String::as_str)).collect();
    assert_all_ran_once(&fixture, &prefixes, &[]);
    worker.drain();
    fixture.assert_tidy();
}

#[test]
fn a_file_that_somebody_keeps_locked_is_said_and_the_work_goes_on_when_it_is_free() {
    let fixture = fixture();
    let mut worker = fixture.ready_worker(8);
    let producer = fixture.producer("locked", 4000, 10, 10);
    wait_until("tasks run", || (fixture.ledger.len() >= 100).then_some(()));
    let locker = fixture.file.plain();
    locker.execute_batch("BEGIN EXCLUSIVE").expect("it gets its turn");
    let impatient = fixture.shop().env("TASKQ_PUBLISH_TIMEOUT", "1s");
    let call = ["call", "shop.ledger", fixture.ledger.path(), "-", "0", "--id", "doubtful"];
    let ended = impatient.run(&call).expect_exit(4);
    assert!(ended.stderr.contains("did not confirm the message within 1s"), "{ended}");
    let path = fixture.file.path().display().to_string();
    let holder = format!("locked; it is the process {} (", std::process::id());
    let words = ["another process keeps", &path, &holder];
    wait_until_logged(&mut worker, &words);
    assert_rests(&worker);
    let refused = wait_until("a producer is told", || fixture.notes("locked").refused.into_iter().next());
    assert_says(&refused.1, &fixture.file.path(), &words);
    locker.execute_batch("ROLLBACK").expect("it is under way");
    drop(locker);
    producer.finish().expect_exit(0);
    assert_all_ran_once(&fixture, &["locked"], &["doubtful"]);
    worker.drain();
    fixture.assert_tidy();
}

/// A change to the files of a running system.
#[derive(Debug, Clone, Copy)]
enum Deletion {
    Database,
    Log,
    SharedMemory,
    All,
    Replacement,
}

impl Deletion {
    fn carry_out(self, database: &Path) {
        let file = |end: &str| format!("{}{end}", database.display());
        let ends: &[&str] = match self {
            Self::Database => &[""],
            Self::Log => &["-wal"],
            Self::SharedMemory => &["-shm"],
            Self::All => &["", "-wal", "-shm"],
            Self::Replacement => {
                fs::write(file("-backup"), "").expect("the folder can be written");
                return fs::rename(file("-backup"), database).expect("the folder can be written");
            }
        };
        for end in ends {
            fs::remove_file(file(end)).expect("it is there");
        }
    }
}

#[test]
fn a_file_that_is_deleted_ends_the_worker_and_takes_no_more_messages() {
    use Deletion::{All, Database, Log, Replacement, SharedMemory};
    scope(|threads| {
        for deletion in [Database, Log, SharedMemory, All, Replacement] {
            threads.spawn(move || delete(deletion));
        }
    });
}

fn delete(deletion: Deletion) {
    let fixture = fixture();
    let worker = fixture.shop().start(&["worker", "--unsupervised", "-c", "8", "--grace", "1s", "-l", "warn"]);
    let mut idle = fixture.shop().start(&["worker", "--unsupervised", "-c", "8", "-Q", "nothing", "-l", "warn"]);
    idle.wait_until_ready();
    let waiter = fixture.shop().start(&["call", "shop.slow", "100000", "--wait=100s"]);
    let producer = fixture.producer("gone", MANY, 10, 5);
    wait_until("tasks run", || (fixture.ledger.len() >= 100).then_some(()));
    // Other names for the same files: what goes into them after the deletion could be read here.
    let database = fixture.file.path();
    let kept = fixture.file.folder().join("kept.db");
    for end in ["", "-wal"] {
        let file = |path: &Path| format!("{}{end}", path.display());
        fs::hard_link(file(&database), file(&kept)).expect("the folder can be written");
    }
    deletion.carry_out(&database);

    // The name of what was deleted, or of the first of them.
    let end = match deletion {
        Deletion::Log => "-wal",
        Deletion::SharedMemory => "-shm",
        _ => "",
    };
    let said = format!("{}{end} was deleted or replaced", database.display());
    let mend = "put it back, or restart this process";
    wait_until("the producer is told", || (!fixture.notes("gone").refused.is_empty()).then_some(()));
    let accepted = fixture.notes("gone").accepted;
    wait_until("the producer is told again and again", || (fixture.notes("gone").refused.len() >= 100).then_some(()));
    let notes = fixture.notes("gone");
    assert_eq!(notes.accepted, accepted, "{deletion:?}: something was accepted after the deletion");
    for (_, why) in notes.refused {
        assert!(why.contains(&said) && why.contains(mend), "{deletion:?}: {why}");
    }
    producer.kill();
    let told = waiter.finish().expect_exit(4);
    assert!(told.stderr.contains(&said) && told.stderr.contains(mend), "{deletion:?}: {told}");
    for worker in [worker, idle] {
        let ended = worker.finish().expect_exit(4);
        assert!(ended.stderr.contains(&said) && ended.stderr.contains(mend), "{deletion:?}: {ended}");
        assert!(ended.stderr.contains("the stream of messages ended by itself"), "{deletion:?}: {ended}");
        assert!(!ended.stderr.contains("panicked"), "{deletion:?}: {ended}");
    }

    let mut found: BTreeSet<String> = fixture.ledger.entries().into_iter().map(|entry| entry.id).collect();
    found.extend(stored_ids(&kept));
    let lost: Vec<_> = accepted.iter().filter(|id| !found.contains(*id)).collect();
    assert_eq!(lost, Vec::<&String>::new(), "{deletion:?}: accepted, and neither run nor in the file that was deleted");

    // A program that starts now works with the files that are there now.
    let again = fixture.ready_worker(2);
    fixture.shop().run(&["call", "shop.add", "2", "3", "--wait=30s"]).expect_exit(0);
    again.drain();
}

/// The ids of the messages in a database.
fn stored_ids(database: &Path) -> Vec<String> {
    let connection = Connection::open(database).expect("it is there");
    let mut statement = connection.prepare("SELECT headers FROM messages").expect("it is a table");
    let headers = statement.query_map([], |row| row.get::<_, String>(0)).expect("it can be read");
    let id = |headers: rusqlite::Result<String>| {
        let headers: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&headers.expect("it can be read")).expect("headers are JSON");
        headers["id"].as_str().expect("ids are texts").to_owned()
    };
    headers.map(id).collect()
}

#[test]
fn a_page_that_is_damaged_is_said_and_nobody_spins() {
    let fixture = fixture();
    let mut worker = fixture.ready_worker(8);
    send(&fixture, "before", 500);
    wait_until("the tasks have run", || (fixture.file.count("messages") == 0).then_some(()));
    overwrite(&fixture, &["messages", "ready", "held"]);
    fixture.producer("after", 50, 10, 0).finish().expect_exit(0);
    let notes = fixture.notes("after");
    assert_eq!(notes.accepted, Vec::<String>::new(), "nothing can be stored on these pages");
    let words = ["is damaged", "stop every process that uses it", ".recover"];
    for (_, why) in notes.refused {
        assert_says(&why, &fixture.file.path(), &words);
    }
    wait_until_logged(&mut worker, &words);
    assert_rests(&worker);
    worker.kill();
    // A worker that starts says the same.
    let ended = fixture.worker(8).finish().expect_exit(4);
    assert_says(&ended.stderr, &fixture.file.path(), &words);
    assert_eq!(fixture.ledger.len(), 500, "what ran before did not run again");
}

/// Overwrites the first page of each of these tables, in the middle of the file.
fn overwrite(fixture: &SqliteFixture, tables: &[&str]) {
    let plain = fixture.file.plain();
    plain.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("it gets its turn");
    let size: u32 = plain.query_row("PRAGMA page_size", [], |row| row.get(0)).expect("it has one");
    let page = |table: &&str| -> u32 {
        plain
            .query_row("SELECT rootpage FROM sqlite_master WHERE name = ?1", [table], |row| row.get(0))
            .expect("it is a table")
    };
    let pages: Vec<u32> = tables.iter().map(page).collect();
    // Before the file is opened and closed by other means, which would cost SQLite its locks.
    drop(plain);
    let mut file = File::options().write(true).open(fixture.file.path()).expect("it is there");
    for page in pages {
        file.seek(SeekFrom::Start(u64::from(page - 1) * u64::from(size))).expect("it is large enough");
        file.write_all(&vec![0xff; size as usize]).expect("it can be written");
    }
}

#[test]
fn a_file_that_may_only_be_read_is_said_and_whoever_has_it_open_goes_on() {
    let fixture = fixture();
    let worker = fixture.ready_worker(8);
    send(&fixture, "before", 50);
    let reader = Unprivileged::new(&fixture);
    let set_modes = |files: u32, folder: u32| {
        for end in ["", "-wal", "-shm"] {
            let path = format!("{}{end}", fixture.file.path().display());
            fs::set_permissions(path, fs::Permissions::from_mode(files)).expect("it is ours");
        }
        fs::set_permissions(fixture.file.folder(), fs::Permissions::from_mode(folder)).expect("it is ours");
    };
    set_modes(0o444, 0o555);
    for arguments in [&["worker"][..], &["call", "shop.add", "2", "3"]] {
        let ended = reader.start(arguments).finish().expect_exit(3);
        assert_says(&ended.stderr, &fixture.file.path(), &["give this user write access"]);
    }
    set_modes(0o600, 0o755);
    send(&fixture, "after", 50);
    assert_all_ran_once(&fixture, &["before", "after"], &[]);
    worker.drain();
    fixture.assert_tidy();
}

/// The shop for a user to whom the modes of files mean something, which they do not to root.
struct Unprivileged {
    app: App,
    /// The arguments before the shop's own.
    prefix: Vec<String>,
    program: std::path::PathBuf,
}

impl Unprivileged {
    fn new(fixture: &SqliteFixture) -> Self {
        // Nobody may look into the folder that it was built in.
        let program = std::env::temp_dir().join(unique("taskq-shop"));
        fs::copy(env!("CARGO_BIN_EXE_shop"), &program).expect("the temporary folder can be written");
        let id = Command::new("id").arg("-u").output().expect("there is `id`");
        let text = program.display().to_string();
        if String::from_utf8_lossy(&id.stdout).trim() == "0" {
            let prefix = ["--reuid=65534", "--regid=65534", "--clear-groups", &text].map(ToOwned::to_owned);
            Self { app: fixture.file.app("setpriv"), prefix: prefix.into(), program }
        } else {
            Self { app: fixture.file.app(&program), prefix: Vec::new(), program }
        }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let all: Vec<&str> = self.prefix.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        self.app.start(&all)
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        // What is left in the temporary folder is no test's concern.
        drop(fs::remove_file(&self.program));
    }
}
