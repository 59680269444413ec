//! Real crashes, in real processes: this test's own program, started again.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

use taskq::task;

use super::*;
use crate::recorder::tests::{SIGABRT, SIGILL, SIGKILL, SIGSEGV, crash};

/// Says to the program that it is the one to crash: how, and with which file.
const HOW: &str = "TASKQ_TEST_CRASH";
const WHERE: &str = "TASKQ_TEST_CRASH_FILE";

#[task]
async fn flies() {
    std::future::pending::<()>().await;
}

#[task]
fn flies_on_a_thread() {
    Gate::block_at("never opened");
}

#[task]
async fn crashes(how: String) {
    // Not in the first poll, and on whichever thread comes.
    tokio::time::sleep(Duration::from_millis(1)).await;
    crash(&how);
}

#[task]
fn crashes_on_a_thread(how: String) {
    crash(&how);
}

struct CrashesWhenDropped;

impl Drop for CrashesWhenDropped {
    fn drop(&mut self) {
        crash("abort");
    }
}

#[task(time_limit = "100ms")]
async fn crashes_when_stopped() {
    let _crashes = CrashesWhenDropped;
    std::future::pending::<()>().await;
}

/// Not a test: the program that crashes.
#[test]
fn a_process_that_crashes() {
    let (Ok(how), Ok(path)) = (std::env::var(HOW), std::env::var(WHERE)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system grants a runtime").block_on(async {
        let client = client().await;
        let recorder = Recorder::create(path.as_ref(), 8).expect("a temporary file can be made");
        let (events, _unheard) = mpsc::unbounded_channel();
        let builder = Worker::builder(client.clone()).supervised(Supervision {
            recorder,
            quarantine: false,
            worker: None,
            events,
        });
        tokio::spawn(builder.concurrency(8).run());
        for _ in 0..2 {
            flies().send(&client).await.expect("memory takes it");
            flies_on_a_thread().send(&client).await.expect("memory takes it");
        }
        until("the neighbours fly", async || {
            (recorder::read(path.as_ref()).expect("a recording").flights.len() == 4).then_some(())
        })
        .await;
        match how.split_once('.') {
            Some(("async", how)) => crashes(how).send(&client).await.map(drop).expect("memory takes it"),
            Some(("thread", how)) => crashes_on_a_thread(how).send(&client).await.map(drop).expect("memory takes it"),
            Some(("drop", _)) => crashes_when_stopped().send(&client).await.map(drop).expect("memory takes it"),
            // A crash of nobody's: the thread is in no body.
            _ => crash(&how),
        }
        std::future::pending::<()>().await;
    });
}

/// Has a process crash, and gives its end and what it left behind.
fn crashed(how: &str) -> (Output, Vec<Flight>) {
    let file = File::new();
    let program = std::env::current_exe().expect("this program is a file");
    let output = Command::new(program)
        .args(["--exact", "engine::tests::crash::a_process_that_crashes", "--nocapture"])
        .env(HOW, how)
        .env(WHERE, &file.0)
        .stdin(Stdio::null())
        .output()
        .expect("this program can be started again");
    (output, file.flights())
}

fn culprits(flights: &[Flight]) -> Vec<&str> {
    flights.iter().filter(|flight| flight.culprit).map(|flight| flight.task.as_str()).collect()
}

#[test]
fn a_crash_marks_the_body_that_crashed_and_no_other() {
    for (how, signal, culprit) in [
        ("async.abort", SIGABRT, crashes::NAME),
        ("async.fault", SIGSEGV, crashes::NAME),
        ("async.overflow", SIGABRT, crashes::NAME),
        ("async.illegal", SIGILL, crashes::NAME),
        ("thread.abort", SIGABRT, crashes_on_a_thread::NAME),
        ("thread.fault", SIGSEGV, crashes_on_a_thread::NAME),
        ("thread.overflow", SIGABRT, crashes_on_a_thread::NAME),
        ("drop.abort", SIGABRT, crashes_when_stopped::NAME),
    ] {
        let (output, flights) = crashed(how);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(signal), "{how}: {errors}");
        assert_eq!((flights.len(), culprits(&flights)), (5, vec![culprit]), "{how}: {flights:?}");
        assert_eq!(errors.contains("has overflowed its stack"), how.ends_with("overflow"), "{how}: {errors}");
    }
}

#[test]
fn a_death_that_is_no_crash_of_a_body_marks_nobody() {
    let (output, flights) = crashed("async.kill");
    assert_eq!((output.status.signal(), flights.len()), (Some(SIGKILL), 5));
    assert_eq!(culprits(&flights), [""; 0], "nobody sees a kill coming");

    let (output, flights) = crashed("async.exit");
    assert_eq!((output.status.code(), flights.len()), (Some(3), 5));
    assert_eq!(culprits(&flights), [""; 0]);

    let (output, flights) = crashed("abort");
    assert_eq!((output.status.signal(), flights.len()), (Some(SIGABRT), 4));
    assert_eq!(culprits(&flights), [""; 0], "it was not in a body");
}
