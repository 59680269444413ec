//! The child's side of a supervised worker: takes messages of the supervisor (to stop, to store a loss) and reports to it.
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
use crate::engine::{Pulse, Supervision, WorkerBuilder, WorkerControl, WorkerEvent, WorkerSummary, losses};
use crate::recorder::Recorder;
use crate::recorder::flight::Loss;
use crate::supervise::link::{self, Begin, Listener, News, Order};
use crate::supervise::{state_dir, unix};

/// How often the supervisor is told that this process is alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// How long to wait before a loss that could not be written down is tried again.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The longest first line, in bytes.
const BEGIN_MAX: u64 = 1 << 20;

/// This process as a child of its supervisor.
pub(in super::super) struct SupervisedProcess {
    begin: Begin,
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
        let begin = read_begin(&link).map_err(|error| Failure::cannot_start(&error))?;
        let lock = state_dir::hold(&begin.flight).map_err(|error| Failure::cannot_start(&error))?;
        let reading = std::sync::Mutex::new(Some(link));
        Ok(Self { begin, stderr, link: Arc::default(), reading, _lock: lock })
    }
}

impl WorkerHost for SupervisedProcess {
    /// Returns whether the worker's stderr is a terminal. That of this process is a pipe until it is ready.
    fn has_terminal(&self) -> bool {
        self.stderr.is_terminal()
    }

    fn is_first(&self) -> bool {
        self.begin.is_first
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
        taskq::internal::io::spawn(obey(reading, Arc::clone(&link), stops.clone(), self.begin.alone.clone()));
        taskq::internal::io::spawn(beat(link));
    }

    /// Adds the node name, the quarantine queue and the recorder that the supervisor gave this process.
    fn build(&self, mut builder: WorkerBuilder, concurrency: usize) -> Result<WorkerBuilder, Failure> {
        if let Some(node) = &self.begin.node {
            builder = builder.name(node);
        }
        let alone = self.begin.alone.is_some();
        if let Some(queue) = &self.begin.alone {
            builder = builder.queues([queue]);
        }
        let slots = if alone { 1 } else { concurrency };
        let recorder = Recorder::create(&self.begin.flight, slots).map_err(|error| Failure::cannot_start(&error))?;
        let (events, told) = mpsc::unbounded_channel();
        taskq::internal::io::spawn(pass_on(told, Arc::clone(&self.link)));
        Ok(builder.supervised(Supervision { recorder, alone, events }))
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
        drop(self.link.work.set((client.clone(), control)));
        let ready = serde_json::to_value(facts).map_err(io::Error::from)?;
        self.link.say(&News::Ready { ready, kept_in: kept_in(session)? }).await;
        Ok(())
    }

    async fn stopped_before_ready(&self) {
        self.link.say_ended(&WorkerSummary::default()).await;
    }

    async fn ended(&self, _session: &Session, _node: &str, summary: &WorkerSummary) -> Result<(), Failure> {
        self.link.say_ended(summary).await;
        Ok(())
    }
}

/// Returns the place where losses are stored, without passwords.
fn kept_in(session: &Session) -> Result<String, Failure> {
    let settings = session.settings()?.report();
    let kept_in = settings.into_iter().find(|(key, ..)| *key == "result_url").map(|(_, url, _)| url);
    let kept_in = kept_in.unwrap_or_default();
    // A relative path means another file in another folder.
    Ok(match kept_in.strip_prefix("sqlite:").map(std::path::absolute) {
        Some(Ok(path)) => format!("sqlite:{}", path.display()),
        _ => kept_in,
    })
}

/// The first line. It is there before this process is.
fn read_begin(link: &UnixStream) -> io::Result<Begin> {
    let mut line = Vec::new();
    // Nothing is read beyond the line: the buffer is of one byte, since what follows is somebody else's.
    BufReader::with_capacity(1, link.take(BEGIN_MAX)).read_until(b'\n', &mut line)?;
    match serde_json::from_slice(&line)? {
        Order::Begin(begin) => Ok(begin),
        other => Err(io::Error::other(format!("the supervisor began with {other:?}"))),
    }
}

impl SupervisorLink {
    async fn say_ended(&self, summary: &WorkerSummary) {
        let interrupted = summary.interrupted;
        let summary = serde_json::to_value(summary).unwrap_or_default();
        self.say(&News::Ended { summary, interrupted }).await;
    }

    /// Sends a message to the supervisor. If the supervisor is gone, this process ends anyway.
    async fn say(&self, news: &News) {
        let (Some(writing), Ok(line)) = (self.writing.get(), link::line(news)) else { return };
        if let Err(error) = writing.lock().await.write_all(&line).await {
            tracing::debug!(%error, "the supervisor does not listen");
        }
    }
}

async fn obey(reading: OwnedReadHalf, link: Arc<SupervisorLink>, stops: Stops, alone: Option<String>) {
    let mut listener = Listener::new(reading);
    while let Some(order) = listener.next().await {
        match order {
            Order::Begin(_) => {}
            Order::Drain => stops.ask(1),
            Order::MakeRoom => drop(taskq::internal::io::spawn(make_room(alone.clone(), Arc::clone(&link)))),
            Order::Cancel => stops.ask(2),
            Order::Report { file, loss } => {
                taskq::internal::io::spawn(report(file, loss, Arc::clone(&link)));
            }
        }
    }
    // Nobody would start this process again, or stop it.
    tracing::error!("the supervisor is gone; ending now, and what was running comes back to its queue");
    std::process::exit(i32::from(Exit::Interrupted.code()));
}

/// Ends when the task that runs has ended. If others wait behind it, somebody has to come back for them.
async fn make_room(alone: Option<String>, link: Arc<SupervisorLink>) {
    // Only who has said that it is ready, and is for suspects, is asked.
    let (Some(queue), Some((client, control))) = (alone, link.work.get()) else { return };
    let has_more = match client.broker().stats(&queue).await {
        Ok(stats) => stats.ready > 0,
        Err(error) => {
            tracing::debug!(%error, queue, "whether more tasks wait to be run alone is not known");
            true
        }
    };
    if has_more {
        link.say(&News::AloneWanted { queues: vec![queue] }).await;
    }
    control.finish();
}

/// Writes a loss down, however often that takes. If this process ends before, another one is asked.
async fn report(file: String, loss: Loss, link: Arc<SupervisorLink>) {
    // Only who has said that it is ready is asked.
    let Some((client, _)) = link.work.get() else { return };
    while let Err(error) = losses::report(client, &loss).await {
        tracing::warn!(%error, "a loss cannot be written down yet");
        tokio::time::sleep(REPORT_AGAIN_AFTER).await;
    }
    link.say(&News::Reported { file }).await;
}

async fn beat(link: Arc<SupervisorLink>) {
    loop {
        let beat = match link.work.get().map(|(_, control)| control.pulse()) {
            Some(Pulse { done, running, trouble }) => News::Beat { done, running, live: trouble.is_none(), trouble },
            None => News::Beat { done: 0, running: 0, live: false, trouble: None },
        };
        link.say(&beat).await;
        tokio::time::sleep(BEAT_EVERY).await;
    }
}

async fn pass_on(mut events: mpsc::UnboundedReceiver<WorkerEvent>, link: Arc<SupervisorLink>) {
    while let Some(event) = events.recv().await {
        link.say(&match event {
            WorkerEvent::Stuck { task, id } => News::Stuck { task, id },
            WorkerEvent::AloneWanted { queues } => News::AloneWanted { queues },
        })
        .await;
    }
}
