//! Sentinels of one test's own.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Certificates, Folder, free_port, wait_until};

/// The number of Sentinels: two agree.
const COUNT: usize = 3;

/// Sentinels that watch one primary: three, unless they are encrypted. Killed when dropped.
#[derive(Debug)]
pub struct Sentinels {
    _folder: Folder,
    ports: Vec<u16>,
    /// The parameters of their URL, if they take encrypted connections.
    tls: Option<String>,
    processes: Vec<Child>,
}

impl Sentinels {
    /// Starts them, and waits until they know each other and a replica of the primary at `port`, whom they call `main`
    /// and take for dead after a second.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn over(port: u16) -> Self {
        let folder = Folder::new("sentinels");
        let ports: Vec<u16> = (0..COUNT).map(|_| free_port()).collect();
        let start = |own: &u16| start(folder.path(), *own, port, &format!("port {own}\n"));
        let processes = ports.iter().map(start).collect();
        let sentinels = Self { _folder: folder, ports, tls: None, processes };
        for port in &sentinels.ports {
            wait_until("the Sentinels know everything", || {
                let others = ask::<Vec<redis::Value>>(*port, &["SENTINEL", "SENTINELS", "main"])?;
                let replicas = ask::<Vec<redis::Value>>(*port, &["SENTINEL", "REPLICAS", "main"])?;
                (others.len() == COUNT - 1 && !replicas.is_empty()).then_some(())
            });
        }
        sentinels
    }

    /// Starts one that takes encrypted connections alone, as does the primary at `port`, and wants a certificate of its
    /// clients.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn encrypted_over(port: u16, certificates: &Certificates) -> Self {
        let (folder, own) = (Folder::new("sentinels"), free_port());
        let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|file| certificates.text(file));
        let listen = format!(
            "port 0\ntls-port {own}\ntls-ca-cert-file {ca}\ntls-cert-file {certificate}\ntls-key-file {key}\n\
             tls-replication yes\n"
        );
        let processes = vec![start(folder.path(), own, port, &listen)];
        Self { _folder: folder, ports: vec![own], tls: Some(certificates.of_redis()), processes }
    }

    /// The URL of the primary by way of them.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        match &self.tls {
            None => format!("redis+sentinel://{}/main/0", hosts.join(",")),
            Some(parameters) => format!("rediss+sentinel://{}/main/0?{parameters}", hosts.join(",")),
        }
    }

    /// Has them make a replica the primary, while the old one is well, and waits until one of them has done so.
    ///
    /// # Panics
    ///
    /// If they refuse, or do not do it.
    pub fn fail_over(&self) {
        let before = self.primary();
        wait_until("the Sentinels take the order", || ask::<()>(self.ports[0], &["SENTINEL", "FAILOVER", "main"]));
        wait_until("another server is the primary", || (self.primary() != before).then_some(()));
    }

    /// The port of the primary, as the first of them names it.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn primary(&self) -> u16 {
        let named = wait_until("the Sentinel answers", || {
            ask::<(String, u16)>(self.ports[0], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"])
        });
        named.1
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that has ended by itself is gone as well.
            process.kill().ok();
            process.wait().ok();
        }
    }
}

fn start(folder: &Path, own: u16, primary: u16, listen: &str) -> Child {
    let configuration = folder.join(format!("{own}.conf"));
    let text = format!(
        "{listen}bind 127.0.0.1\ndir {}\nsentinel monitor main 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 10000\n",
        folder.display()
    );
    std::fs::write(&configuration, text).expect("the folder is ours");
    let mut command = Command::new("redis-server");
    let process = command.arg(&configuration).arg("--sentinel").stdout(Stdio::null()).spawn();
    let process = process.expect("redis-server is installed");
    wait_until("the Sentinel listens", || TcpStream::connect(("127.0.0.1", own)).ok());
    process
}

fn ask<T: redis::FromRedisValue>(port: u16, command: &[&str]) -> Option<T> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("the URL is right");
    let mut connection = client.get_connection().ok()?;
    redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).ok()
}
