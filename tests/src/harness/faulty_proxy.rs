//! The way to a server, for tests in which it goes bad.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::free_port;

/// The time between two looks at the state of the proxy.
const LOOK_EVERY: Duration = Duration::from_millis(10);

const OPEN: u8 = 0;
const SILENT: u8 = 1;
const CUT: u8 = 2;

/// A way to a server: what uses its URL goes through here. It ends with its value.
#[derive(Debug)]
pub struct FaultyProxy {
    url: String,
    target: String,
    port: u16,
    state: Arc<AtomicU8>,
    accepted: Arc<AtomicUsize>,
    door: Option<Door>,
}

/// Where new connections come in.
#[derive(Debug)]
struct Door {
    closed: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
}

impl FaultyProxy {
    /// To the server of a URL that names a host and a port.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn to(url: &str) -> Self {
        let (before, rest) = url.split_once("://").expect("a URL has a scheme");
        let (authority, after) = rest.split_once('/').expect("there is something behind the port");
        let host_at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, target) = authority.split_at(host_at);
        let port = free_port();
        let url = format!("{before}://{user}127.0.0.1:{port}/{after}");
        let mut proxy =
            Self { url, target: target.to_owned(), port, state: Arc::default(), accepted: Arc::default(), door: None };
        proxy.open();
        proxy
    }

    /// The server's URL by this way.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything is carried, also what has been held up.
    ///
    /// # Panics
    ///
    /// If somebody has taken the port while the way was cut.
    pub fn open(&mut self) {
        self.state.store(OPEN, Ordering::Release);
        let (port, target, state, accepted) = (self.port, &self.target, &self.state, &self.accepted);
        self.door.get_or_insert_with(|| Door::at(port, target.clone(), Arc::clone(state), Arc::clone(accepted)));
    }

    /// The number of connections that were ever accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// Nothing is carried, in neither direction, and nobody is told: half-open connections.
    pub fn silence(&self) {
        self.state.store(SILENT, Ordering::Release);
    }

    /// From now on it leads to another server; all connections end.
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open), and if the URL names no host and port.
    pub fn lead_to(&mut self, url: &str) {
        self.cut();
        // Connections of before must find the way cut, not open again.
        self.state = Arc::default();
        self.lead_new_to(url);
    }

    /// From now on it leads to another server; connections of before still lead to the old one.
    ///
    /// # Panics
    ///
    /// As [`lead_to`](Self::lead_to).
    pub fn lead_new_to(&mut self, url: &str) {
        self.close_door();
        let (_, rest) = url.split_once("://").expect("a URL has a scheme");
        let (authority, _) = rest.split_once('/').expect("there is something behind the port");
        authority[authority.rfind('@').map_or(0, |at| at + 1)..].clone_into(&mut self.target);
        self.open();
    }

    /// New connections are refused, and those that there are end.
    pub fn cut(&mut self) {
        // In this order: a client that reconnects at once is refused, and not accepted and cut off.
        self.close_door();
        self.state.store(CUT, Ordering::Release);
    }

    fn close_door(&mut self) {
        if let Some(door) = self.door.take() {
            door.closed.store(true, Ordering::Release);
            door.accepting.join().ok();
        }
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Door {
    fn at(port: u16, target: String, state: Arc<AtomicU8>, accepted: Arc<AtomicUsize>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        listener.set_nonblocking(true).expect("it can be polled");
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        let accepting = std::thread::spawn(move || {
            while !is_closed.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok((client, _)) => {
                        accepted.fetch_add(1, Ordering::AcqRel);
                        carry(client, target.clone(), &state);
                    }
                    Err(_) => std::thread::sleep(LOOK_EVERY),
                }
            }
        });
        Self { closed, accepting }
    }
}

fn carry(client: TcpStream, target: String, state: &Arc<AtomicU8>) {
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        // In silence a connection is made, and nothing comes of it.
        let Some(server) = passable(&state).then(|| TcpStream::connect(target)).and_then(Result::ok) else { return };
        let both = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some((up, down)), Some((client, server))) = (both(), both()) else { return };
        let state_up = Arc::clone(&state);
        std::thread::spawn(move || pump(client, server, &state_up));
        pump(down, up, &state);
    });
}

/// Waits while nothing is carried; false if the way is no more.
fn passable(state: &AtomicU8) -> bool {
    while state.load(Ordering::Acquire) == SILENT {
        std::thread::sleep(LOOK_EVERY);
    }
    state.load(Ordering::Acquire) == OPEN
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut piece = [0; 4096];
    from.set_nonblocking(false).expect("it can be waited for");
    from.set_read_timeout(Some(LOOK_EVERY)).expect("it is not zero");
    to.set_nodelay(true).ok();
    while passable(state) {
        let length = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        if !passable(state) || to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // A side that is gone already needs no closing.
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).ok();
    }
}
