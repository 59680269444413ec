//! `torture`: exposes a run of tasks to faults, and says whether the promise to them was kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use taskq::BoxError;
use taskq::TaskId;
use taskq_worker::internal::cli::{self, Exit, Failure, Output, Session, values};

use crate::torture::{self, Fault, Need, TortureOptions, Verdict};

/// Expose a run of tasks to faults, and say whether the promise to them was kept
///
/// Starts workers of its own on queues of its own, sends tasks that are fast, slow, failing, panicking or delayed, and
/// lets the named faults strike. Everything that was sent, done and observed is noted in a file outside of taskq, from
/// which the verdict is derived. Other queues are left alone, but use faults of connections and servers only on servers
/// on which nobody depends. Exit code 0 means that the promise was kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq torture --list
  taskq torture --fault kill --fault resets --seed 7
  taskq torture --fault restart-broker --restart-broker 'systemctl restart rabbitmq-server'

The seed determines what is sent and what is struck in which order; the verdict names it, and --seed repeats it.")]
pub(super) struct Torture {
    /// List the faults, and what they need
    #[arg(long)]
    list: bool,
    /// A fault; may be given several times. Without any, only the tasks themselves cause trouble
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<Fault>,
    /// The seed of everything random [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The number of tasks [default: 1000, or as many as the faults need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: Option<u32>,
    /// The number of workers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// The number of processes of each worker [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    processes: Option<u16>,
    /// Workers of one process each, without a supervisor
    #[arg(long, conflicts_with = "processes")]
    unsupervised: bool,
    /// The number of tasks that each process runs at the same time
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How often each fault strikes [default: depends on the fault]
    #[arg(long, value_name = "N")]
    times: Option<u32>,
    /// How long lasting faults are held; a lease is 30 s
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "40s")]
    hold: Duration,
    /// The longest time without the end of any task after the last fault, while some have not ended
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "2m")]
    patience: Duration,
    /// A shell command that restarts the broker, and ends when it is up again
    #[arg(long, value_name = "CMD")]
    restart_broker: Option<String>,
    /// A shell command that takes a node of the broker away, brings it back and then ends. The name of a queue of the
    /// run is in `TORTURE_QUEUE`
    #[arg(long, value_name = "CMD")]
    fail_node: Option<String>,
    /// A shell command that restarts the result backend, empty, and ends when it is up again
    #[arg(long, value_name = "CMD")]
    restart_results: Option<String>,
    /// The longest time in which no send is accepted; if it is longer, the promise counts as broken [default: any]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pause_max: Option<Duration>,
    /// Keep the ledger and the workers' logs in this folder [default: a temporary one, kept if the promise was broken]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A fault in the answer to `--list`.
#[derive(Serialize)]
struct FaultRow {
    name: &'static str,
    about: &'static str,
    needs: String,
}

impl Torture {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.list {
            return list(session.output());
        }
        let options = self.options(session)?;
        // On a runtime like that of a worker, since the proxies carry all traffic of the workers.
        cli::task_runtime()?.block_on(async {
            let client = session.client().await?;
            let settings = client.settings();
            if let Some(obstacle) = options.obstacle(settings.broker_url(), settings.result_url()) {
                return Err(Failure::new(Exit::Usage, obstacle));
            }
            session.output().note(&format!("seed {}", options.seed))?;
            let verdict = torture::run(&options, &client).await.map_err(|error| could_not(&error))?;
            client.close().await;
            session.output().say(&verdict, Verdict::page)?;
            Ok(if verdict.held { Exit::Ok } else { Exit::PromiseBroken })
        })
    }

    fn options(self, session: &Session) -> Result<TortureOptions, Failure> {
        if self.processes.is_some() && !cli::CAN_SUPERVISE {
            return Err(Failure::new(Exit::Usage, "workers have no supervisor on this system; leave --processes out"));
        }
        let mut worker_arguments = session.passed_on();
        if self.unsupervised {
            worker_arguments.push("--unsupervised".into());
        }
        Ok(TortureOptions {
            seed: self.seed.unwrap_or_else(fresh_seed),
            tasks: self.tasks.map(|tasks| tasks as usize),
            workers: usize::from(self.workers),
            concurrency: self.concurrency,
            processes: (cli::CAN_SUPERVISE && !self.unsupervised).then(|| self.processes.unwrap_or(1)),
            faults: self.faults,
            times: self.times,
            hold: self.hold,
            patience: self.patience,
            restart_broker: self.restart_broker,
            fail_node: self.fail_node,
            restart_results: self.restart_results,
            pause_max: self.pause_max,
            worker_arguments,
            folder: self.keep,
        })
    }
}

/// Returns a seed of at most six digits, so that it can be read out.
fn fresh_seed() -> u64 {
    let random = TaskId::new().as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    random % 1_000_000
}

fn list(output: Output) -> Result<Exit, Failure> {
    let row = |fault: Fault| {
        let needs = if fault.need() == Need::Nothing { String::new() } else { fault.need().to_string() };
        FaultRow { name: fault.name(), about: fault.about(), needs }
    };
    let rows: Vec<FaultRow> = Fault::all().map(row).collect();
    output.table(&rows, ["FAULT", "WHAT IT DOES", "NEEDS"], |row| {
        [row.name.to_owned(), row.about.to_owned(), row.needs.clone()]
    })?;
    Ok(Exit::Ok)
}

fn could_not(error: &BoxError) -> Failure {
    Failure::of(Exit::Unreachable, &**error).and("this says nothing about the promise")
}
