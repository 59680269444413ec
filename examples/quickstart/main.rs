//! The first five minutes: one task per file below a folder, a worker, a progress bar, a table.
//!
//! ```console
//! $ cargo run --bin quickstart [-- PATH] [--json]
//! ```
//!
//! The worker is a process of its own. With nothing configured, both processes use the file `taskq.db` in the working
//! directory; with `TASKQ_BROKER_URL` and `TASKQ_RESULT_URL` they use those servers.

mod files;
mod report;

use std::error::Error;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use report::{Report, examine};
use taskq::{Client, Handle, TaskId};

/// The environment variable by which this program, started once more, becomes the worker.
const WORKER_VARIABLE: &str = "TASKQ_QUICKSTART_WORKER";

/// The number of rows in the table.
const ROWS: usize = 10;

/// The number of results that are awaited at the same time.
const WAITING_MAX: usize = 256;

fn main() -> ExitCode {
    if std::env::var_os(WORKER_VARIABLE).is_some() {
        return taskq_worker::main();
    }
    let outcome = Arguments::read(std::env::args_os().skip(1)).and_then(|arguments| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(run(&arguments))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    folder: PathBuf,
    json: bool,
}

impl Arguments {
    fn read(words: impl Iterator<Item = OsString>) -> Result<Self, Box<dyn Error>> {
        let this_repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let mut arguments = Self { folder: PathBuf::from(this_repository), json: false };
        for word in words {
            match word.to_str() {
                Some("--json") => arguments.json = true,
                Some("-h" | "--help") => return Err("usage: quickstart [PATH] [--json]".into()),
                _ => arguments.folder = PathBuf::from(word),
            }
        }
        arguments.folder = arguments
            .folder
            .canonicalize()
            .map_err(|error| format!("cannot look into {}: {error}", arguments.folder.display()))?;
        Ok(arguments)
    }
}

/// The outcome of all tasks.
struct Run {
    reports: Vec<Report>,
    failures: Vec<(String, String)>,
    retries: u32,
    took: Duration,
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let paths = files::below(&arguments.folder)?;
    let client = Client::from_settings().await?.install();
    // A queue of its own keeps apart from other users of the broker.
    let queue = format!("quickstart-{}", TaskId::new());
    let worker = RunningWorker::start(&queue)?;
    let run = examine_all(&client, &queue, paths, arguments.json).await;
    worker.stop().await?;
    client.close().await;
    let run = run?;
    if arguments.json {
        print_json(&run)?;
    } else {
        print_table(&run, &arguments.folder);
    }
    Ok(())
}

async fn examine_all(client: &Client, queue: &str, paths: Vec<String>, quiet: bool) -> Result<Run, Box<dyn Error>> {
    let begun = Instant::now();
    let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { progress_bar(paths.len()) };
    let calls = paths.iter().map(|path| examine(path.as_str()).queue(queue.to_owned()));
    let handles = client.send_all(calls).await.all()?;

    let waits = handles.into_iter().zip(paths).map(|(handle, path)| wait_for(handle, path));
    let mut ends = stream::iter(waits).buffer_unordered(WAITING_MAX);
    let (mut reports, mut failures, mut retries) = (Vec::new(), Vec::new(), 0);
    while let Some(end) = ends.next().await {
        let (path, outcome, attempts) = end?;
        retries += attempts;
        match outcome {
            Ok(report) => reports.push(report),
            Err(why) => failures.push((path, why)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    reports.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
    Ok(Run { reports, failures, retries, took: begun.elapsed() })
}

/// Waits for the end of a task. Returns its path, its report or the reason why there is none, and the number of
/// retries.
async fn wait_for(handle: Handle<Report>, path: String) -> Result<(String, Result<Report, String>, u32), taskq::Error> {
    let outcome = match handle.get().await {
        Ok(report) => Ok(report),
        Err(taskq::Error::Failed { failure, .. }) => Err(failure.to_string()),
        Err(other) => return Err(other),
    };
    let retries = handle.status().await?.attempt;
    Ok((path, outcome, retries))
}

/// The process of the worker.
struct RunningWorker(Child);

impl RunningWorker {
    fn start(queue: &str) -> Result<Self, Box<dyn Error>> {
        let process = Command::new(std::env::current_exe()?)
            .args(["worker", "--queues", queue, "--loglevel", "warn"])
            .env(WORKER_VARIABLE, "1")
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(process))
    }

    async fn stop(self) -> Result<(), Box<dyn Error>> {
        let Self(mut process) = self;
        // `kill` without a signal's name asks it to finish, as a service manager does.
        Command::new("kill").arg(process.id().to_string()).status()?;
        let status = tokio::task::spawn_blocking(move || process.wait()).await??;
        if status.success() { Ok(()) } else { Err(format!("the worker ended with {status}").into()) }
    }
}

fn progress_bar(files: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {pos}/{len} files, {per_sec}").expect("the template is a constant");
    ProgressBar::new(files as u64).with_style(style)
}

fn print_table(run: &Run, folder: &std::path::Path) {
    println!("{:>10} {:>8}  {:<12} {:<36} file", "bytes", "lines", "sha-256", "most frequent words");
    for report in run.reports.iter().take(ROWS) {
        let words: Vec<String> = report.words.iter().map(|(word, count)| format!("{word} {count}")).collect();
        let path = std::path::Path::new(&report.path);
        let path = path.strip_prefix(folder).unwrap_or(path);
        let (bytes, lines, digest) = (report.bytes, report.lines, &report.digest[..12]);
        println!("{bytes:>10} {lines:>8}  {digest:<12} {:<36} {}", words.join(", "), path.display());
    }
    if run.reports.len() > ROWS {
        println!("{:>10} {:>8}  … and {} smaller files", "", "", run.reports.len() - ROWS);
    }
    for (path, why) in &run.failures {
        println!("{:>10} {:>8}  failed: {path}: {why}", "", "");
    }
    let tasks = run.reports.len() + run.failures.len();
    let (failed, retries, seconds) = (run.failures.len(), run.retries, run.took.as_secs_f64());
    let rate = tasks as f64 / seconds.max(f64::EPSILON);
    println!("\n{tasks} tasks, {failed} failed, {retries} retries, {seconds:.2} s, {rate:.0} tasks/s");
}

fn print_json(run: &Run) -> Result<(), serde_json::Error> {
    let document = serde_json::json!({
        "reports": run.reports,
        "failures": run.failures,
        "retries": run.retries,
        "seconds": run.took.as_secs_f64(),
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
