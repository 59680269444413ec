//! The child's side of a supervised worker: takes messages of the supervisor (to stop, to store a loss) and reports to
//! it.
//!
//! All of this runs on the thread of the connections, which tasks cannot block.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use taskq::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::host::WorkerHost;
use super::super::lifecycle_lines::WorkerFacts;
use super::super::session::Session;
use super::super::signals::Stops;
use super::super::streams;
use crate::engine::{
    Supervision, WorkerBuilder, WorkerControl, WorkerEvent, WorkerHeartbeat, WorkerSummary, report_loss,
};
use crate::recorder::Recorder;
use crate::recorder::flight::Loss;
use crate::supervise::link::{self, ChildMessage, Hello, Listener, SupervisorMessage};
use crate::supervise::{state_dir, unix};
use crate::telemetry;

/// The pause between two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// The pause before another attempt to store a loss.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The longest first line, in bytes.
const HELLO_MAX: u64 = 1 << 20;

/// This process as a child of its supervisor.
pub(in super::super) struct SupervisedProcess {
    hello: Hello,
    stderr: OwnedFd,
    link: Arc<SupervisorLink>,
    reading: std::sync::Mutex<Option<UnixStream>>,
    /// While it is open, this process's recording is not taken for that of a dead process.
    _lock: File,
}

/// The way to the supervisor.
#[derive(Default)]
struct SupervisorLink {
    writing: OnceLock<Mutex<OwnedWriteHalf>>,
    /// The client and the worker, once this process takes work.
    work: OnceLock<(Client, WorkerControl)>,
}

/// Runs `work` as the child that the supervisor told with the numbers of two descriptors, `LINK,STDERR`.
pub(in super::super) fn with_child(
    descriptors: &str,
    work: impl FnOnce(SupervisedProcess) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    work(SupervisedProcess::connect(descriptors)?)
}

impl SupervisedProcess {
    fn connect(descriptors: &str) -> Result<Self, Failure> {
        let numbers = descriptors.split_once(',').and_then(|(one, two)| Some((one.parse().ok()?, two.parse().ok()?)));
        let Some((link, stderr)) = numbers else {
            return Err(Failure::new(Exit::Usage, "--supervised-by is for the supervisor, which passes two numbers"));
        };
        let open = |number| unix::inherited(number).map_err(|error| Failure::cannot_start(&error));
        let (link, stderr) = (UnixStream::from(open(link)?), open(stderr)?);
        let hello = read_hello(&link).map_err(|error| Failure::cannot_start(&error))?;
        let lock = state_dir::hold(&hello.flight).map_err(|error| Failure::cannot_start(&error))?;
        let reading = std::sync::Mutex::new(Some(link));
        Ok(Self { hello, stderr, link: Arc::default(), reading, _lock: lock })
    }
}

impl WorkerHost for SupervisedProcess {
    /// Returns whether the worker's stderr is a terminal. That of this process is a pipe until it is ready.
    fn has_terminal(&self) -> bool {
        self.stderr.is_terminal()
    }

    fn is_first(&self) -> bool {
        self.hello.is_first
    }

    /// Returns `false`: the supervisor replaces its children.
    fn watches_for_builds(&self) -> bool {
        false
    }

    /// Starts to obey the supervisor's messages, and to send it heartbeats.
    fn listen(&self, stops: &Stops) {
        let Some(socket) = self.reading.lock().ok().and_then(|mut socket| socket.take()) else { return };
        let link = Arc::clone(&self.link);
        let _on_that_thread = taskq::internal::io::handle().enter();
        let halves = socket.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(socket));
        let (reading, writing) = match halves {
            Ok(stream) => stream.into_split(),
            Err(error) => unreachable!("an open socket can be waited for: {error}"),
        };
        drop(link.writing.set(Mutex::new(writing)));
        taskq::internal::io::spawn(obey(reading, Arc::clone(&link), stops.clone(), self.hello.quarantine.clone()));
        taskq::internal::io::spawn(send_heartbeats(link));
    }

    /// Adds the node name, the quarantine queue and the recorder that the supervisor gave this process.
    fn build(&self, mut builder: WorkerBuilder, concurrency: usize) -> Result<WorkerBuilder, Failure> {
        if let Some(node) = &self.hello.node {
            builder = builder.name(node);
        }
        let quarantine = self.hello.quarantine.is_some();
        if let Some(queue) = &self.hello.quarantine {
            builder = builder.queues([queue]);
        }
        let slots = if quarantine { 1 } else { concurrency };
        let recorder = Recorder::create(&self.hello.flight, slots).map_err(|error| Failure::cannot_start(&error))?;
        let (events, received) = mpsc::unbounded_channel();
        taskq::internal::io::spawn(forward(received, Arc::clone(&self.link)));
        Ok(builder.supervised(Supervision { recorder, quarantine, events }))
    }

    /// Tells the supervisor that this process takes work. From here on its stderr is the worker's own.
    async fn ready(
        &self,
        session: &Session,
        facts: &WorkerFacts,
        client: &Client,
        control: WorkerControl,
    ) -> Result<(), Failure> {
        unix::put_stderr(&self.stderr).map_err(|error| Failure::cannot_start(&error))?;
        streams::replace_when_unread().map_err(|error| Failure::cannot_start(&error))?;
        drop(self.link.work.set((client.clone(), control)));
        let ready = serde_json::to_value(facts).map_err(|error| Failure::unwritten(&error.into()))?;
        self.link.send(&ChildMessage::Ready { ready, kept_in: kept_in(session)? }).await;
        Ok(())
    }

    async fn stopped_before_ready(&self) {
        self.link.send_ended(&WorkerSummary::default()).await;
    }

    async fn ended(&self, _session: &Session, _node: &str, summary: &WorkerSummary) -> Result<(), Failure> {
        self.link.send_ended(summary).await;
        Ok(())
    }
}

/// Returns the place where losses are stored, without passwords.
fn kept_in(session: &Session) -> Result<String, Failure> {
    let settings = session.settings()?.report();
    let kept_in = settings.into_iter().find(|setting| setting.key == "result_url").map(|setting| setting.value);
    let kept_in = kept_in.unwrap_or_default();
    // A relative path means another file in another folder.
    Ok(match kept_in.strip_prefix("sqlite:").map(std::path::absolute) {
        Some(Ok(path)) => format!("sqlite:{}", path.display()),
        _ => kept_in,
    })
}

/// Reads the first line. The supervisor wrote it before this process was started.
fn read_hello(link: &UnixStream) -> io::Result<Hello> {
    let mut line = Vec::new();
    // Nothing is read beyond the line, since the rest is for another reader: hence the buffer of one byte.
    BufReader::with_capacity(1, link.take(HELLO_MAX)).read_until(b'\n', &mut line)?;
    match serde_json::from_slice(&line)? {
        SupervisorMessage::Hello(hello) => Ok(hello),
        other => Err(io::Error::other(format!("the first message of the supervisor is {other:?}"))),
    }
}

impl SupervisorLink {
    async fn send_ended(&self, summary: &WorkerSummary) {
        let interrupted = summary.interrupted;
        let summary = serde_json::to_value(summary).unwrap_or_default();
        self.send(&ChildMessage::Ended { summary, interrupted }).await;
    }

    /// Sends a message to the supervisor. If the supervisor is gone, this process ends anyway.
    async fn send(&self, message: &ChildMessage) {
        let (Some(writing), Ok(line)) = (self.writing.get(), link::line(message)) else { return };
        if let Err(error) = writing.lock().await.write_all(&line).await {
            tracing::debug!(%error, "a message could not be sent to the supervisor");
        }
    }
}

async fn obey(reading: OwnedReadHalf, link: Arc<SupervisorLink>, stops: Stops, quarantine: Option<String>) {
    let mut listener = Listener::new(reading);
    while let Some(message) = listener.next().await {
        match message {
            SupervisorMessage::Hello(_) => {}
            SupervisorMessage::Drain => stops.ask(1),
            SupervisorMessage::YieldTurn => {
                drop(taskq::internal::io::spawn(yield_turn(quarantine.clone(), Arc::clone(&link))));
            }
            SupervisorMessage::Cancel => stops.ask(2),
            SupervisorMessage::StoreLoss { file, loss } => {
                taskq::internal::io::spawn(store(file, loss, Arc::clone(&link)));
            }
        }
    }
    // Nothing would restart this process any more, or stop it.
    tracing::error!("the supervisor is gone; ending now, and what was running comes back to its queue");
    telemetry::sum_up_all();
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

/// Ends the worker when its task has ended, and reports whether further tasks wait in its quarantine queue.
async fn yield_turn(quarantine: Option<String>, link: Arc<SupervisorLink>) {
    // Only a quarantine process that has reported that it is ready is asked.
    let (Some(queue), Some((client, control))) = (quarantine, link.work.get()) else { return };
    let has_more = match client.broker().stats(&queue).await {
        Ok(stats) => stats.ready > 0,
        Err(error) => {
            tracing::debug!(%error, queue, "it is not known whether more tasks wait in this queue");
            true
        }
    };
    if has_more {
        link.send(&ChildMessage::QuarantineWanted { queues: vec![queue] }).await;
    }
    control.finish();
}

/// Stores a loss, however many attempts that takes. If this process ends before, another one is asked.
async fn store(file: String, loss: Loss, link: Arc<SupervisorLink>) {
    // Only a process that has reported that it is ready is asked.
    let Some((client, _)) = link.work.get() else { return };
    while let Err(error) = report_loss(client, &loss).await {
        tracing::warn!(%error, "a loss cannot be stored yet; trying again");
        tokio::time::sleep(STORE_AGAIN_AFTER).await;
    }
    link.send(&ChildMessage::LossStored { file }).await;
}

async fn send_heartbeats(link: Arc<SupervisorLink>) {
    loop {
        let heartbeat = match link.work.get() {
            Some((_, control)) => {
                let WorkerHeartbeat { done, running, problem } = control.heartbeat().await;
                ChildMessage::Heartbeat { done, running, live: problem.is_none(), problem }
            }
            None => ChildMessage::Heartbeat { done: 0, running: 0, live: false, problem: None },
        };
        link.send(&heartbeat).await;
        tokio::time::sleep(HEARTBEAT_EVERY).await;
    }
}

async fn forward(mut events: mpsc::UnboundedReceiver<WorkerEvent>, link: Arc<SupervisorLink>) {
    while let Some(event) = events.recv().await {
        link.send(&match event {
            WorkerEvent::Stuck { task, id } => ChildMessage::Stuck { task, id },
            WorkerEvent::QuarantineWanted { queues } => ChildMessage::QuarantineWanted { queues },
        })
        .await;
    }
}
