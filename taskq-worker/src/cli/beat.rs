//! `beat`: sends tasks when they are due.

use clap::Args;
use taskq::definition::Registry;
use taskq_beat::{Beat, entry};

use super::exit::Exit;
use super::failure::Failure;
use super::lifecycle_lines;
use super::session::Session;
use super::signals::Stops;
use super::work::beat_failed;
use crate::telemetry::{self, Format, Level};

/// Send tasks when they are due, until it is told to stop
///
/// Sends the entries of this program's tasks, of taskq.toml, and those added with `schedule add`. Any number may run,
/// on any number of machines: one leads, and if it dies another takes over within eleven seconds. All must have the
/// same entries. TERM and INT (Ctrl-C) finish what has been begun, and let another lead at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  my-app beat
  taskq -A path/to/my-app beat -n night --log-format json")]
pub(super) struct BeatCommand {
    /// The node name, NAME or NAME@HOST, for the log and the history [default: beat@HOST]
    #[arg(short = 'n', long, value_name = "NAME")]
    hostname: Option<String>,
    /// The least important lines of the log, which goes to stderr; `RUST_LOG` wins
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    loglevel: Level,
    /// The format of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
}

impl BeatCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<Exit, Failure> {
        telemetry::init(self.loglevel, self.log_format, telemetry::has_terminal())
            .map_err(|why| Failure::new(Exit::Config, why))?;
        // Before anything is connected: a wrong entry is wrong without servers, too.
        let registry = Registry::collect()?;
        let entries = entry::collect(&registry, &session.settings()?)?;
        session.say_where()?;
        let mut stops = Stops::listen().map_err(|error| Failure::cannot_start(&error))?;
        let client = session.client().await?;
        let mut builder = Beat::builder(client.clone()).registry(registry).entries(entries);
        if let Some(name) = &self.hostname {
            builder = builder.node(super::values::node(name, taskq::internal::host_name));
        }
        let beat = builder.build().await?;
        let node = beat.node().to_owned();
        lifecycle_lines::beat_ready(session.output(), &node, beat.entries().count());
        let control = beat.control();
        let stopping = taskq::internal::io::spawn(async move {
            stops.asked(1).await;
            control.stop();
        });
        let ended = taskq::internal::io::spawn(beat.run()).await;
        stopping.abort();
        client.close().await;
        let summary = ended.map_err(|error| beat_failed(&error))?;
        lifecycle_lines::beat_ended(session.output(), &node, summary);
        Ok(Exit::Ok)
    }
}
