//! The entrance for publications: checks their size, takes their share of the budget and gives them to the
//! [`outbox`](super::outbox).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{self, Instant};

use super::link::Link;
use super::outbox::{Outbox, Outgoing};
use super::publish_loop::PublishLoop;
use super::topology::Topology;
use crate::broker::{BrokerError, BrokerOptions, Publication, PublishError};
use crate::io;

/// The budget of publications that are handed over and unanswered, in units of a kibibyte or part of one per message:
/// 64 MiB, or 65,536 small messages. Beyond it, publishing waits before it hands over.
const BUDGET: usize = 65_536;

/// The entrance for publications, used by all threads of the process.
pub(super) struct Publisher {
    outbox: Arc<Outbox>,
    budget: Arc<Semaphore>,
    timeout: Duration,
    size_max: usize,
}

impl Publisher {
    /// Starts publishing over `link`, until [`Publisher::close`], or until it is dropped and everything is answered.
    pub(super) fn start(link: Arc<Link>, topology: Arc<Topology>, options: &BrokerOptions) -> Self {
        let outbox = Arc::new(Outbox::new(link, topology));
        io::spawn(PublishLoop::new(Arc::clone(&outbox), options.publish_timeout).run());
        Self {
            outbox,
            budget: Arc::new(Semaphore::new(BUDGET)),
            timeout: options.publish_timeout,
            size_max: options.max_message_bytes,
        }
    }

    /// Hands a message over, at once if the budget allows. The future waits for the answer; the timeout begins now.
    pub(super) fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), PublishError>> {
        let Publication { queue, message, delay } = publication;
        let (size, limit) = (message.body.len(), self.size_max);
        if size > limit {
            return future::ready(Err(PublishError::TooLarge { size, limit, setting: PublishError::OUR_LIMIT }))
                .boxed();
        }
        let now = Instant::now();
        let deadline = now + self.timeout;
        let due = delay.filter(|delay| !delay.is_zero()).map(|delay| {
            // An instant out of range is replaced by the end of the ladder.
            now.checked_add(delay).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
        });
        let (answer, answered) = oneshot::channel();
        let outgoing = move |budget| Box::new(Outgoing::new(queue, message, due, deadline, answer, budget));
        // No answer means that the client was closed.
        let answered = async move { answered.await.unwrap_or_else(|_| Err(BrokerError::Closed.into())) };
        let units = u32::try_from((size / 1024 + 1).min(BUDGET)).expect("it is at most 65,536");
        if let Ok(budget) = Arc::clone(&self.budget).try_acquire_many_owned(units) {
            self.outbox.hand_over(outgoing(budget));
            return answered.boxed();
        }
        let (budget, outbox, after) = (Arc::clone(&self.budget), Arc::clone(&self.outbox), self.timeout);
        async move {
            // On the I/O runtime, since the caller's may have no timers, and may not be there at all.
            let budget =
                io::run(async move { time::timeout_at(deadline, budget.acquire_many_owned(units)).await }).await;
            let Ok(Ok(budget)) = budget else { return Err(PublishError::TimedOut { after }) };
            outbox.hand_over(outgoing(budget));
            answered.await
        }
        .boxed()
    }

    /// Accepts no more messages, and completes when all are answered.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.outbox.lock().last.get_or_insert_default().push(done);
        self.outbox.wake.notify_one();
        // In either case, the publish loop has nothing left to do.
        let _ = closed.await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.outbox.lock().last.get_or_insert_default();
        self.outbox.wake.notify_one();
    }
}
