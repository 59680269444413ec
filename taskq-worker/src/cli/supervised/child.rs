//! The child's side of a supervised worker: takes messages of the supervisor (to stop, to store a loss) and reports to
//! it.
//!
//! All of this runs on the thread of the connections, which tasks cannot block.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
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
use crate::remote::{Node, NodeAnswer, NodeQuestion, serve};
use crate::supervise::link::{self, ChildMessage, Hello, Listener, SupervisorMessage};
use crate::supervise::{state_dir, unix};
use crate::telemetry;

/// The pause between two heartbeats.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// The pause before another attempt to store a loss.
const STORE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The time for the answers of the other processes. Askers wait for a second.
const ANSWERS_WITHIN: Duration = Duration::from_millis(600);

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
    /// The questions of this process to all processes of the worker.
    node: SupervisedNode,
    writing: OnceLock<Mutex<OwnedWriteHalf>>,
    /// The client and the worker, once this process takes work.
    work: OnceLock<(Client, WorkerControl)>,
}

/// The questions of this process to all processes of its worker that are not yet answered.
#[derive(Default)]
struct SupervisedNode {
    count: AtomicU64,
    open: std::sync::Mutex<HashMap<u64, OpenQuestion>>,
}

/// A question that waits for answers. When it is dropped, all of them are there.
struct OpenQuestion {
    answers: mpsc::UnboundedSender<Option<Value>>,
    /// The number of answers that are missing; `None` until the supervisor has told how many there will be.
    missing: Option<usize>,
}

impl SupervisedNode {
    /// Begins a question, and returns its number and its answers.
    fn begin(&self) -> (u64, mpsc::UnboundedReceiver<Option<Value>>) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let (answers, given) = mpsc::unbounded_channel();
        self.lock().insert(number, OpenQuestion { answers, missing: None });
        (number, given)
    }

    /// Notes the number of answers that will come. The supervisor tells it before any of them.
    fn expect(&self, number: u64, children: usize) {
        let mut open = self.lock();
        if children == 0 {
            open.remove(&number);
        } else if let Some(question) = open.get_mut(&number) {
            question.missing = Some(children);
        }
    }

    /// Takes an answer.
    fn take(&self, number: u64, answer: Option<Value>) {
        let mut open = self.lock();
        let Some(question) = open.get_mut(&number) else { return };
        // The asker may have gone.
        drop(question.answers.send(answer));
        question.missing = question.missing.map(|missing| missing.saturating_sub(1));
        if question.missing == Some(0) {
            open.remove(&number);
        }
    }

    fn end(&self, number: u64) {
        self.lock().remove(&number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, OpenQuestion>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        taskq::internal::io::spawn(obey(
            reading,
            Arc::clone(&link),
            stops.clone(),
            self.hello.quarantine.clone(),
            self.hello.worker.clone(),
        ));
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
        Ok(builder.supervised(Supervision { recorder, quarantine, worker: self.hello.worker.clone(), events }))
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

async fn obey(
    reading: OwnedReadHalf,
    link: Arc<SupervisorLink>,
    stops: Stops,
    quarantine: Option<String>,
    node: Option<String>,
) {
    let mut listener = Listener::new(reading);
    while let Some(message) = listener.next().await {
        match message {
            SupervisorMessage::Hello(_) => {}
            SupervisorMessage::Drain => stops.ask(1),
            SupervisorMessage::YieldTurn => {
                drop(taskq::internal::io::spawn(yield_turn(quarantine.clone(), Arc::clone(&link))));
            }
            SupervisorMessage::Cancel => stops.ask(2),
            SupervisorMessage::Speak => drop(taskq::internal::io::spawn(speak(Arc::clone(&link), node.clone()))),
            SupervisorMessage::Question { number, question } => {
                taskq::internal::io::spawn(answer(number, question, Arc::clone(&link)));
            }
            SupervisorMessage::Asked { number, children } => link.node.expect(number, children),
            SupervisorMessage::Answer { number, answer } => link.node.take(number, answer),
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

/// Answers remote control for the whole worker, until this process ends.
async fn speak(link: Arc<SupervisorLink>, node: Option<String>) {
    // Only a process that has reported that it is ready is asked to.
    let (Some(node), Some((client, control))) = (node, link.work.get()) else { return };
    control.speaks();
    let client = client.clone();
    serve(client, node, GroupNode(link)).await;
}

/// Answers a question to all processes.
async fn answer(number: u64, question: Value, link: Arc<SupervisorLink>) {
    let answer = match (serde_json::from_value(question), link.work.get()) {
        (Ok(question), Some((_, control))) => control.ask(question).await.pop(),
        // A speaker of another build, or a process that does not work yet.
        _ => None,
    };
    let answer = answer.and_then(|answer| serde_json::to_value(answer).ok());
    link.send(&ChildMessage::Answer { number, answer }).await;
}

/// The worker as a node, of which this process is one.
struct GroupNode(Arc<SupervisorLink>);

impl Node for GroupNode {
    fn ask(&self, question: NodeQuestion) -> BoxFuture<'_, Vec<NodeAnswer>> {
        async move {
            let (number, mut answers) = self.0.node.begin();
            let question = serde_json::to_value(question).expect("ids, texts and numbers can be written as JSON");
            self.0.send(&ChildMessage::Question { number, question }).await;
            let mut given = Vec::new();
            let all = async {
                while let Some(answer) = answers.recv().await {
                    given.extend(answer.and_then(|answer| serde_json::from_value(answer).ok()));
                }
            };
            if tokio::time::timeout(ANSWERS_WITHIN, all).await.is_err() {
                tracing::warn!("not every process of this worker has answered a question of remote control");
            }
            self.0.node.end(number);
            given
        }
        .boxed()
    }
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
