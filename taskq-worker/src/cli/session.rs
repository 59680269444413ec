//! What every command takes: where to connect to, and for whom it answers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;
use taskq::Client;
use taskq::settings::{Origin, Settings};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{Output, aside};
use super::setup::Setup;

/// The flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Session {
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
    /// The settings, once they have been read: a file with thousands of entries takes its time.
    #[arg(skip)]
    settings: OnceLock<Settings>,
    /// What the program does to its workers.
    #[arg(skip)]
    pub(super) setup: Setup,
}

impl Session {
    /// For whom the command answers.
    pub fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Whether JSON was asked for by name.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// What programs that this command starts are to be given, so that they find the same settings. URLs are not among
    /// it: they may hold passwords, and everybody can read command lines.
    pub fn passed_on(&self) -> Vec<OsString> {
        self.config.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]).collect()
    }

    /// The settings: of the file, overridden by the environment, overridden by flags.
    pub fn settings(&self) -> Result<Settings, Failure> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings.clone());
        }
        let mut settings = Settings::load(self.config.as_deref())?;
        for (key, flag) in [("broker_url", &self.broker), ("result_url", &self.results)] {
            if let Some(value) = flag {
                settings.set(key, value, Origin::Code)?;
            }
        }
        Ok(self.settings.get_or_init(|| settings).clone())
    }

    /// A client that reaches other processes. An error where it could not, since a broker inside of this process is of
    /// no use to a command. Where nobody named a broker and the embedded file is not there yet, a line on stderr says
    /// that it is made, and where: a worker elsewhere does not see it.
    pub async fn client(&self) -> Result<Client, Failure> {
        self.client_announced(true).await
    }

    /// The same; says nothing on stderr where somebody else has said it already.
    pub(super) async fn client_announced(&self, says: bool) -> Result<Client, Failure> {
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
            && says
            && !file.exists()
        {
            say_embedded(&file, "making");
        }
        Ok(Client::builder().settings(settings).build().await?)
    }

    /// Says which file is used, if nobody named a broker.
    pub(super) fn say_where(&self) -> Result<(), Failure> {
        if let Some(file) = embedded_file(&self.settings()?)
            && file.exists()
        {
            say_embedded(&file, "using");
        }
        Ok(())
    }
}

/// The file that is the broker because nobody named one.
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
