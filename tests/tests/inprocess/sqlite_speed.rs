//! How fast tasks go through a file, beside a bare loop over a table in the same run. The figures are printed, and none
//! is asserted; `cargo test --release -p taskq-tests --test inprocess sqlite_speed -- --nocapture` gives those that
//! mean something.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use taskq::{Client, task};
use taskq_tests::harness::unique;
use taskq_worker::Worker;

const TASKS: usize = if cfg!(debug_assertions) { 3_000 } else { 100_000 };

/// How many rows the bare loop handles in one transaction.
const AT_ONCE: usize = 100;

static DONE: AtomicUsize = AtomicUsize::new(0);

#[task(name = "speed.stored")]
async fn stored(x: i64, y: i64) -> i64 {
    DONE.fetch_add(1, Ordering::Relaxed);
    x + y
}

#[task(name = "speed.ignored", ignore_result)]
async fn ignored(x: i64, y: i64) -> i64 {
    DONE.fetch_add(1, Ordering::Relaxed);
    x + y
}

/// A folder of this test's own, deleted with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder is no test's concern.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_beside_a_bare_loop() {
    let folder = Folder(std::env::temp_dir().join(unique("taskq-sqlite-speed")));
    std::fs::create_dir(&folder.0).expect("the temporary folder can be written");
    let (bare_in, bare_out) = bare(&folder.0.join("bare.db")).expect("SQLite works");
    let url = format!("sqlite:{}", folder.0.join("taskq.db").display());
    let client = Client::builder().broker(&url).results(&url).build().await.expect("the file can be made");
    let print = |what: &str, took: Duration, bare: Duration| {
        let rate = |took: Duration| TASKS as f64 / took.as_secs_f64();
        let ratio = bare.as_secs_f64() / took.as_secs_f64();
        println!("{what}: {:.0} tasks/s, bare loop {:.0}, ratio {ratio:.2}", rate(took), rate(bare));
    };

    let begun = Instant::now();
    client.send_all((0..TASKS).map(|_| ignored(2, 3))).await.all().expect("the queue exists");
    print("enqueue", begun.elapsed(), bare_in);
    print("drain without results", drain(&client).await, bare_out);
    client.send_all((0..TASKS).map(|_| stored(2, 3))).await.all().expect("the queue exists");
    print("drain with results", drain(&client).await, bare_out);
}

/// How long a worker takes for all that is queued, from its start to its last acknowledgement.
async fn drain(client: &Client) -> Duration {
    DONE.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    let worker = Worker::builder(client.clone()).concurrency(8).build().await.expect("the queue exists");
    let control = worker.control();
    let running = tokio::spawn(worker.run());
    while DONE.load(Ordering::Relaxed) < TASKS {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} of {TASKS} tasks are done",
            DONE.load(Ordering::Relaxed)
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    control.drain();
    let summary = running.await.expect("the worker does not panic").expect("the worker ends well");
    let took = begun.elapsed();
    assert_eq!(summary.succeeded, TASKS as u64);
    took
}

/// The work without tasks: rows go in, are taken and replaced by results, 100 in a transaction.
fn bare(path: &Path) -> rusqlite::Result<(Duration, Duration)> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         CREATE TABLE jobs (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, body BLOB NOT NULL);
         CREATE INDEX ready ON jobs (id) WHERE state = 0;
         CREATE TABLE results (id INTEGER PRIMARY KEY, value BLOB NOT NULL);",
    )?;
    let body = br#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
    let begun = Instant::now();
    for _ in 0..TASKS / AT_ONCE {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO jobs (state, body) VALUES (0, ?1)")?;
            for _ in 0..AT_ONCE {
                insert.execute([&body[..]])?;
            }
        }
        transaction.commit()?;
    }
    let put = begun.elapsed();
    let begun = Instant::now();
    let mut done = 0;
    while done < TASKS {
        let transaction = connection.transaction()?;
        let taken: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached(
                "UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT ?1)
                 RETURNING id, body",
            )?
            .query_map([AT_ONCE as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        transaction.commit()?;
        let transaction = connection.transaction()?;
        {
            let mut delete = transaction.prepare_cached("DELETE FROM jobs WHERE id = ?1")?;
            let mut insert = transaction.prepare_cached("INSERT INTO results (id, value) VALUES (?1, ?2)")?;
            for (id, body) in &taken {
                delete.execute([id])?;
                insert.execute(params![id, body])?;
            }
        }
        transaction.commit()?;
        done += taken.len();
    }
    Ok((put, begun.elapsed()))
}
