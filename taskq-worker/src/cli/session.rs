//! What every command takes: where to connect to, and for whom it answers.

use std::path::{Path, PathBuf};

use clap::Args;
use taskq::Client;
use taskq::client::{Origin, Settings};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;

/// The flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Session {
    /// The broker, for example `amqp://user:password@host:5672/vhost`
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// Where results are kept, for example `redis://:password@host:6379/0`
    #[arg(long, global = true, value_name = "URL")]
    results: Option<String>,
    /// The settings file [default: the taskq.toml found upward from here]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON, one document a line, as is done wherever stdout is no terminal
    #[arg(long, global = true)]
    json: bool,
}

impl Session {
    /// For whom the command answers.
    pub(super) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Whether JSON was asked for by name.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// The settings: of the file, overridden by the environment, overridden by flags.
    pub(super) fn settings(&self) -> Result<Settings, Failure> {
        let mut settings = Settings::load(self.config.as_deref())?;
        for (key, flag) in [("broker_url", &self.broker), ("result_url", &self.results)] {
            if let Some(value) = flag {
                settings.set(key, value, Origin::Code)?;
            }
        }
        Ok(settings)
    }

    /// A client that reaches other processes. An error where it could not, since a broker inside of this process is
    /// of no use to a command. Where nobody named a broker, a line on stderr says which file is used instead.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let settings = self.settings()?;
        if settings.is_in_process() {
            return Err(Failure::new(
                Exit::Config,
                "`memory:` is a broker inside of one process, which no other process reaches; use a file, \
                 TASKQ_BROKER_URL=sqlite:taskq.db, or a server, \
                 TASKQ_BROKER_URL=amqp://user:password@host:5672/vhost and TASKQ_RESULT_URL=redis://host:6379/0",
            ));
        }
        if settings.is_default_broker() {
            say_default(settings.broker_url());
        }
        Ok(Client::builder().settings(settings).build().await?)
    }
}

/// That a file is used since nobody named a broker, which one it is, and how to use a server.
fn say_default(url: &str) {
    let path = Path::new(url.trim_start_matches("sqlite:"));
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    eprintln!(
        "nothing is configured, so this uses the file {}; for RabbitMQ and Redis set \
         TASKQ_BROKER_URL=amqp://user:password@host:5672/vhost and TASKQ_RESULT_URL=redis://host:6379/0",
        path.display()
    );
}
