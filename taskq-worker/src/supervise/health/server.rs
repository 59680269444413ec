//! Health over HTTP, for probes: each client is answered on a task of its own.
//!
//! Anybody who reaches the address may connect, so a client gets little: the time and the bytes of a short request, and
//! one place of a limited number. If all places are taken, the client that came first loses its place to the new one. A
//! probe sends its request at once and is answered before that; only a client that takes its time is still there when
//! its turn to leave comes.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{HealthVerdict, body};

/// The number of clients that may be connected at a time.
const CLIENTS_MAX: usize = 128;

/// The time that a client may take for its request and for reading the answer.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// The longest request in bytes; only its first word matters.
const REQUEST_MAX: usize = 8192;

/// The pause after a client could not be accepted.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The end of a request that has no body.
const END: &[u8] = b"\r\n\r\n";

/// Answers each client with the state that is published at that time.
pub(super) async fn serve(listener: TcpListener, published: watch::Receiver<HealthVerdict>) {
    let mut clients: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = listener.accept().await;
        clients.retain(|client| !client.is_finished());
        if accepted.is_err() || clients.len() >= CLIENTS_MAX {
            // An error may mean that there are no more descriptors; this frees one.
            if let Some(first) = clients.pop_front() {
                first.abort();
            }
        }
        match accepted {
            Ok((stream, _)) => {
                let client = tokio::spawn(attend(stream, published.clone()));
                clients.push_back(client.abort_handle());
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
        }
    }
}

/// Answers one client. A client that goes away or takes too long gets no answer.
async fn attend(mut stream: TcpStream, published: watch::Receiver<HealthVerdict>) {
    let answered = timeout(REQUEST_WITHIN, async {
        let request = read_request(&mut stream).await?;
        let is_head = request.starts_with(b"HEAD ");
        let response = response(&published.borrow().clone(), is_head);
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await
    });
    drop(answered.await);
}

/// Reads a request up to its end, or to the longest length. Closing the connection before that would lose the answer.
async fn read_request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut limited = stream.take(REQUEST_MAX as u64);
    loop {
        // Only what is new is searched, with the bytes before it in which the end may begin: a request may come byte
        // by byte.
        let new = request.len().saturating_sub(END.len() - 1);
        if limited.read_buf(&mut request).await? == 0 || request[new..].windows(END.len()).any(|end| end == END) {
            return Ok(request);
        }
    }
}

fn response(verdict: &HealthVerdict, is_head: bool) -> String {
    let status = if verdict.is_ok() { "200 OK" } else { "503 Service Unavailable" };
    let body = body(verdict);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if is_head { head } else { head + &body }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More clients than there are places for.
    const MANY: usize = 2 * CLIENTS_MAX;

    /// Longer than any answer takes, and shorter than one after the other would.
    const BOUND: Duration = Duration::from_secs(60);

    #[test]
    fn answers_are_whole() {
        let bad = response(&Err("no \"process\"".into()), false);
        let (head, body) = bad.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("Content-Length: {}", body.len())),
            "{bad}"
        );
        let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
        assert_eq!(body["reason"], "no \"process\"");
        let good = response(&Ok(()), true);
        assert!(good.starts_with("HTTP/1.1 200 ") && good.ends_with("\r\n\r\n"), "{good}");
    }

    /// Starts a server whose state is good. It ends with the runtime.
    async fn server() -> (std::net::SocketAddr, watch::Sender<HealthVerdict>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
        let address = listener.local_addr().expect("it has an address");
        let (verdict, published) = watch::channel(Ok(()));
        tokio::spawn(serve(listener, published));
        (address, verdict)
    }

    /// Sends the request in these pieces, and returns the answer.
    async fn ask(address: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it is listened to");
        for piece in pieces {
            stream.write_all(piece).await.expect("it is read");
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        let read = timeout(BOUND, stream.read_to_string(&mut answer)).await;
        read.expect("it is answered").expect("it is answered whole");
        answer
    }

    #[tokio::test]
    async fn a_probe_is_answered_beside_many_slow_clients() {
        let (address, _verdict) = server().await;
        let mut slow = Vec::new();
        for number in 0..MANY {
            let mut stream = TcpStream::connect(address).await.expect("it is listened to");
            // Some say nothing, some begin a request, and some do not read the answer.
            let begun: &[u8] = [&b""[..], b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n\r\n"][number % 3];
            stream.write_all(begun).await.expect("it is read");
            slow.push(stream);
            if number % 32 == 0 {
                let answer = ask(address, &[b"GET / HTTP/1.1\r\n\r\n"]).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            }
        }
        // As many as there are places for, and no more, are still served.
        let mut silent = slow.into_iter().step_by(3);
        let mut first = silent.next().expect("there are many");
        let mut nothing = [0];
        let closed = timeout(BOUND, first.read(&mut nothing)).await.expect("it has lost its place");
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        let answer = ask(address, &[b"HEAD / HTTP/1.1\r\n\r\n"]).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_comes_in_any_pieces_and_is_cut_where_it_is_too_long() {
        let (address, verdict) = server().await;
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        for size in [1, 2, 3, 4, request.len()] {
            let answer = ask(address, &request.chunks(size).collect::<Vec<_>>()).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "in pieces of {size}: {answer}");
        }
        drop(verdict.send_replace(Err("it is tired".into())));
        let endless = vec![b'a'; REQUEST_MAX];
        let answer = ask(address, &[&endless]).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("it is tired"), "{answer}");
    }
}
