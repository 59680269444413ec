//! The statements of the guides to deploying: how to look into the file, that a backup taken while a worker runs is
//! whole, and what the units for systemd are.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use rusqlite::Connection;
use taskq::{Client, Context, task};
use taskq_tests::harness::{Block, Folder, commands, repository};
use taskq_worker::Worker;
use tokio::sync::oneshot;

/// How many tasks wait while the backup is made.
const WAITING: i64 = 20;

#[task(queue = "deploying")]
async fn double(x: i64) -> i64 {
    2 * x
}

/// Tells that it runs, and goes on when it is told to.
#[task(queue = "holding")]
async fn hold(ctx: &Context) -> Result<(), String> {
    let door = ctx.state::<Door>();
    let (running, open) = door.0.lock().map_err(|error| error.to_string())?.take().ok_or("it runs a second time")?;
    running.send(()).map_err(|()| "nobody waits for it")?;
    open.await.map_err(|error| error.to_string())
}

struct Door(Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>);

/// The query of the guide whose text has these words.
fn query(words: &str) -> String {
    let blocks = Block::all_of("docs/deploying-one-machine.md").into_iter();
    let steps = blocks.filter(|block| block.language() == "console").flat_map(|block| block.steps());
    let mut queries = steps.flat_map(|step| commands(&step.command)).filter(|command| command[0] == "sqlite3");
    let mut command = queries.find(|command| command.concat().contains(words)).expect("the guide has such a query");
    command.pop().expect("a command has words")
}

/// How many messages are ready, held by a worker, and due later.
fn counts(file: &Path) -> [i64; 3] {
    let connection = Connection::open(file).expect("it is SQLite's");
    let row = connection.query_row(&query("SELECT"), [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]));
    row.expect("the query of the guide fits the file")
}

async fn client(file: &Path) -> Client {
    Client::builder().broker(format!("sqlite:{}", file.display())).build().await.expect("the file can be used")
}

#[tokio::test]
async fn a_backup_made_while_a_worker_runs_is_whole() {
    let folder = Folder::new("deploying");
    let (file, copy) = (folder.path().join("taskq.db"), folder.path().join("copy.db"));
    let from = client(&file).await;
    let (running, runs) = oneshot::channel();
    let (open, door) = oneshot::channel();
    let state = Door(Mutex::new(Some((running, door))));
    let worker = Worker::builder(from.clone()).queues(["holding"]).state(state);
    let backup = async {
        let held = hold().send(&from).await.expect("it is taken");
        runs.await.expect("it runs");
        let waiting = from.send_all((0..WAITING).map(double)).await.all().expect("they are taken");
        double(100).countdown("1h").send(&from).await.expect("it is taken");
        assert_eq!(counts(&file), [WAITING, 1, 1]);
        let sql = query("VACUUM INTO").replace("/var/backups/my-app/taskq.db", &copy.display().to_string());
        Connection::open(&file).expect("it is SQLite's").execute_batch(&sql).expect("a backup can be made");
        open.send(()).expect("it waits");
        held.get().await.expect("the backup was in nobody's way");
        waiting
    };
    let waiting = worker.run_until(backup).await.expect("it drains");
    assert_eq!(counts(&file), [WAITING, 0, 1]);

    assert!(!folder.path().join("copy.db-wal").exists(), "the copy needs no companions");
    assert_eq!(counts(&copy), [WAITING, 1, 1], "it is as the file was");
    let to = client(&copy).await;
    let again = async {
        for (number, handle) in (0..).zip(&waiting) {
            let handle = to.handle::<i64>(handle.id().clone());
            assert_eq!(handle.get().await.expect("it runs"), 2 * number);
        }
    };
    Worker::builder(to.clone()).queues(["deploying"]).run_until(again).await.expect("it drains");
    // What ran during the backup is still held there, until its worker's lease ends.
    assert_eq!(counts(&copy), [0, 1, 1]);
}

/// The unit that is shipped.
fn shipped() -> String {
    std::fs::read_to_string(repository().join("deploy/taskq-worker.service")).expect("it is shipped")
}

/// The lines of a unit that a guide shows.
fn shown(guide: &str) -> String {
    let blocks = Block::all_of(guide).into_iter().filter(|block| block.language() == "ini");
    let units: Vec<String> = blocks.map(|block| block.text).collect();
    assert!(!units.is_empty(), "{guide} shows one");
    units.join("\n")
}

/// The settings of a unit's service, by key.
fn service(unit: &str) -> BTreeMap<&str, &str> {
    let mut is_service = false;
    let lines = unit.lines().filter(|line| {
        if line.starts_with('[') {
            is_service = *line == "[Service]";
        }
        is_service && !line.starts_with('#')
    });
    lines.filter_map(|line| line.split_once('=')).collect()
}

/// Guides may leave out what is of no concern, and one machine's program is started in another way; but how it is
/// begun, watched, renewed and ended, and what it may do, is the same everywhere.
#[test]
fn the_units_of_the_guides_are_the_one_that_is_shipped() {
    const SAME: [&str; 35] = [
        "Type",
        "ExecReload",
        "KillMode",
        "TimeoutStopSec",
        "WatchdogSec",
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
        "RuntimeDirectoryPreserve",
        "RuntimeDirectoryMode",
        "NoNewPrivileges",
        "CapabilityBoundingSet",
        "ProtectSystem",
        "StateDirectory",
        "StateDirectoryMode",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectProc",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectControlGroups",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "SystemCallErrorNumber",
        "UMask",
        "LimitCORE",
    ];
    let shipped = shipped();
    let shipped = service(&shipped);
    for guide in ["docs/deploying.md", "docs/deploying-one-machine.md"] {
        let unit = shown(guide);
        let shown = service(&unit);
        for key in SAME {
            assert_eq!(shown.get(key), shipped.get(key), "{guide}: {key}");
            assert!(shown.contains_key(key), "{guide}: {key}");
        }
        let words: Vec<&str> = shown["ExecStart"].split(' ').collect();
        taskq_worker::understands(&words).unwrap_or_else(|why| panic!("{guide}: {words:?}: {why}"));
        let state = format!("/run/{}", shown["RuntimeDirectory"]);
        assert!(words.windows(2).any(|pair| pair == ["--state-dir", &state]), "{guide}: {words:?}");
    }
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let folder = Folder::new("units");
    for (name, unit) in [("one@.service", shown("docs/deploying-one-machine.md")), ("shipped.service", shipped())] {
        // It looks for the program and the user, which are the reader's.
        let unit = unit.replace("/usr/local/bin/my_app", "/bin/true").replace("User=my-app", "User=root");
        let path = folder.path().join(name);
        std::fs::write(&path, unit).expect("the folder can be written");
        let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
            println!("skipped: there is no systemd-analyze here");
            return;
        };
        assert!(verified.status.success() && verified.stderr.is_empty(), "{name}: {verified:?}");
    }
}

/// The points, of ten, that systemd gives a unit for what it leaves open.
#[test]
fn systemd_finds_little_that_the_units_leave_open() {
    const OPEN_MAX: &str = "35";
    let folder = Folder::new("open");
    for (name, unit) in [("one@.service", shown("docs/deploying-one-machine.md")), ("shipped.service", shipped())] {
        let path = folder.path().join(name);
        std::fs::write(&path, unit).expect("the folder can be written");
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", "--threshold", OPEN_MAX]).arg(&path);
        let Ok(rated) = command.output() else {
            println!("skipped: there is no systemd-analyze here");
            return;
        };
        let told = String::from_utf8_lossy(&rated.stderr).into_owned();
        if told.contains("unrecognized option") {
            println!("skipped: this systemd-analyze does not rate files");
            return;
        }
        assert!(rated.status.success(), "{name}: {}{told}", String::from_utf8_lossy(&rated.stdout));
    }
}

/// The lines of a shipped file, without comments and the spaces around them.
fn lines(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join(file)).expect("it is shipped");
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().trim_start_matches("- "));
    lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn the_container_has_no_rights_that_a_worker_does_not_need() {
    let manifest = lines("deploy/kubernetes.yaml");
    for line in [
        "automountServiceAccountToken: false",
        "runAsNonRoot: true",
        "runAsUser: 10001",
        "seccompProfile: { type: RuntimeDefault }",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "capabilities: { drop: [ALL] }",
    ] {
        assert!(manifest.iter().any(|found| found == line), "{line} is missing");
    }
    let count = |beginning: &str| manifest.iter().filter(|line| line.starts_with(beginning)).count();
    assert_eq!((count("httpGet:"), count("timeoutSeconds:")), (2, 2), "each probe has its time");
    assert_eq!((count("requests: { cpu:"), count("limits: { cpu:")), (1, 1));
    // The folder for the state is made by the worker, in a volume.
    let arguments = manifest.iter().find_map(|line| line.strip_prefix("args: [")?.strip_suffix(']'));
    let arguments = arguments.expect("the worker has arguments").replace('"', "");
    let words: Vec<&str> = ["my_app", "worker"].into_iter().chain(arguments.split(", ")).collect();
    taskq_worker::understands(&words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
    let state = words.windows(2).find(|pair| pair[0] == "--state-dir").expect("it has one")[1];
    let is_in = |line: &&String| {
        let mount = line.split_once("mountPath: ").map(|(_, path)| path.trim_end_matches(" }"));
        mount.is_some_and(|mount| state.strip_prefix(mount).is_some_and(|rest| rest.starts_with('/')))
    };
    assert!(manifest.iter().any(|line| is_in(&line)), "{state} is in no volume");

    let image = lines("deploy/Dockerfile");
    assert!(image.iter().any(|line| line == "USER 10001:10001"), "the image has the user of the manifest");
    let begun = image.iter().rposition(|line| line.starts_with("COPY")).expect("it has the program");
    assert!(image[begun].contains("--chown=root:root"), "its user cannot write the program");
}
