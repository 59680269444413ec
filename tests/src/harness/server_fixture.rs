//! The beginning of most tests over real servers: a virtual host of their own, a client of it, and a worker's program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskq::Client;
use taskq::client::DeadEntry;
use tokio::time::Instant;

use super::{App, BOUND, Process, Servers, Vhost};

/// A virtual host, a client of it, and the program whose worker does the work.
#[derive(Debug)]
pub struct ServerFixture {
    /// The servers.
    pub vhost: Vhost,
    /// A client of them.
    pub client: Client,
    program: PathBuf,
}

impl ServerFixture {
    /// One with the program at `program`, `env!("CARGO_BIN_EXE_shop")`. `None`, with a line that says so, where there
    /// are no servers.
    ///
    /// # Panics
    ///
    /// As [`Vhost::create`], and if the servers cannot be reached.
    pub async fn start(program: impl AsRef<Path>) -> Option<Self> {
        Self::over(&Servers::from_env()?, program).await
    }

    /// A fixture over these servers.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn over(servers: &Servers, program: impl AsRef<Path>) -> Option<Self> {
        let vhost = Vhost::create(servers)?;
        let client = vhost.servers.client_with(&[]).await;
        Some(Self { vhost, client, program: program.as_ref().to_owned() })
    }

    /// Another client, with these settings.
    ///
    /// # Panics
    ///
    /// If the servers cannot be reached, or a setting is none.
    pub async fn client_with(&self, settings: &[(&'static str, &str)]) -> Client {
        self.vhost.servers.client_with(settings).await
    }

    /// The dead messages by their header `x-case`, once there are so many cases.
    ///
    /// # Panics
    ///
    /// If there are not within [`BOUND`], or the dead set cannot be read.
    pub async fn dead_by_case(&self, count: usize) -> BTreeMap<String, DeadEntry> {
        let deadline = Instant::now() + BOUND;
        loop {
            let entries = self.client.dead().list(usize::MAX).await.expect("the dead set can be read");
            let case = |entry: &DeadEntry| entry.message.headers.text("x-case").unwrap_or_default().to_owned();
            let by_case: BTreeMap<_, _> = entries.into_iter().map(|entry| (case(&entry), entry)).collect();
            if by_case.len() >= count {
                return by_case;
            }
            assert!(Instant::now() < deadline, "only these are dead: {:?}", by_case.keys());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The program, with these servers.
    pub fn app(&self) -> App {
        App::new(&self.program).servers(&self.vhost.servers)
    }

    /// A worker of the program on these queues, eight tasks at once, that is ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub fn worker(&self, queues: &[&str]) -> Process {
        self.worker_of(&self.app(), queues)
    }

    /// A worker of a changed [`app`](Self::app) on these queues, eight tasks at once, that is ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub fn worker_of(&self, app: &App, queues: &[&str]) -> Process {
        let mut worker = app.start(&["worker", "-c", "8", "-Q", &queues.join(","), "-l", "warn"]);
        worker.wait_until_ready();
        worker
    }
}
