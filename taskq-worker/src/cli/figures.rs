//! How `bench` answers: each figure as soon as it is known.

use taskq::BoxError;
use taskq::broker::BrokerError;

use super::bench::{self, Bench, Figure};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, json, line};
use super::session::Session;
use super::worker;
use crate::engine::WorkerError;

impl Bench {
    pub(super) fn run(self, session: &Session) -> Result<Exit, Failure> {
        // Measured on a runtime as a worker has it.
        worker::runtime(None)?.block_on(async {
            let client = session.client().await?;
            let output = session.output();
            output.note(&row(Figure::HEAD.map(str::to_owned)))?;
            let mut said = Ok(());
            let measured = bench::run(self, &client, |figure| {
                let saying = match output {
                    Output::Program => json(&figure),
                    Output::Person => line(&row(figure.row())),
                };
                if said.is_ok() {
                    said = saying;
                }
            });
            measured.await.map_err(failure)?;
            client.close().await;
            said.map(|()| Exit::Ok)
        })
    }
}

/// The widths are fixed: the first line is shown long before the last is known.
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
