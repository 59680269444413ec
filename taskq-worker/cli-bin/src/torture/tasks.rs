//! The tasks of a run. They are written out as `#[task]` would generate them, so that they get into no program's
//! registry.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskq::canvas::TaskArgument;
use taskq::definition::{
    ArgumentError, Arguments, Backoff, Body, Context, Definition, Parameter, Registry, SourceLocation, TaskOptions,
    TaskResult,
};
use taskq::message::Json;
use taskq::{TaskError, TaskId};

use super::catalog::Fault;
use super::ledger::{Affected, Fact, Ledger, now_ms};
use super::processes::signal;
use super::workload::{Behavior, CrashKind};

/// The ledger as tasks use it; the state of the workers of a run.
#[derive(Debug)]
pub(crate) struct Witness {
    ledger: Ledger,
    /// The path of the ledger; beside it tasks leave files for their next run.
    path: PathBuf,
}

/// The environment variable that makes a worker of a run crash while it starts.
pub(super) const CRASH_AT_START: &str = "TASKQ_TORTURE_CRASH_AT_START";

impl Witness {
    /// Opens the ledger at `path`, which must exist. Aborts the process if it is to crash while it starts.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if std::env::var_os(CRASH_AT_START).is_some() {
            std::process::abort();
        }
        Ok(Self { ledger: Ledger::open(path, false)?, path: path.to_owned() })
    }

    /// Notes a fact. If that fails, the task fails: the ledger must not miss anything that counts as done.
    fn note(&self, fact: Fact) -> Result<(), TaskError> {
        self.ledger.note(fact).map_err(TaskError::permanent)
    }

    /// Returns `true` on the first call with this id, among all processes.
    fn is_first_time(&self, id: &TaskId) -> Result<bool, TaskError> {
        let word = self.path.with_file_name(format!("once.{id}"));
        match OpenOptions::new().write(true).create_new(true).open(word) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(TaskError::permanent(error)),
        }
    }
}

/// Returns the tasks that workers of a run know.
pub(crate) fn registry() -> Registry {
    Registry::of(TASKS.iter()).expect("the names below differ")
}

const RETRIED: TaskOptions = retried(20);

const RETRIED_ONCE: TaskOptions = retried(1);

const NOT_RETRIED: TaskOptions = {
    let mut options = TaskOptions::DEFAULT;
    options.retries = Some(0);
    options
};

const fn retried(retries: u32) -> TaskOptions {
    let mut options = TaskOptions::DEFAULT;
    options.retries = Some(retries);
    options.backoff = Some(Backoff::new(Duration::from_millis(100), Duration::from_millis(400)));
    options
}

const fn task(name: &'static str, options: TaskOptions) -> Definition {
    let location = SourceLocation::new(env!("CARGO_PKG_NAME"), file!(), line!());
    Definition::new(name, location, start).with_options(options).with_parameters(&PARAMETERS).with_result("u32")
}

static PARAMETERS: [Parameter; 2] = [Parameter::new("behavior", "Behavior"), Parameter::new("sent_ms", "u64")];

static TASKS: [Definition; 14] = [
    task("torture.work", TaskOptions::DEFAULT),
    task("torture.plain", TaskOptions::DEFAULT),
    task("torture.flaky", RETRIED),
    task("torture.panicking", RETRIED),
    task("torture.failing", TaskOptions::DEFAULT),
    task("torture.hopeless", RETRIED_ONCE),
    task("torture.cancelling", TaskOptions::DEFAULT),
    task("torture.snoozing", TaskOptions::DEFAULT),
    task("torture.progress", TaskOptions::DEFAULT),
    task("torture.long", TaskOptions::DEFAULT),
    task("torture.blocking", TaskOptions::DEFAULT),
    task("torture.spinning", NOT_RETRIED),
    task("torture.hogging", TaskOptions::DEFAULT),
    task("torture.dying", TaskOptions::DEFAULT),
];

fn start(context: Context, arguments: &Arguments<'_>) -> Result<Body, ArgumentError> {
    let task = context.task();
    arguments.check(task, &PARAMETERS)?;
    let behavior = Behavior::take(arguments, task, 0, &PARAMETERS[0])?;
    let sent_ms = u64::take(arguments, task, 1, &PARAMETERS[1])?;
    Ok(match behavior {
        Behavior::Plain { ms } => Body::Blocking(Box::new(move || {
            let run = TracedRun::begin(context)?;
            std::thread::sleep(Duration::from_millis(ms));
            run.effect()?;
            Ok(run.result())
        })),
        behavior => Body::Async(Box::pin(run(context, behavior, sent_ms))),
    })
}

/// One run of a body that notes what it does.
struct TracedRun {
    context: Context,
    witness: std::sync::Arc<Witness>,
}

impl TracedRun {
    fn begin(context: Context) -> Result<Self, TaskError> {
        let run = Self { witness: context.state::<Witness>(), context };
        run.witness.note(Fact::Began { id: run.id(), attempt: run.context.retries() })?;
        Ok(run)
    }

    fn id(&self) -> String {
        self.context.id().to_string()
    }

    fn effect(&self) -> Result<(), TaskError> {
        self.witness.note(Fact::Effect { id: self.id(), attempt: self.context.retries(), note: None })
    }

    fn result(&self) -> Json {
        serde_json::value::to_raw_value(&self.context.retries()).expect("a number can be written as JSON")
    }
}

async fn run(context: Context, behavior: Behavior, sent_ms: u64) -> TaskResult {
    let run = TracedRun::begin(context)?;
    let attempt = run.context.retries();
    match behavior {
        Behavior::Work { ms } => sleep(ms).await,
        Behavior::Flaky { until } if attempt < until => {
            run.effect()?;
            return Err(TaskError::from_task(io::Error::other("fails, as it should")));
        }
        Behavior::Panicking { until } if attempt < until => {
            run.effect()?;
            panic!("panics, as it should");
        }
        Behavior::Hopeless => {
            run.effect()?;
            panic!("panics each time, as it should");
        }
        Behavior::Failing => {
            run.effect()?;
            return Err(TaskError::permanent("fails for good, as it should"));
        }
        Behavior::Cancelling => {
            run.effect()?;
            return Err(TaskError::cancel("cancels itself, as it should"));
        }
        Behavior::Snoozing { ms } if now_ms() < sent_ms + ms => {
            return Err(TaskError::snooze(Duration::from_millis(ms / 3 + 50)));
        }
        Behavior::Progress { steps, ms } => {
            for step in 1..=steps {
                run.context.progress(step, steps, format!("step {step}"));
                sleep(ms).await;
            }
        }
        Behavior::Long { ms } => {
            let told = async {
                run.context.cancelled().await;
                let said = run.witness.note(Fact::Told { id: run.id(), attempt });
                // The body goes on all the same: if it is to be stopped, the worker must do it.
                std::future::pending::<()>().await;
                said
            };
            tokio::select! {
                () = sleep(ms) => {}
                said = told => said?,
            }
        }
        Behavior::Blocking { ms } => {
            let fault = || Fault::Block.name().to_owned();
            run.witness.note(Fact::Struck { fault: fault(), affected: Affected::Nobody })?;
            std::thread::sleep(Duration::from_millis(ms));
            run.witness.note(Fact::Over { fault: fault() })?;
        }
        Behavior::Spinning => {
            // This body can only be ended together with its process.
            run.witness.note(Fact::Doomed { id: run.id() })?;
            let mut turns = 0_u64;
            loop {
                turns = black_box(turns.wrapping_add(1));
            }
        }
        Behavior::Hogging { mb, ms } => {
            let memory = vec![1_u8; (mb << 20) as usize];
            sleep(ms).await;
            black_box(memory);
        }
        Behavior::Dying { how, always } => {
            if always || run.witness.is_first_time(run.context.id())? {
                run.witness.note(Fact::Doomed { id: run.id() })?;
                die(how).await.map_err(TaskError::permanent)?;
            }
        }
        Behavior::Plain { .. } | Behavior::Flaky { .. } | Behavior::Panicking { .. } | Behavior::Snoozing { .. } => {}
    }
    run.effect()?;
    Ok(run.result())
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Crashes this process. Returns only if that is not possible.
async fn die(how: CrashKind) -> io::Result<()> {
    match how {
        CrashKind::Abort => std::process::abort(),
        CrashKind::StackOverflow => {
            overflow(0);
            Ok(())
        }
        CrashKind::Segfault | CrashKind::Killed => {
            // Rust's own handler takes the first SEGV from outside for a fault that will recur, and uninstalls itself.
            let signals: &[_] = if how == CrashKind::Killed { &["KILL"] } else { &["SEGV", "SEGV"] };
            for name in signals {
                signal(std::process::id(), name)?;
                sleep(200).await;
            }
            sleep(10_000).await;
            Err(io::Error::other("a signal that ends processes did not end this one"))
        }
    }
}

#[expect(unconditional_recursion, reason = "it has to run out of stack")]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    frame[0].wrapping_add(black_box(overflow(depth.wrapping_add(1))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::plan::{Load, Plan};

    #[test]
    fn every_plan_finds_its_task() {
        let registry = registry();
        assert_eq!(registry.len(), TASKS.len());
        let faults: Vec<Fault> = Fault::all().collect();
        let everything =
            faults.iter().flat_map(|fault| fault.specials(10)).chain(Plan::make(1, Load::of(1000), &[], None).tasks);
        for task in everything {
            assert!(registry.get(task.behavior.task()).is_some(), "{:?}", task.behavior);
        }
    }
}
