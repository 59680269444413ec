//! The workers of a run: processes of this very program, restarted when they die, as a service manager would.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taskq::{BoxError, Secret};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ledger::{Fact, Ledger};
use super::processes::{family, signal};

/// How long a worker may take until it consumes, and, beyond its grace, until it has ended after it was told to.
const BOUND: Duration = Duration::from_secs(60);

/// The pause before a worker that died is restarted.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// The command by which workers are started.
#[derive(Debug, Clone)]
pub(super) struct WorkerRecipe {
    /// The program.
    pub(super) program: PathBuf,
    /// The arguments, except for the node name.
    pub(super) arguments: Vec<OsString>,
    /// Additional environment variables.
    pub(super) variables: Vec<(&'static str, Secret<String>)>,
    /// The folder of the logs.
    pub(super) folder: PathBuf,
    /// The ledger in which the ends of processes are noted.
    pub(super) ledger: PathBuf,
    /// Whether each worker answers probes of its health.
    pub(super) probed: bool,
}

/// The workers of a run.
#[derive(Debug)]
pub(super) struct Fleet {
    recipe: WorkerRecipe,
    members: Mutex<Vec<Arc<FleetMember>>>,
}

/// One worker, across restarts.
#[derive(Debug)]
pub(super) struct FleetMember {
    status: watch::Receiver<MemberStatus>,
    /// Set once it must not be restarted.
    retired: Arc<AtomicBool>,
    /// The address at which it publishes its health, if it does.
    health: Option<SocketAddr>,
    keeper: JoinHandle<io::Result<()>>,
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, Default)]
struct MemberStatus {
    /// The process, while there is one.
    pid: Option<u32>,
    /// Whether it consumes.
    ready: bool,
    /// The number of starts.
    starts: u32,
    /// The exit code of the last process.
    code: Option<i32>,
}

impl Fleet {
    pub(super) fn new(recipe: WorkerRecipe) -> Self {
        Self { recipe, members: Mutex::default() }
    }

    /// Starts another worker, and waits until it consumes.
    pub(super) async fn add(&self) -> Result<Arc<FleetMember>, BoxError> {
        let member = self.start(self.recipe.clone())?;
        member.until_ready().await?;
        Ok(member)
    }

    /// Starts another worker by this recipe, without waiting for it.
    pub(super) fn start(&self, mut recipe: WorkerRecipe) -> Result<Arc<FleetMember>, BoxError> {
        let health = recipe.probed.then(free_address).transpose()?;
        if let Some(address) = health {
            recipe.arguments.extend(["--health".into(), address.to_string().into()]);
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let (telling, status) = watch::channel(MemberStatus::default());
        let retired = Arc::new(AtomicBool::new(false));
        let log = recipe.folder.join(format!("worker-{}.log", members.len()));
        let keeper = tokio::spawn(keep(recipe, members.len(), log, telling, Arc::clone(&retired)));
        let member = Arc::new(FleetMember { status, retired, health, keeper });
        members.push(Arc::clone(&member));
        Ok(member)
    }

    /// Returns the recipe by which workers are started.
    pub(super) fn recipe(&self) -> &WorkerRecipe {
        &self.recipe
    }

    /// Lists the workers that are not retired, the oldest first.
    pub(super) fn members(&self) -> Vec<Arc<FleetMember>> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().filter(|member| !member.retired.load(Ordering::Acquire)).cloned().collect()
    }

    /// Lists every present process of every worker, supervisors and children alike.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.members().iter().flat_map(|member| member.family()).collect()
    }

    /// Drains every worker that is left, with one signal each.
    pub(super) async fn drain(&self) -> Result<(), BoxError> {
        for member in self.members() {
            member.retire(&["TERM"]).await?;
        }
        Ok(())
    }

    /// Kills every worker that is left.
    pub(super) async fn kill(&self) -> Result<(), BoxError> {
        for member in self.members() {
            member.retired.store(true, Ordering::Release);
            for pid in member.family() {
                // It may have ended since it was listed.
                drop(signal(pid, "KILL"));
            }
            member.until_gone().await?;
        }
        Ok(())
    }
}

impl FleetMember {
    /// Returns its process, while there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        self.status.borrow().pid
    }

    /// Returns the address at which it publishes its health, if it does.
    pub(super) fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// Lists its process and all descendants of it.
    pub(super) fn family(&self) -> Vec<u32> {
        self.pid().map(family).unwrap_or_default()
    }

    /// Returns how often it has been started.
    pub(super) fn starts(&self) -> u32 {
        self.status.borrow().starts
    }

    /// Waits until it consumes.
    pub(super) async fn until_ready(&self) -> Result<(), BoxError> {
        self.until("a worker does not begin to consume", |status| status.ready).await.map(drop)
    }

    /// Waits until its last process has ended, and returns the exit code.
    pub(super) async fn until_gone(&self) -> Result<Option<i32>, BoxError> {
        let status = self.until("a worker does not end", |status| status.pid.is_none() && status.starts > 0).await?;
        Ok(status.code)
    }

    /// Stops restarting it, sends it these signals, and returns the exit code.
    pub(super) async fn retire(&self, signals: &[&str]) -> Result<Option<i32>, BoxError> {
        self.retired.store(true, Ordering::Release);
        for name in signals {
            if let Some(pid) = self.pid() {
                signal(pid, name)?;
                // Signals of one kind that come too fast are merged.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.until_gone().await
    }

    async fn until(&self, what: &str, fact: impl FnMut(&MemberStatus) -> bool) -> Result<MemberStatus, BoxError> {
        let mut status = self.status.clone();
        let there = tokio::time::timeout(BOUND, status.wait_for(fact)).await;
        match there {
            Ok(Ok(status)) => Ok(*status),
            Ok(Err(_)) if self.keeper.is_finished() => {
                Err(format!("{what}: it cannot be started, or its end cannot be noted; see its log").into())
            }
            _ => Err(format!("{what} within {BOUND:?}; see its log").into()),
        }
    }
}

impl Drop for FleetMember {
    fn drop(&mut self) {
        // The process dies with its keeper.
        self.keeper.abort();
    }
}

/// Returns an address on which nobody listens.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Starts a worker whenever it has ended, until it is retired.
async fn keep(
    recipe: WorkerRecipe,
    index: usize,
    log: PathBuf,
    status: watch::Sender<MemberStatus>,
    retired: Arc<AtomicBool>,
) -> io::Result<()> {
    let ledger = Ledger::open(&recipe.ledger, false)?;
    loop {
        let mut child = spawn(&recipe, index, &log)?;
        let process = child.id().ok_or_else(|| io::Error::other("a worker ended before it began"))?;
        status.send_modify(|status| {
            *status = MemberStatus { pid: Some(process), ready: false, starts: status.starts + 1, code: None }
        });
        let lines = child.stdout.take().map(BufReader::new);
        let reading = tokio::spawn(tell_when_ready(lines, status.clone()));
        let end = child.wait().await?;
        reading.abort();
        let asked = retired.load(Ordering::Acquire);
        ledger.note(Fact::Gone { process, code: end.code(), signal: signal_of(end), asked })?;
        status.send_modify(|status| *status = MemberStatus { pid: None, ready: false, code: end.code(), ..*status });
        if asked {
            return Ok(());
        }
        tokio::time::sleep(RESTART_AFTER).await;
        if retired.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

fn spawn(recipe: &WorkerRecipe, index: usize, log: &Path) -> io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(&recipe.program);
    command.args(&recipe.arguments).arg("--hostname").arg(format!("torture-{index}"));
    command.envs(recipe.variables.iter().map(|(name, value)| (name, value.expose())));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
    // Ctrl-C is for this program, which then stops its workers.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

/// Reads the worker's stdout to the end, so that a full pipe never stops it.
async fn tell_when_ready(lines: Option<BufReader<tokio::process::ChildStdout>>, status: watch::Sender<MemberStatus>) {
    let Some(mut lines) = lines.map(AsyncBufReadExt::lines) else { return };
    // A pipe that cannot be read has ended.
    while let Ok(Some(line)) = lines.next_line().await {
        let event = serde_json::from_str::<serde_json::Value>(&line).unwrap_or_default();
        if event["event"] == "ready" {
            status.send_modify(|status| status.ready = true);
        }
    }
}

#[cfg(unix)]
fn signal_of(end: std::process::ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&end)
}

#[cfg(not(unix))]
fn signal_of(_: std::process::ExitStatus) -> Option<i32> {
    None
}
