//! The flags of every command: where to connect to, and in which form to answer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use taskq::settings::{Origin, Settings};
use taskq::{Client, Secret};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::setup::Setup;
use crate::telemetry::aside;

/// The flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Session {
    /// The broker, for example `amqp://user:password@host:5672/vhost`; `TASKQ_BROKER_URL` keeps passwords private
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<Secret<String>>,
    /// Where results are kept, for example `redis://:password@host:6379/0`; `TASKQ_RESULT_URL` as above
    #[arg(long, global = true, value_name = "URL")]
    results: Option<Secret<String>>,
    /// The settings file [default: the taskq.toml found upward from here]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON, one document a line, as is done wherever stdout is no terminal
    #[arg(long, global = true)]
    json: bool,
    /// The settings, once they have been read: a file with thousands of entries takes its time.
    #[arg(skip)]
    settings: OnceLock<Settings>,
    /// The setup of the program's workers.
    #[arg(skip)]
    pub(super) setup: Setup,
}

impl Session {
    /// Returns the reader of the answer.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Returns whether `--json` was given.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Returns the flags for programs that this command starts, so that they use the same settings. URLs are not among
    /// them: they may hold passwords, and every user of the machine can read command lines.
    pub fn passed_on(&self) -> Vec<OsString> {
        self.config.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]).collect()
    }

    /// Returns the settings of the file, overridden by the environment, overridden by flags.
    pub fn settings(&self) -> Result<Settings, Failure> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings.clone());
        }
        let mut settings = Settings::load(self.config.as_deref())?;
        for (key, flag) in [("broker_url", &self.broker), ("result_url", &self.results)] {
            if let Some(value) = flag {
                settings.set(key, value.expose(), Origin::Code)?;
            }
        }
        Ok(self.settings.get_or_init(|| settings).clone())
    }

    /// Creates a client that reaches other processes. Fails for a broker inside of this process, which is of no use to
    /// a command. If no broker is configured and the embedded file does not exist yet, a line on stderr says that it is
    /// created, and where: a worker elsewhere does not see it.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.client_announced(true).await
    }

    /// Creates a client like [`client`](Self::client). Without `announces`, nothing is written to stderr, since another
    /// process has done so.
    pub(super) async fn client_announced(&self, announces: bool) -> Result<Client, Failure> {
        let settings = self.settings()?;
        if settings.is_in_process() {
            return Err(Failure::new(
                Exit::Config,
                "`memory:` is a broker inside of one process, which no other process reaches; use a file, \
                 TASKQ_BROKER_URL=sqlite:taskq.db, or a server, \
                 TASKQ_BROKER_URL=amqp://user:password@host:5672/vhost and TASKQ_RESULT_URL=redis://host:6379/0",
            ));
        }
        if let Some(file) = embedded_file(&settings)
            && announces
            && !file.exists()
        {
            say_embedded(&file, "creating");
        }
        Ok(Client::builder().settings(settings).build().await?)
    }

    /// Writes to stderr which file is used, if no broker is configured.
    pub(super) fn say_where(&self) -> Result<(), Failure> {
        if let Some(file) = embedded_file(&self.settings()?)
            && file.exists()
        {
            say_embedded(&file, "using");
        }
        Ok(())
    }
}

/// Returns the file that is the broker because none is configured.
fn embedded_file(settings: &Settings) -> Option<PathBuf> {
    let path = Path::new(settings.broker_url().strip_prefix("sqlite:")?);
    settings.is_default_broker().then(|| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn say_embedded(file: &Path, verb: &str) {
    aside(&format!(
        "{verb} {}, since nothing is configured; for RabbitMQ and Redis set \
         TASKQ_BROKER_URL=amqp://user:password@host:5672/vhost and TASKQ_RESULT_URL=redis://host:6379/0",
        file.display()
    ));
}
