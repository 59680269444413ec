//! A Redis of one test's own, for tests that do to it whatever may happen to one.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Certificates, Folder, Servers, signal, wait_until};

/// A Redis that nobody else uses, without persistence: a restart empties it. Killed when dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    folder: Folder,
    /// Stays the same over restarts.
    pub port: u16,
    password: Option<&'static str>,
    /// More words of its command line.
    more: Vec<String>,
    /// The parameters of its URL, if it takes encrypted connections.
    tls: Option<String>,
    process: Option<Child>,
}

impl PrivateRedis {
    /// Starts one. `None`, with a line that says so, where tests are to use no servers.
    ///
    /// # Panics
    ///
    /// As [`Servers::from_env`], and if it does not start.
    pub fn start(password: Option<&'static str>) -> Option<Self> {
        Self::start_with(password, &[])
    }

    /// Starts one with more words on its command line.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_with(password: Option<&'static str>, more: &[&str]) -> Option<Self> {
        // Where no servers are wanted, none are started.
        Servers::from_env()?;
        let more = more.iter().map(|word| (*word).to_owned()).collect();
        let port = free_port();
        let mut redis = Self { folder: Folder::new("redis"), port, password, more, tls: None, process: None };
        redis.up();
        Some(redis)
    }

    /// Starts one that takes encrypted connections alone, with `NAME.pem` and `NAME.key` of these certificates,
    /// and wants one of its clients.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn start_encrypted(certificates: &Certificates, name: &str) -> Option<Self> {
        Servers::from_env()?;
        let port = free_port();
        let [own, key, ca] =
            [&format!("{name}.pem"), &format!("{name}.key"), "ca.pem"].map(|file| certificates.text(file));
        let pairs = [("--tls-cert-file", own), ("--tls-key-file", key), ("--tls-ca-cert-file", ca)];
        let mut more: Vec<String> = pairs.into_iter().flat_map(|(flag, file)| [flag.to_owned(), file]).collect();
        more.extend(["--tls-port", &port.to_string(), "--tls-auth-clients", "yes", "--port", "0"].map(str::to_owned));
        let tls = Some(certificates.of_redis());
        let mut redis = Self { folder: Folder::new("redis"), port, password: None, more, tls, process: None };
        redis.up();
        Some(redis)
    }

    /// Starts a replica of the server at this port, and waits until it follows.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start), and if it does not follow.
    pub fn replica_of(port: u16) -> Option<Self> {
        let replica = Self::start_with(None, &["--replicaof", &format!("127.0.0.1 {port}")])?;
        wait_until("the replica follows", || replica.says("master_link_status:up").then_some(()));
        Some(replica)
    }

    /// Says something to it, by a connection that lasts no longer.
    ///
    /// # Panics
    ///
    /// If it cannot be reached, or refuses it.
    pub fn tell(&self, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).expect("the URL is right");
        let mut connection = client.get_connection().expect("it is up");
        let mut words = redis::cmd(command[0]);
        words.arg(&command[1..]).query(&mut connection).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Whether its account of its replication has these words.
    pub fn says(&self, words: &str) -> bool {
        match self.tell(&["INFO", "replication"]) {
            redis::Value::BulkString(text) => String::from_utf8_lossy(&text).contains(words),
            redis::Value::VerbatimString { text, .. } => text.contains(words),
            other => panic!("an odd answer to INFO: {other:?}"),
        }
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn up(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
        command.args(&self.more);
        command
            .arg("--dir")
            .arg(self.folder.path())
            .args(self.password.iter().flat_map(|password| ["--requirepass", *password]));
        self.process = Some(command.stdout(Stdio::null()).spawn().expect("redis-server is installed"));
        wait_until("Redis listens", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// Changes a setting of the running server.
    ///
    /// # Panics
    ///
    /// If it does not take it.
    pub async fn set(&self, name: &str, value: &str) {
        let client = redis::Client::open(self.url()).expect("the URL is right");
        let mut connection = client.get_multiplexed_async_connection().await.expect("it is up");
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value).exec_async(&mut connection).await.expect("it takes the setting");
    }

    /// As `kill -9` does it.
    ///
    /// # Panics
    ///
    /// If the system does not obey.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is our child");
            process.wait().expect("it is our child");
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is not up.
    pub fn signal(&self, name: &str) {
        signal(self.process.as_ref().expect("it is up").id(), name);
    }

    /// Where it is, with the password that it was started with.
    pub fn url(&self) -> String {
        let password = self.password.map(|password| format!(":{password}@")).unwrap_or_default();
        match &self.tls {
            None => format!("redis://{password}127.0.0.1:{}/0", self.port),
            Some(parameters) => format!("rediss://127.0.0.1:{}/0?{parameters}", self.port),
        }
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on, below those that the system gives to clients.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 500).expect("it is below 500") * 16;
    (0..u16::MAX)
        .map(|_| 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 8000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 8000 ports is free")
}
