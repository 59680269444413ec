//! The promises of messages to all workers, whichever way they go.

use std::time::Duration;

use futures_util::StreamExt;

use super::{PATIENCE, keep};
use crate::broker::{Heard, Listening};
use crate::client::Client;
use crate::codec::event::{decode_events, encode_events};
use crate::codec::pidbox;
use crate::message::WireMessage;
use crate::remote::{Event, NodeReply, Request};

/// A time in which a message would have come that must not.
const MOMENT: Duration = Duration::from_millis(600);

/// Checks every promise between clients that `client` makes, all of them of one broker and one store.
///
/// # Panics
///
/// If one is broken.
pub async fn run_all<F: Future<Output = Client>>(client: impl Fn() -> F) {
    keep("all who listen hear a message", all_who_listen_hear(client().await, client().await)).await;
    keep("an answer reaches one asker", an_answer_reaches_one_asker(client().await, client().await)).await;
    keep("all who watch see an event", all_who_watch_see_an_event(client().await, client().await)).await;
    keep("nothing is kept for those who listen later", nothing_is_kept(client().await)).await;
}

fn request(method: &str) -> WireMessage {
    pidbox::encode_request(&Request::new(method))
}

async fn heard(listening: &mut Listening) -> WireMessage {
    loop {
        let event = tokio::time::timeout(PATIENCE, listening.next()).await.expect("something is heard");
        match event.expect("listening does not end") {
            Heard::Since => {}
            Heard::Message(message) => return message,
        }
    }
}

/// Begins to listen as a node, and waits until it is heard.
async fn listening(client: &Client, node: &str) -> Listening {
    let reach = client.reach().expect("workers can be reached");
    let mut listening = reach.means().listen(node).await.expect("a node can listen");
    let first = tokio::time::timeout(PATIENCE, listening.next()).await.expect("it begins");
    assert_eq!(first, Some(Heard::Since), "the first event says since when");
    listening
}

async fn all_who_listen_hear(one: Client, other: Client) {
    let (mut first, mut second) = (listening(&one, "first@here").await, listening(&other, "second@here").await);
    for method in ["ping", "stats", "ping"] {
        one.reach().expect("workers can be reached").means().tell(request(method)).await.expect("it is sent");
    }
    for listening in [&mut first, &mut second] {
        for method in ["ping", "stats", "ping"] {
            let request = pidbox::decode_request(&heard(listening).await).expect("it is as it was sent");
            assert_eq!(request.method, method, "in the order in which they were sent");
        }
    }
}

async fn an_answer_reaches_one_asker(asker: Client, worker: Client) {
    let reach = asker.reach().expect("workers can be reached");
    let mut inbox = reach.means().open_inbox().await.expect("it can be opened");
    let mut other = reach.means().open_inbox().await.expect("another can be opened");
    assert_ne!(inbox.address, other.address);
    let reply = NodeReply::new("w@here", serde_json::json!({ "ok": "pong" }), Some("t".to_owned()));
    let answering = worker.reach().expect("workers can be reached");
    answering.means().answer(&inbox.address, pidbox::encode_answer(&reply, 1)).await.expect("it is sent");
    assert_eq!(pidbox::decode_answer(&heard(&mut inbox.answers).await), Ok(reply.clone()));
    let nothing = tokio::time::timeout(MOMENT, other.answers.next()).await;
    assert!(nothing.is_err(), "another asker hears nothing of it: {nothing:?}");
    let gone = other.address.clone();
    drop(other);
    answering.means().answer(&gone, pidbox::encode_answer(&reply, 2)).await.expect("an asker that is gone is no error");
}

async fn all_who_watch_see_an_event(teller: Client, watcher: Client) {
    let reach = watcher.reach().expect("workers can be reached");
    let (mut first, mut second) = (
        reach.means().watch_events().await.expect("they can be watched"),
        reach.means().watch_events().await.expect("they can be watched"),
    );
    for watching in [&mut first, &mut second] {
        let since = tokio::time::timeout(PATIENCE, watching.next()).await.expect("it begins");
        assert_eq!(since, Some(Heard::Since), "the first event says since when");
    }
    let events = vec![Event::new("task-started").with("uuid", "1"), Event::new("task-succeeded").with("uuid", "1")];
    let message = encode_events("w@here", events.clone());
    let telling = teller.reach().expect("workers can be reached");
    telling.means().announce("task.multi", message).await.expect("it is sent");
    for watching in [&mut first, &mut second] {
        assert_eq!(decode_events(&heard(watching).await), Ok(events.clone()));
    }
}

async fn nothing_is_kept(client: Client) {
    let reach = client.reach().expect("workers can be reached");
    reach.means().tell(request("before")).await.expect("it is sent, though nobody listens");
    let mut listening = listening(&client, "late@here").await;
    reach.means().tell(request("after")).await.expect("it is sent");
    let request = pidbox::decode_request(&heard(&mut listening).await).expect("it is as it was sent");
    assert_eq!(request.method, "after");
}
