//! A Redis of one test's own, for tests that do to it whatever may happen to one.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::{Folder, Servers, signal, wait_until};

/// A Redis that nobody else uses, without persistence: a restart empties it. Killed when dropped.
#[derive(Debug)]
pub struct PrivateRedis {
    folder: Folder,
    /// Stays the same over restarts.
    pub port: u16,
    password: Option<&'static str>,
    process: Option<Child>,
}

impl PrivateRedis {
    /// Starts one. `None`, with a line that says so, where tests are to use no servers.
    ///
    /// # Panics
    ///
    /// As [`Servers::from_env`], and if it does not start.
    pub fn start(password: Option<&'static str>) -> Option<Self> {
        // Where no servers are wanted, none are started.
        Servers::from_env()?;
        let mut redis = Self { folder: Folder::new("redis"), port: free_port(), password, process: None };
        redis.up();
        Some(redis)
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn up(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.folder.path()).args(self.password.iter().flat_map(|password| ["--requirepass", *password]));
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
        format!("redis://{password}127.0.0.1:{}/0", self.port)
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
