//! Inspection of a queue's messages, without consuming from it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use lapin::Channel;
use lapin::options::BasicGetOptions;

use super::deliveries::delivery_of;
use super::session::{RequestFault, Session};
use super::settle::{Back, ChannelSettler};
use crate::broker::{Browse, ConsumptionControl};
use crate::io;

/// The number of messages that are requested at once.
const BATCH: usize = 32;

/// Takes up to `limit` messages out of `queue`, on a channel of their own.
pub(super) async fn browse(session: Arc<Session>, queue: &str, limit: usize) -> Result<Browse, RequestFault> {
    let channel = session.channel().await?;
    let settler = ChannelSettler::new(channel.clone(), 0, Back::Queue);
    let name: Arc<str> = Arc::from(queue);
    let mut deliveries = Vec::new();
    while deliveries.len() < limit {
        let batch = BATCH.min(limit - deliveries.len());
        let gets = (0..batch).map(|_| channel.basic_get(queue.into(), BasicGetOptions::default()));
        let got = session.ask(future::try_join_all(gets)).await;
        let got = got.inspect_err(|_| settler.end())?;
        let empty = got.iter().any(Option::is_none);
        deliveries.extend(got.into_iter().flatten().map(|message| delivery_of(message.delivery, &name, &settler)));
        if empty {
            break;
        }
    }
    Ok(Browse { deliveries, control: Arc::new(Look { session, channel, settler }) })
}

/// A guard for the messages taken out; when it is dropped, the unsettled ones go back.
struct Look {
    session: Arc<Session>,
    channel: Channel,
    settler: Arc<ChannelSettler>,
}

/// A control with nothing to steer, since all messages were taken at once.
impl ConsumptionControl for Look {
    fn has_ended(&self) -> bool {
        true
    }

    fn set_prefetch(&self, _prefetch: u16) {}

    fn give_back_unread(&self) {}

    fn stop(&self) {}

    fn is_live(&self) -> bool {
        false
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let (session, channel, settler) = (Arc::clone(&self.session), self.channel.clone(), Arc::clone(&self.settler));
        io::run(async move {
            settler.finish().await;
            // The answer means that the broker has applied the settlements and put the other messages back.
            if let Err(fault) = session.ask(channel.close(200, "seen".into())).await {
                tracing::debug!(%fault, "the channel ended by itself");
            }
            settler.end();
        })
        .boxed()
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        self.settler.flush();
        self.settler.end();
        let channel = self.channel.clone();
        // Ackers that are kept by the caller must not withhold the messages from consumers. After `close` this has no
        // effect.
        io::spawn(async move { channel.close(200, "dropped".into()).await });
    }
}
