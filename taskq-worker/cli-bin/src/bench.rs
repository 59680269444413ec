//! Measures throughput and latency of taskq, and of a bare AMQP client in the same run for comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use taskq::broker::{QueueKind, QueueSpec};
use taskq::canvas::{ArgumentList, TaskArgument};
use taskq::definition::{ArgumentError, Arguments, Body, Context, Definition, Parameter, Registry, SourceLocation};
use taskq::internal::bare;
use taskq::internal::codec;
use taskq::message::{Envelope, WireMessage};
use taskq::{BoxError, Call, Client, TaskId};
use taskq_worker::Worker;
use tokio::time::Instant;

/// The number of publishes that the bare loop leaves unconfirmed at a time.
const WINDOW: usize = 1000;

/// The prefetch of the bare loop: that of a worker with fast tasks.
const PREFETCH: u16 = 500;

/// The options of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BenchOptions {
    /// The number of tasks that are enqueued and drained.
    pub(crate) tasks: u32,
    /// The number of single calls that are timed from call to result.
    pub(crate) round_trips: u32,
    /// The number of tasks that run at the same time.
    pub(crate) concurrency: usize,
    /// Whether the queues are classic instead of quorum queues.
    pub(crate) classic: bool,
}

/// One line of the report.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Measurement {
    /// The name of the measured operation.
    what: &'static str,
    /// The value of taskq.
    taskq: f64,
    /// The value of the bare client, where there is one.
    bare: Option<f64>,
    /// The unit: tasks per second, or microseconds.
    unit: &'static str,
    /// The speed relative to the bare client: above 1, taskq is faster.
    ratio: Option<f64>,
}

impl Measurement {
    fn rate(what: &'static str, tasks: u32, took: Duration, bare: Option<bare::LoopRun>) -> Self {
        let taskq = f64::from(tasks) / took.as_secs_f64();
        let bare = bare.map(|run| run.count as f64 / run.took.as_secs_f64());
        Self { what, taskq, bare, unit: "tasks/s", ratio: bare.map(|bare| taskq / bare) }
    }

    fn median(what: &'static str, taskq: Vec<Duration>, bare: Option<Vec<Duration>>) -> Self {
        let (taskq, bare) = (median_micros(taskq), bare.map(median_micros));
        Self { what, taskq, bare, unit: "µs, median", ratio: bare.map(|bare| bare / taskq) }
    }

    /// Returns the cells of the table.
    pub(crate) fn row(&self) -> [String; 5] {
        let number = |number: f64| format!("{number:.0}");
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        [
            self.what.to_owned(),
            number(self.taskq),
            or_dash(self.bare.map(number)),
            self.unit.to_owned(),
            or_dash(self.ratio.map(|ratio| format!("{ratio:.2}"))),
        ]
    }

    /// The heads of the columns.
    pub(crate) const HEAD: [&'static str; 5] = ["what", "taskq", "bare", "unit", "of bare"];
}

fn median_micros(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took.get(took.len() / 2).map_or(0.0, |median| median.as_secs_f64() * 1e6)
}

/// The task: adds two numbers, and counts its runs.
static ADD: Definition =
    Definition::new("taskq.bench.add", SourceLocation::new(env!("CARGO_PKG_NAME"), file!(), line!()), start)
        .with_parameters(&PARAMETERS)
        .with_result("i64");

static PARAMETERS: [Parameter; 2] = [Parameter::new("x", "i64"), Parameter::new("y", "i64")];

/// The number of runs so far; the state of the tasks.
#[derive(Debug, Default)]
struct RunCount(AtomicU64);

fn start(context: Context, arguments: &Arguments<'_>) -> Result<Body, ArgumentError> {
    arguments.check(ADD.name, &PARAMETERS)?;
    let x = i64::take(arguments, ADD.name, 0, &PARAMETERS[0])?;
    let y = i64::take(arguments, ADD.name, 1, &PARAMETERS[1])?;
    Ok(Body::Async(Box::pin(async move {
        context.state::<Arc<RunCount>>().0.fetch_add(1, Ordering::Relaxed);
        Ok(serde_json::value::to_raw_value(&(x + y)).expect("a number can be written as JSON"))
    })))
}

fn arguments() -> Result<ArgumentList, serde_json::Error> {
    ArgumentList::from_json(&[2.into(), 3.into()], &serde_json::Map::new())
}

fn call(queue: &str) -> Result<Call<i64>, serde_json::Error> {
    Ok(Call::named(ADD.name, arguments()?).queue(queue.to_owned()))
}

/// Returns a message exactly as taskq sends it, for the bare loops.
fn message() -> Result<WireMessage, BoxError> {
    let arguments = arguments()?;
    let payload = codec::body::encode(|body| arguments.write_json(body), codec::Serializer::Json)?;
    let origin = Some("gen10000@localhost".to_owned());
    Ok(codec::encode(Envelope::new(TaskId::new(), ADD.name, payload).with(|envelope| envelope.origin = origin)))
}

/// Measures, and passes each line to `report` as soon as it is known.
pub(crate) async fn run(
    bench: BenchOptions,
    client: &Client,
    mut report: impl FnMut(Measurement),
) -> Result<(), BoxError> {
    let queues = BenchQueues::declare(client, bench.classic).await?;
    // Only RabbitMQ has a bare client to compare with.
    let url = client.settings().broker_url();
    let url = url.starts_with("amqp").then_some(url);
    let tasks = bench.tasks as usize;

    let bare = match url {
        Some(url) => Some(bare::publish(url, &queues.bare, message()?, tasks, WINDOW).await?),
        None => None,
    };
    let took = enqueue(&bench, client, &queues.ours, true).await?;
    report(Measurement::rate("enqueue, confirmed", bench.tasks, took, bare));

    let bare = match url {
        Some(url) => Some(bare::consume(url, &queues.bare, PREFETCH, tasks).await?),
        None => None,
    };
    let took = drain(&bench, client, &queues.ours).await?;
    report(Measurement::rate("drain, no result", bench.tasks, took, bare));

    if client.results().is_ok() {
        enqueue(&bench, client, &queues.ours, false).await?;
        let took = drain(&bench, client, &queues.ours).await?;
        report(Measurement::rate("drain, with results", bench.tasks, took, bare));

        let bare = match url {
            Some(url) => {
                let trips = bench.round_trips as usize;
                Some(bare::round_trips(url, &queues.bare, &queues.back, message()?, trips).await?)
            }
            None => None,
        };
        let took = round_trips(&bench, client, &queues.ours).await?;
        report(Measurement::median("call to result, idle", took, bare));
    }
    if let Some(url) = url {
        bare::delete_queues(url, &[queues.ours, queues.bare, queues.back]).await?;
    }
    Ok(())
}

/// The queues of a measurement.
struct BenchQueues {
    ours: String,
    bare: String,
    back: String,
}

impl BenchQueues {
    async fn declare(client: &Client, classic: bool) -> Result<Self, BoxError> {
        let run = TaskId::new();
        let name = |part: &str| format!("bench.{part}.{run}");
        let queues = Self { ours: name("ours"), bare: name("bare"), back: name("back") };
        let kind = if classic { QueueKind::Classic } else { QueueKind::Quorum };
        for name in [&queues.ours, &queues.bare, &queues.back] {
            let spec = QueueSpec::new(name.as_str(), kind);
            client.declare_as(&spec).await?;
        }
        Ok(queues)
    }
}

async fn enqueue(
    bench: &BenchOptions,
    client: &Client,
    queue: &str,
    ignore_result: bool,
) -> Result<Duration, BoxError> {
    let call = call(queue)?.ignore_result(ignore_result);
    let calls: Vec<_> = (0..bench.tasks).map(|_| call.clone()).collect();
    let begun = Instant::now();
    client.send_all(calls).await.all()?;
    Ok(begun.elapsed())
}

/// Returns how long a worker takes for all queued tasks, from its start to its last acknowledgement.
async fn drain(bench: &BenchOptions, client: &Client, queue: &str) -> Result<Duration, BoxError> {
    let done = Arc::new(RunCount::default());
    let begun = Instant::now();
    let worker = worker(bench, client, queue, &done).await?;
    let control = worker.control();
    let running = tokio::spawn(worker.run());
    while done.0.load(Ordering::Relaxed) < u64::from(bench.tasks) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    control.drain();
    running.await??;
    Ok(begun.elapsed())
}

async fn round_trips(bench: &BenchOptions, client: &Client, queue: &str) -> Result<Vec<Duration>, BoxError> {
    let worker = worker(bench, client, queue, &Arc::default()).await?;
    let control = worker.control();
    let running = tokio::spawn(worker.run());
    let mut took = Vec::with_capacity(bench.round_trips as usize);
    for _ in 0..bench.round_trips {
        let call = call(queue)?;
        let begun = Instant::now();
        call.send(client).await?.get().await?;
        took.push(begun.elapsed());
    }
    control.drain();
    running.await??;
    Ok(took)
}

async fn worker(bench: &BenchOptions, client: &Client, queue: &str, done: &Arc<RunCount>) -> Result<Worker, BoxError> {
    let builder = Worker::builder(client.clone())
        .concurrency(bench.concurrency)
        .queues([queue])
        .registry(Registry::of([&ADD])?)
        .state(Arc::clone(done));
    Ok(builder.build().await?)
}
