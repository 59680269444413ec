//! Servers of one test's own, for tests that restart them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Certificates, Servers, unique};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/services");

/// The number of private servers that a process has at the same time: they are heavy to start.
const AT_ONCE: usize = 3;

/// The number of private servers that there are, and the news that one has ended.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of [`AT_ONCE`] places.
#[derive(Debug)]
struct Place;

impl Place {
    fn wait() -> Self {
        let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = RUNNING.1.wait_while(running, |running| *running >= AT_ONCE);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_one();
    }
}

/// A RabbitMQ and a Redis of one test's own. Stopped, and their data deleted, when dropped. A process has three at a
/// time at most; the next waits for its place.
#[derive(Debug)]
pub struct PrivateServers {
    folder: PathBuf,
    _place: Place,
    /// Where they are. The ports stay the same over restarts.
    pub servers: Servers,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Keeps its data over restarts.
    Rabbit,
    /// Comes back empty.
    Redis,
}

impl PrivateServers {
    /// Starts them, and waits until they answer. `None`, with a line that says so, where tests are to use no servers.
    ///
    /// # Panics
    ///
    /// As [`Servers::from_env`], and if they do not start.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// Starts them with these lines in the broker's `rabbitmq.conf`, in addition to its own.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(configuration: &str) -> Option<Self> {
        Self::start_as(configuration, &["up"])
    }

    /// Starts them with encrypted ports besides, where they want a certificate of their clients.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_encrypted() -> Option<Self> {
        Self::start_as("", &["up", "--tls"])
    }

    fn start_as(configuration: &str, verb: &[&str]) -> Option<Self> {
        // Where no servers are wanted, none are started.
        Servers::from_env()?;
        let folder = std::env::temp_dir().join(unique("taskq-servers"));
        let nowhere = Servers { amqp: String::new(), redis: String::new() };
        let mut own = Self { folder, _place: Place::wait(), servers: nowhere };
        let more = own.folder.join("rabbit/conf.d");
        std::fs::create_dir_all(&more).expect("the temporary folder can be written");
        std::fs::write(more.join("50-test.conf"), configuration).expect("the temporary folder can be written");
        own.services(verb);
        own.servers = own.servers_of(&["env"]);
        Some(own)
    }

    /// Where their encrypted ports are, with the parameters that name the certificates.
    ///
    /// # Panics
    ///
    /// If they have none.
    pub fn encrypted(&self) -> Servers {
        self.servers_of(&["env", "--tls"])
    }

    /// The certificates of their encrypted ports, and of a client.
    pub fn certificates(&self) -> Certificates {
        Certificates::at(self.folder.join("tls"))
    }

    fn servers_of(&self, question: &[&str]) -> Servers {
        let variables = self.services(question);
        let [amqp, redis] = ["TASKQ_TEST_AMQP_URL", "TASKQ_TEST_REDIS_URL"].map(|name| variable(&variables, name));
        Servers { amqp, redis }
    }

    /// Stops one of them, in good order or as `kill -9` does, and starts it again.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub fn restart(&self, server: Server, kill: bool) {
        let verb = match server {
            Server::Rabbit => "restart-rabbit",
            Server::Redis => "restart-redis",
        };
        let both = [verb, "--kill"];
        self.services(if kill { &both } else { &both[..1] });
    }

    /// Stops one of them in good order, and starts it again after so many seconds.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub fn take_away(&self, server: Server, seconds: u32) {
        let verb = match server {
            Server::Rabbit => "restart-rabbit",
            Server::Redis => "restart-redis",
        };
        self.services(&[verb, "--down", &seconds.to_string()]);
    }

    /// Stops RabbitMQ and starts it again, with these options of `scripts/services restart-rabbit`.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub fn restart_rabbit(&self, options: &[&str]) {
        self.services(&[&["restart-rabbit"], options].concat());
    }

    /// Tells RabbitMQ something, and gives what was answered.
    ///
    /// # Panics
    ///
    /// If it does not do it.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(SERVICES);
        command.arg("rabbitmqctl").args(arguments).env("TASKQ_SERVICES_DIR", &self.folder);
        let output = command.output().expect("scripts/services can be run");
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The broker's log so far: warnings and errors.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn broker_log(&self) -> String {
        let files = std::fs::read_dir(self.folder.join("log")).expect("there is a folder for logs").flatten();
        // It is named after the broker's node.
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("taskq@"));
        logs.map(|file| std::fs::read_to_string(file.path()).expect("a log can be read")).collect()
    }

    /// Runs `scripts/services` for this folder, and gives what it wrote.
    fn services(&self, arguments: &[&str]) -> String {
        let output = run(&self.folder, arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "scripts/services {arguments:?}: {out}{error}");
        out.into_owned()
    }
}

impl Drop for PrivateServers {
    fn drop(&mut self) {
        let output = run(&self.folder, &["down"]);
        if output.status.success() {
            // What is left in the temporary folder is no test's concern.
            drop(std::fs::remove_dir_all(&self.folder));
        } else {
            eprintln!("the servers in {} may still run: {output:?}", self.folder.display());
        }
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(SERVICES).args(arguments).arg(folder).output().expect("scripts/services can be run")
}

/// The value of `name` among lines of the form `export NAME=VALUE`, with the shell's backslashes taken out.
fn variable(lines: &str, name: &str) -> String {
    let prefix = format!("export {name}=");
    let value = lines.lines().find_map(|line| line.strip_prefix(&prefix));
    value.unwrap_or_else(|| panic!("scripts/services env names no {name}: {lines}")).replace('\\', "")
}
