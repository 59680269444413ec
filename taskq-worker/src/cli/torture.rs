//! `torture`: what becomes of tasks when everything goes wrong that can.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use taskq::BoxError;
use taskq::TaskId;

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::session::Session;
use super::{supervised, values, worker};
use crate::torture::{self, Fault, Need, Options};

/// Do to a run of tasks whatever may happen to one, and say what became of the promise
///
/// Starts workers of its own on queues of its own, sends tasks that are fast, slow, failing, panicking, delayed, and
/// strikes at them with the faults that are named. What was sent, done and seen is noted in a file outside of taskq; the
/// verdict is drawn from that. Other queues are left alone, but faults of connections and servers are for servers on which
/// nobody depends. Exit code 0 means that the promise held.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskq torture --list
  taskq torture --fault kill --fault resets --seed 7
  taskq torture --fault restart-broker --restart-broker 'systemctl restart rabbitmq-server'

The seed decides what is sent and who is struck in which order; a verdict names it, and --seed asks for it again.")]
pub(super) struct Torture {
    /// Say which faults there are, and what they need
    #[arg(long)]
    list: bool,
    /// A fault; may be given several times. Without any, only the tasks themselves are trouble
    #[arg(long = "fault", value_name = "NAME")]
    faults: Vec<Fault>,
    /// What everything random is drawn from [default: a new one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many tasks are sent [default: 1000, or as many as the faults need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: Option<u32>,
    /// How many workers there are
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// How many processes each worker has [default: as a worker has by itself]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    processes: Option<u16>,
    /// Workers that are one process each, without a supervisor
    #[arg(long, conflicts_with = "processes")]
    unsupervised: bool,
    /// How many tasks each process runs at once
    #[arg(short, long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// How often each fault strikes [default: as often as is usual for it]
    #[arg(long, value_name = "N")]
    times: Option<u32>,
    /// How long those faults last that last; a lease is 30 s
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "40s")]
    hold: Duration,
    /// How long there may be no end of any task after the last fault, while some have not ended
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "2m")]
    patience: Duration,
    /// A shell command that restarts the broker, and ends when it is up again
    #[arg(long, value_name = "CMD")]
    restart_broker: Option<String>,
    /// A shell command that restarts the result backend, empty, and ends when it is up again
    #[arg(long, value_name = "CMD")]
    restart_results: Option<String>,
    /// Keep the ledger and the workers' logs in this folder [default: a temporary one, kept if the promise was broken]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// A fault, for `--list`.
#[derive(Serialize)]
struct Row {
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
        // On a runtime as a worker has it: the proxies carry everything that workers say.
        worker::runtime(None)?.block_on(async {
            let client = session.client().await?;
            let settings = client.settings();
            if let Some(obstacle) = options.obstacle(settings.broker_url(), settings.result_url()) {
                return Err(Failure::new(Exit::Usage, obstacle));
            }
            session.output().note(&format!("seed {}", options.seed))?;
            let verdict = torture::run(&options, &client).await.map_err(|error| could_not(&error))?;
            client.close().await;
            session.output().say(&verdict, torture::Verdict::page)?;
            Ok(if verdict.held { Exit::Ok } else { Exit::PromiseBroken })
        })
    }

    fn options(self, session: &Session) -> Result<Options, Failure> {
        if self.processes.is_some() && !supervised::IS_POSSIBLE {
            return Err(Failure::new(Exit::Usage, "workers have no supervisor on this system; leave --processes out"));
        }
        let mut worker_arguments = session.passed_on();
        if self.unsupervised {
            worker_arguments.push("--unsupervised".into());
        }
        Ok(Options {
            seed: self.seed.unwrap_or_else(fresh_seed),
            tasks: self.tasks.map(|tasks| tasks as usize),
            workers: usize::from(self.workers),
            concurrency: self.concurrency,
            processes: (supervised::IS_POSSIBLE && !self.unsupervised).then(|| self.processes.unwrap_or(1)),
            faults: self.faults,
            times: self.times,
            hold: self.hold,
            patience: self.patience,
            restart_broker: self.restart_broker,
            restart_results: self.restart_results,
            worker_arguments,
            folder: self.keep,
        })
    }
}

/// Six digits, so that it can be read out.
fn fresh_seed() -> u64 {
    let random = TaskId::new().as_str().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    random % 1_000_000
}

fn list(output: Output) -> Result<Exit, Failure> {
    let row = |fault: Fault| {
        let needs = if fault.need() == Need::Nothing { String::new() } else { fault.need().to_string() };
        Row { name: fault.name(), about: fault.about(), needs }
    };
    let rows: Vec<Row> = Fault::all().map(row).collect();
    output.table(&rows, ["FAULT", "WHAT IT DOES", "NEEDS"], |row| {
        [row.name.to_owned(), row.about.to_owned(), row.needs.clone()]
    })?;
    Ok(Exit::Ok)
}

fn could_not(error: &BoxError) -> Failure {
    Failure::of(Exit::Unreachable, &**error).and("this says nothing about the promise")
}
