//! Messages that the broker dropped because their time was over: those that wait for the task are told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use taskq::Client;
use taskq::broker::{Broker, Consumption};
use taskq::client::DeadEntry;
use taskq::internal::attempt::Verdict;
use taskq::internal::codec;
use taskq::message::{Envelope, WireMessage};

use super::super::custody::InFlight;
use super::super::observe::{Moment, Observers, Subject};
use super::super::settle::{End, Ends, SettlerHandle, Settles};

/// The pause before the reports are asked for again.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// The teller of expired messages.
pub(crate) struct ExpiryTeller {
    pub(crate) ends: Ends,
    pub(crate) settler: SettlerHandle,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) observers: Observers,
    pub(crate) client: Client,
}

impl ExpiryTeller {
    /// Tells of each, until it is dropped.
    pub(crate) async fn run(self, broker: Arc<dyn Broker>) {
        // Without a store there is nobody to tell, and a quarantine process has other things to do.
        if !self.ends.stores_results || self.ends.role.is_quarantine() {
            return std::future::pending().await;
        }
        loop {
            let Some(expired) = broker.expired_messages() else { return std::future::pending().await };
            match expired.consume_expired().await {
                Ok(reports) => self.tell(reports).await,
                Err(error) => tracing::debug!(%error, "expired messages are not reported"),
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn tell(&self, mut reports: Consumption) {
        while let Some(report) = reports.deliveries.next().await {
            let guard = self.in_flight.guard_unrun();
            let end = match self.expired(&report.message) {
                Some((envelope, queue)) => {
                    let verdict = Verdict::expired();
                    let subject = Subject { task: &envelope.task, id: &envelope.id, attempt: envelope.attempt };
                    self.observers.observe(&Moment::NotRun { subject, verdict: &verdict });
                    self.ends.without_run(&envelope, &queue, &verdict, report.acker, guard)
                }
                None => End::unrecorded([], Settles::Delivery(report.acker, guard)),
            };
            self.settler.settle(end).await;
        }
    }

    /// The task's message and its queue, if it expired there. Messages that went through the delays of the broker and
    /// ended otherwise are reported as well, and every user who may publish can put one there.
    fn expired(&self, report: &WireMessage) -> Option<(Envelope, Arc<str>)> {
        let DeadEntry { letter, message, .. } = DeadEntry::read(report.clone());
        let envelope = codec::decode(&message).ok().filter(|_| letter.reason == "expired")?;
        let queue: Arc<str> = letter.queue.into();
        // The broker has added its own notes to what was signed.
        self.client.verify_moved(report, &queue).ok()?;
        Some((envelope, queue))
    }
}
