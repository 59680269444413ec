//! A TCP proxy that simulates a bad network: slow, silent, cut off.
//!
//! The proxy knows nothing of the protocols that it carries. Each connection consists of two pumps; all of them watch a
//! single value that says how the network is.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The state of the simulated network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NetworkMode {
    /// No disturbance.
    Good,
    /// Half-open: nothing is carried in either direction, and neither side is told.
    Silent,
    /// Cut: connections are reset, new ones too.
    Cut,
    /// Data from the server is dropped. Afterwards the affected connections are reset, since a part is missing.
    Mute,
    /// Each piece of up to 4 KiB is delayed by this time, in each direction.
    Slow(Duration),
}

#[derive(Debug, Clone, Copy)]
struct NetworkState {
    mode: NetworkMode,
    /// The number of resets so far; raised to reset every open connection.
    resets: u64,
}

/// A proxy on a free port of this machine.
#[derive(Debug)]
pub(super) struct Proxy {
    url: String,
    now: watch::Sender<NetworkState>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before the server of `url`. Fails if the URL does not name a host and a port as AMQP's and
    /// Redis's do. A TLS server has to be the right one under the name 127.0.0.1.
    pub(super) async fn before(url: &str) -> io::Result<Self> {
        let place = ServerUrl::of(url).ok_or_else(|| {
            io::Error::other(
                "only amqp[s]://host:port/… and redis[s]://host:port/… can be reached by way of a bad network",
            )
        })?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = place.at_port(listener.local_addr()?.port());
        let now = watch::Sender::new(NetworkState { mode: NetworkMode::Good, resets: 0 });
        let accepting = tokio::spawn(accept(listener, place.target, now.subscribe()));
        Ok(Self { url, now, accepting })
    }

    /// Returns the server's URL by way of this proxy.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Changes the state of the network.
    pub(super) fn set(&self, mode: NetworkMode) {
        self.now.send_modify(|now| now.mode = mode);
    }

    /// Resets every open connection. New ones are treated according to the state of the network.
    pub(super) fn reset(&self) {
        self.now.send_modify(|now| now.resets += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A URL, split around its host and port.
struct ServerUrl {
    before: String,
    target: String,
    after: String,
}

impl ServerUrl {
    fn of(url: &str) -> Option<Self> {
        let (scheme, default_port) = [("amqp://", 5672), ("amqps://", 5671), ("redis://", 6379), ("rediss://", 6379)]
            .into_iter()
            .find(|(scheme, _)| url.starts_with(scheme))?;
        let rest = &url[scheme.len()..];
        // A list: the other servers would be reached past the proxy.
        if rest.contains("://") {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        let host_at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, host) = authority.split_at(host_at);
        // In an IPv6 address, the colon of the port comes after the brackets.
        let has_port = host.rsplit(']').next().is_some_and(|behind| behind.contains(':'));
        let host = if host.is_empty() { "localhost" } else { host };
        let target = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
        Some(Self { before: format!("{scheme}{user}"), target, after: after.to_owned() })
    }

    fn at_port(&self, port: u16) -> String {
        format!("{}127.0.0.1:{port}{}", self.before, self.after)
    }
}

async fn accept(listener: TcpListener, target: String, now: watch::Receiver<NetworkState>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, for example; the client sees for itself that it cannot connect.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        tokio::spawn(carry(client, target.clone(), now.clone()));
    }
}

/// Carries one connection to its end, and resets it if it must not end in good order.
async fn carry(client: TcpStream, target: String, mut now: watch::Receiver<NetworkState>) {
    let born = *now.borrow();
    // In a silent network a connection is accepted and nothing happens on it.
    if born.mode == NetworkMode::Cut || now.wait_for(|now| now.mode != NetworkMode::Silent).await.is_err() {
        return reset(&[&client]);
    }
    let Ok(server) = TcpStream::connect(&target).await else { return reset(&[&client]) };
    for stream in [&client, &server] {
        // A proxy that gathers bytes would be a bad network all the time. If this fails, it is only slower.
        drop(stream.set_nodelay(true));
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut up = Pump { from: from_client, to: to_server, now: now.clone(), swallows: false, swallowed: false };
    let mut down = Pump { from: from_server, to: to_client, now: now.clone(), swallows: true, swallowed: false };
    let is_cut = now.wait_for(|now| now.resets != born.resets || now.mode == NetworkMode::Cut);
    let in_good_order = tokio::select! {
        whole = up.run() => whole,
        whole = down.run() => whole,
        _ = is_cut => false,
    };
    if !in_good_order {
        reset(&[up.from.as_ref(), down.from.as_ref()]);
    }
}

/// Makes closing these streams a reset.
fn reset(streams: &[&TcpStream]) {
    for stream in streams {
        // A socket that is gone already needs none.
        drop(stream.set_zero_linger());
    }
}

/// One direction of a connection.
struct Pump {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    now: watch::Receiver<NetworkState>,
    /// Whether it drops the data that it reads while the server is mute.
    swallows: bool,
    swallowed: bool,
}

impl Pump {
    /// Pumps until one side closes; returns `false` if the other side must not take that for a good end.
    async fn run(&mut self) -> bool {
        let mut piece = vec![0; 4096];
        loop {
            let mode = self.now.borrow_and_update().mode;
            if self.swallowed && mode != NetworkMode::Mute {
                return false;
            }
            if mode == NetworkMode::Silent {
                if self.now.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            let read = tokio::select! {
                read = self.from.read(&mut piece) => read,
                changed = self.now.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return false,
                },
            };
            let Ok(length) = read else { return false };
            if length == 0 {
                return true;
            }
            match mode {
                NetworkMode::Mute if self.swallows => {
                    self.swallowed = true;
                    continue;
                }
                NetworkMode::Slow(by) => tokio::time::sleep(by).await,
                _ => {}
            }
            if self.to.write_all(&piece[..length]).await.is_err() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_led_through() {
        for (url, target, through) in [
            ("amqp://localhost", "localhost:5672", "amqp://127.0.0.1:7"),
            ("amqp://u:p@h:5673/%2f?heartbeat=2", "h:5673", "amqp://u:p@127.0.0.1:7/%2f?heartbeat=2"),
            ("amqp://u:p@[::1]:5673/v", "[::1]:5673", "amqp://u:p@127.0.0.1:7/v"),
            ("amqp://[::1]/v", "[::1]:5672", "amqp://127.0.0.1:7/v"),
            ("redis://:secret@h", "h:6379", "redis://:secret@127.0.0.1:7"),
            ("amqps://u@h/v?certfile=c", "h:5671", "amqps://u@127.0.0.1:7/v?certfile=c"),
            ("rediss://h", "h:6379", "rediss://127.0.0.1:7"),
            ("redis://h?db=1", "h:6379", "redis://127.0.0.1:7?db=1"),
        ] {
            let place = ServerUrl::of(url).expect(url);
            assert_eq!((place.target.as_str(), place.at_port(7).as_str()), (target, through), "{url}");
        }
        assert!(ServerUrl::of("sqlite:taskq.db").is_none());
        assert!(ServerUrl::of("redis+unix:///run/redis.sock").is_none());
    }

    /// Starts an echo server and a proxy before it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let url = format!("redis://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        let proxy = Proxy::before(&url).await.expect("a port is free");
        let stream = connect(&proxy).await;
        (proxy, stream)
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.url().trim_start_matches("redis://")).await.expect("the proxy listens")
    }

    /// Returns the echo of `word`; an error if the connection is gone.
    async fn say(stream: &mut TcpStream, word: &str) -> io::Result<String> {
        stream.write_all(word.as_bytes()).await?;
        let mut heard = vec![0; word.len()];
        stream.read_exact(&mut heard).await?;
        Ok(String::from_utf8_lossy(&heard).into_owned())
    }

    #[tokio::test]
    async fn what_is_silent_comes_later_and_what_is_reset_never() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(say(&mut stream, "one").await.expect("it is good"), "one");
        proxy.set(NetworkMode::Silent);
        stream.write_all(b"two").await.expect("nobody is told");
        let mut none = [0; 3];
        let nothing = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut none));
        assert!(nothing.await.is_err(), "nothing is carried");
        proxy.set(NetworkMode::Slow(Duration::from_millis(1)));
        stream.read_exact(&mut none).await.expect("what was held comes");
        assert_eq!(&none, b"two");
        proxy.reset();
        assert!(stream.read_exact(&mut none).await.is_err());
        assert_eq!(say(&mut connect(&proxy).await, "new").await.expect("new ones are good"), "new");
    }

    #[tokio::test]
    async fn what_a_mute_server_said_is_missed_for_ever() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(say(&mut stream, "one").await.expect("it is good"), "one");
        proxy.set(NetworkMode::Mute);
        stream.write_all(b"two").await.expect("it is carried");
        let mut heard = [0; 3];
        let nothing = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut heard));
        assert!(nothing.await.is_err(), "the answer is swallowed");
        proxy.set(NetworkMode::Good);
        assert!(stream.read_exact(&mut heard).await.is_err(), "a stream with a hole must not go on");
    }

    #[tokio::test]
    async fn a_cut_network_lets_nobody_through() {
        let (proxy, mut stream) = echo().await;
        proxy.set(NetworkMode::Cut);
        assert!(say(&mut stream, "one").await.is_err());
        assert!(say(&mut connect(&proxy).await, "two").await.is_err());
        proxy.set(NetworkMode::Good);
        assert_eq!(say(&mut connect(&proxy).await, "three").await.expect("it is good again"), "three");
    }
}
