//! What `docs/deploying-one-machine.md` says of the file: how to look into it, and that a backup taken while a worker runs
//! is whole.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::Connection;
use taskq::{Client, Context, task};
use taskq_tests::harness::{Block, Folder, commands};
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
