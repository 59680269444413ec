//! The engine in a supervised process, on the memory broker: what the recorder shows, which limits bind, and what
//! becomes of suspects. Promises that only real processes can show are tested in the package `tests`.

#![expect(clippy::disallowed_types, reason = "deadlines of tests are real time")]

mod claims;
#[cfg(unix)]
mod crash;
mod limits;
mod log;
mod quarantine;
mod recording;
mod renewal;
mod unrun;
mod waits;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use taskq::{Call, Client, Handle, TaskId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Supervision, Worker, WorkerBuilder, WorkerControl, WorkerError, WorkerEvent, WorkerSummary};
use crate::recorder::flight::Flight;
use crate::recorder::{self, Recorder};

/// Far longer than anything here takes; only a fault makes a test wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that tasks wait for without an await, and tests open. Named anew by each test, since all share it.
struct Gate(String);

impl Gate {
    fn new() -> Self {
        Self(TaskId::new().to_string())
    }

    fn state(name: &str) -> &'static AtomicBool {
        static GATES: Mutex<Option<HashMap<String, &'static AtomicBool>>> = Mutex::new(None);
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        let leaked = || &*Box::leak(Box::new(AtomicBool::new(false)));
        gates.get_or_insert_default().entry(name.to_owned()).or_insert_with(leaked)
    }

    fn open(&self) {
        Self::state(&self.0).store(true, Ordering::Release);
    }

    /// Blocks this thread until the gate is open.
    fn block_at(name: &str) {
        let gate = Self::state(name);
        while !gate.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A test that fails must not leave threads behind for which its runtime waits.
        self.open();
    }
}

/// A recorder's file, gone afterwards.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("taskq-engine-{}.flight", TaskId::new())))
    }

    fn flights(&self) -> Vec<Flight> {
        recorder::read(&self.0).expect("it is a recording").flights
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A supervised worker on a broker nobody else has, in a runtime of its own that tasks may block.
struct SupervisedFixture {
    client: Client,
    control: WorkerControl,
    worker: JoinHandle<Result<WorkerSummary, WorkerError>>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    file: File,
    runtime: Option<tokio::runtime::Runtime>,
}

impl SupervisedFixture {
    async fn start() -> Self {
        Self::with(&client().await, 2, false, |worker| worker).await
    }

    async fn with(
        client: &Client,
        threads: usize,
        quarantine: bool,
        configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).enable_all().build().expect("the system grants a runtime");
        let file = File::new();
        let recorder = Recorder::create(&file.0, 512).expect("a temporary file can be made");
        let (tell, events) = mpsc::unbounded_channel();
        let builder = Worker::builder(client.clone()).concurrency(8).grace(PATIENCE);
        let builder = configure(builder).supervised(Supervision { recorder, quarantine, worker: None, events: tell });
        let worker = runtime.spawn(async { builder.build().await.expect("the memory broker is always there") });
        let worker = worker.await.expect("building does not panic");
        let control = worker.control();
        let worker = runtime.spawn(worker.run());
        Self { client: client.clone(), control, worker, events, file, runtime: Some(runtime) }
    }

    async fn send<T>(&self, call: Call<T>) -> Handle<T> {
        call.send(&self.client).await.expect("the memory broker takes it")
    }

    /// The next event, which must come.
    async fn event(&mut self) -> WorkerEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event comes");
        event.expect("the worker lives")
    }

    async fn stop(mut self) -> WorkerSummary {
        self.control.drain();
        self.ended().await
    }

    async fn ended(&mut self) -> WorkerSummary {
        let ended = tokio::time::timeout(PATIENCE, &mut self.worker).await.expect("the worker ends");
        ended.expect("the worker does not panic").expect("the worker drains")
    }
}

impl Drop for SupervisedFixture {
    fn drop(&mut self) {
        // A runtime must not be waited for from within another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn client() -> Client {
    let url = format!("memory:{}", TaskId::new());
    Client::builder().broker(&url).results(&url).build().await.expect("the memory broker is always there")
}

/// Waits until `fact` gives something.
async fn until<T>(what: &str, mut fact: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = fact().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How often the tasks of a test have begun, by a name of the test's own.
fn count(name: &str) -> &'static AtomicU32 {
    static COUNTS: Mutex<Option<HashMap<String, &'static AtomicU32>>> = Mutex::new(None);
    let mut counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    let leaked = || &*Box::leak(Box::new(AtomicU32::new(0)));
    counts.get_or_insert_default().entry(name.to_owned()).or_insert_with(leaked)
}
