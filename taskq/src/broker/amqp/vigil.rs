//! The vigil over the connection for consuming: whether its node still hands out messages.
//!
//! Silence can mean that there is nothing to do, and a node that is cut off from its cluster tells of queues and
//! channels from memory. So something is asked for now and then that it can only answer together with the other
//! nodes: a message of the queue of expired messages, a quorum queue, which every worker consumes from and which is
//! empty nearly always.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicGetOptions, BasicNackOptions};
use tokio::time::{self, Instant};

use super::link::Link;
use super::session::{RequestFault, Session};
use super::suspicion::Suspicion;
use crate::broker::EXPIRED_QUEUE;

/// The pause between two questions.
const ASK_EVERY: Duration = Duration::from_secs(4);

/// The time without an answer after which the node counts as of no use, for health.
const SUSPECTED_AFTER: Duration = Duration::from_secs(4);

/// The time without an answer after which the node is left, where there are others. An election of a queue's leader is
/// over sooner.
const PATIENCE: Duration = Duration::from_secs(8);

/// Keeps the vigil until the link is closed.
pub(super) async fn keep(link: Arc<Link>) {
    let mut suspicion = Suspicion::new(PATIENCE);
    while let Some(session) = link.session().await {
        tokio::select! {
            () = over(&session, &link, &mut suspicion) => {}
            () = link.closed() => return,
        }
        suspicion.rest();
    }
}

/// Keeps the vigil over one session until it is lost.
async fn over(session: &Session, link: &Link, suspicion: &mut Suspicion) {
    let mut channel = None;
    while session.is_open() {
        time::sleep(ASK_EVERY).await;
        let mut asking = std::pin::pin!(ask(session, &mut channel));
        // The time begins now.
        suspicion.waits(Instant::now());
        loop {
            tokio::select! {
                () = &mut asking => {
                    session.suspect(false);
                    suspicion.clear();
                    break;
                }
                _ = session.lost() => return,
                () = time::sleep(SUSPECTED_AFTER) => {
                    session.suspect(true);
                    if suspicion.waits(Instant::now()) && link.has_several_places() {
                        session.forsake("its node hands out nothing, and may be cut off from its cluster");
                        return;
                    }
                }
            }
        }
    }
}

/// Asks, and completes with any answer, or with the loss of the connection.
async fn ask(session: &Session, channel: &mut Option<Channel>) {
    if let Err(fault) = fetch(session, channel).await {
        // The queue does not exist, or may not be read: that is an answer, too.
        *channel = None;
        tracing::debug!(%fault, "the question whether the broker hands out messages was refused");
    }
}

async fn fetch(session: &Session, channel: &mut Option<Channel>) -> Result<(), RequestFault> {
    let open = match channel.take().filter(|channel| channel.status().connected()) {
        Some(open) => open,
        None => session.channel().await?,
    };
    if let Some(message) = open.basic_get(EXPIRED_QUEUE.into(), BasicGetOptions::default()).await? {
        open.basic_nack(message.delivery_tag, BasicNackOptions { requeue: true, multiple: false }).await?;
    }
    *channel = Some(open);
    Ok(())
}
