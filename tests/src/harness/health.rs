//! The health of a worker, as its probe tells it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::{BOUND, free_port, wait_until};

/// The address at which a worker tells of its health.
#[derive(Debug)]
pub struct Health {
    port: u16,
}

impl Health {
    /// One where nobody listens yet.
    #[allow(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self { port: free_port() }
    }

    /// The value for `--health`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The status and the body of what is answered; nothing if nobody answers.
    ///
    /// # Panics
    ///
    /// If the body is no JSON.
    pub fn ask(&self) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(BOUND)).expect("a time-out can be set");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))))
    }

    /// Waits until all is well.
    ///
    /// # Panics
    ///
    /// If it takes longer than [`BOUND`](super::BOUND).
    pub fn wait_until_green(&self) {
        wait_until("health is green", || self.ask().filter(|(status, body)| *status == 200 && body["status"] == "ok"));
    }

    /// Waits until all is not well, and gives the reason.
    ///
    /// # Panics
    ///
    /// If it takes longer than [`BOUND`](super::BOUND).
    pub fn wait_until_red(&self) -> String {
        self.wait_until_red_of("")
    }

    /// Waits until all is not well for a reason with these words, and gives the reason. A server that goes away shows
    /// broken connections first, and why it takes no new ones later.
    ///
    /// # Panics
    ///
    /// If it takes longer than [`BOUND`](super::BOUND).
    pub fn wait_until_red_of(&self, words: &str) -> String {
        wait_until(&format!("health is red: {words}"), || {
            let (status, body) = self.ask()?;
            let reason = body["reason"].as_str().filter(|_| status == 503)?;
            reason.contains(words).then(|| reason.to_owned())
        })
    }
}
