//! `bench`: measures throughput and latency, beside a bare AMQP client in the same run.

use clap::Args;
use taskq::BoxError;
use taskq::broker::BrokerError;
use taskq_worker::WorkerError;
use taskq_worker::internal::cli::{self, Exit, Failure, Session};

use crate::bench::{self, BenchOptions, Measurement};

/// Measure throughput and latency here, beside a bare AMQP client in the same run
#[derive(Debug, Clone, Copy, Args)]
#[command(after_help = "Example: taskq bench --broker amqp://localhost --results redis://localhost --tasks 50000")]
pub(super) struct Bench {
    /// The number of tasks that are enqueued and drained
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    tasks: u32,
    /// The number of single calls that are timed from call to result
    #[arg(long, default_value_t = 300)]
    round_trips: u32,
    /// The number of tasks that run at the same time
    #[arg(short, long, default_value_t = 64)]
    concurrency: usize,
    /// Use classic queues in place of quorum queues
    #[arg(long)]
    classic: bool,
}

impl Bench {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Self { tasks, round_trips, concurrency, classic } = self;
        let options = BenchOptions { tasks, round_trips, concurrency, classic };
        // On a runtime like that of a worker.
        cli::task_runtime()?.block_on(async {
            let client = session.client().await?;
            let output = session.output();
            output.note(&row(Measurement::HEAD.map(str::to_owned)))?;
            // Each line as soon as it is measured. If one cannot be written, the rest need not be.
            let mut written = Ok(());
            let measured = bench::run(options, &client, |measurement| {
                if written.is_ok() {
                    written = output.say(&measurement, |measurement| row(measurement.row()));
                }
            });
            measured.await.map_err(failure)?;
            client.close().await;
            written.map(|()| Exit::Ok)
        })
    }
}

/// Formats a line of the table. The widths are fixed, since the first line is shown long before the last is known.
fn row([what, taskq, bare, unit, ratio]: [String; 5]) -> String {
    format!("{what:<22}{taskq:>10}{bare:>10}  {unit:<12}{ratio:>8}")
}

fn failure(error: BoxError) -> Failure {
    let error = match error.downcast::<taskq::Error>() {
        Ok(error) => return (*error).into(),
        Err(error) => error,
    };
    let error = match error.downcast::<WorkerError>() {
        Ok(error) => return (*error).into(),
        Err(error) => error,
    };
    match error.downcast::<BrokerError>() {
        Ok(error) => (*error).into(),
        Err(error) => Failure::of(Exit::Unreachable, &*error),
    }
}
