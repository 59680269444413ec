//! Renewal: long-running deliveries are kept alive by copies of their messages.
//!
//! RabbitMQ closes the channel of a delivery that stays unacknowledged past its `consumer_timeout`, and each long
//! task would run again and again. At half of that time the run's message is published once more, to a renewal queue
//! that only this process consumes from. The copy that arrives becomes the run's delivery, and the one it had is
//! acknowledged; half of the time later the same happens to the copy. As long as process and connection live, the
//! task runs once and the broker takes nothing back. If the process dies, the copy goes to the queue that the message
//! came from, its origin.
//!
//! At every moment the broker has the message: the copy is confirmed before the delivery before it is acknowledged.
//! For a moment it has both, and if everything ends just then, both come back; the workers that get them see that
//! they may be duplicates, and find the claim that the run makes before its message is copied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use taskq::Client;
use taskq::broker::{BrokerError, Consumption, ConsumptionControl, Delivery, Publication, QueueSpec, RENEWAL_PREFIX};
use taskq::internal::codec;
use taskq::internal::dead::lightened;
use taskq::message::{Envelope, RunKey, WireMessage};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::super::claims::Claims;
use super::super::lock::lock;
use super::super::quarantine::quarantine_queue;
use super::super::run::Run;
use super::super::supervision::Role;
use super::claiming::claim_marked;
use super::in_flight::{Adoption, InFlight};

/// The time between two looks at the ages of deliveries: a part of the time that the broker gives, and at most 5 s.
const LOOK_PART: u32 = 32;
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);

/// The time for which the end of a worker waits for copies that are on their way, and for a queue to be deleted.
const ARRIVE_WITHIN: Duration = Duration::from_secs(2);
const DELETED_WITHIN: Duration = Duration::from_secs(2);
const ARRIVAL_LOOK_EVERY: Duration = Duration::from_millis(5);

/// Renews the deliveries of this process.
pub(crate) struct DeliveryRenewer {
    parts: RenewerParts,
    looked: Mutex<Option<Instant>>,
    /// The renewal queues by the queue that the messages come from. Opened when they are first needed.
    queues: tokio::sync::Mutex<HashMap<Arc<str>, RenewalQueue>>,
    readers: Mutex<Vec<AbortHandle>>,
    /// The number of copies of each run that were sent and have not arrived.
    underway: Mutex<HashMap<RunKey, u32>>,
}

/// Everything that a [`DeliveryRenewer`] works with.
pub(crate) struct RenewerParts {
    pub(crate) client: Client,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) claims: Option<Claims>,
    pub(crate) role: Role,
    /// The name of this process, for the names of its queues.
    pub(crate) instance: Arc<str>,
}

/// A renewal queue of this process, kept open by its reader.
struct RenewalQueue {
    name: Arc<str>,
    control: Weak<dyn ConsumptionControl>,
}

/// Keeps renewal queues read for as long as it lives. Held on the runtime of the tasks: when that is gone, so are the
/// runs, and their messages have to come into other hands.
pub(crate) struct RenewalReaders(pub(crate) Option<Arc<DeliveryRenewer>>);

impl Drop for RenewalReaders {
    fn drop(&mut self) {
        if let Some(renewer) = &self.0 {
            lock(&renewer.readers).drain(..).for_each(|reader| reader.abort());
        }
    }
}

impl DeliveryRenewer {
    /// A renewer that has no queue yet.
    pub(crate) fn new(parts: RenewerParts) -> Self {
        Self {
            parts,
            looked: Mutex::default(),
            queues: tokio::sync::Mutex::default(),
            readers: Mutex::default(),
            underway: Mutex::default(),
        }
    }

    /// The runs whose delivery is to be renewed now. To be asked often; it looks now and then.
    pub(crate) fn due(&self) -> Vec<Arc<Run>> {
        let Some(timeout) = self.parts.client.broker().delivery_timeout() else { return Vec::new() };
        let now = Instant::now();
        // No queue of any broker has a shorter time than the setting.
        let shortest = self.parts.client.settings().consumer_timeout.unwrap_or(Duration::MAX);
        let mut looked = lock(&self.looked);
        if looked.is_some_and(|looked| now.duration_since(looked) < (shortest / LOOK_PART).min(LOOK_EVERY_MAX)) {
            return Vec::new();
        }
        *looked = Some(now);
        self.parts.in_flight.due_for_renewal(now, |queue| timeout.settle_within(queue))
    }

    /// Renews the deliveries of these runs. `suspend`: every slot is theirs, so no message that comes could be run;
    /// once their deliveries are acknowledged, the broker would send some.
    pub(crate) async fn renew(self: Arc<Self>, runs: Vec<Arc<Run>>, suspend: Option<Arc<dyn ConsumptionControl>>) {
        if let Some(fetching) = suspend.as_ref().and_then(|control| control.fetch_control()) {
            fetching.suspend_fetching().await;
        }
        join_all(runs.iter().map(|run| self.renew_one(run))).await;
    }

    async fn renew_one(self: &Arc<Self>, run: &Run) {
        // The copy may come into other hands if this process is slow; a claim tells them. Without one the renewal
        // goes on all the same, since to keep the delivery matters more.
        self.claim(run).await;
        let (task, id) = (run.definition.name, &run.key.id);
        let (origin, copy) = copy_of(run, self.parts.role);
        let failed = match self.queue(&origin).await {
            Err(error) => Some(taskq::Error::from(error)),
            Ok(queue) => {
                self.copy_is_sent(&run.key);
                let published = self.publish(&queue, &origin, codec::encode(copy)).await;
                if published.is_err() {
                    self.copy_is_done(&run.key);
                    // The broker may have taken it all the same.
                    self.parts.in_flight.note_returned_to_origin();
                }
                published.err()
            }
        };
        match failed {
            None => tracing::debug!(task, %id, "the delivery of a long task is renewed by a copy of its message"),
            Some(error) => tracing::warn!(
                task, %id, error = &error as &dyn std::error::Error,
                "the delivery of a long task could not be renewed by a copy of its message; trying again"
            ),
        }
    }

    /// Publishes a copy. What a sender has put into the headers for itself is left out if it does not fit beside what
    /// the copy adds: the delivery matters more, and the run has the message as it came. Signed for the queue to which
    /// it goes back.
    async fn publish(&self, queue: &Arc<str>, origin: &str, mut copy: WireMessage) -> Result<(), taskq::Error> {
        loop {
            let publication = Publication::new(Arc::clone(queue), copy.clone());
            let Err(error) = self.parts.client.publish_for(publication, origin).await else { return Ok(()) };
            let removed = lightened(&mut copy, &error);
            if removed.is_empty() {
                return Err(error);
            }
            let removed = removed.join(", ");
            tracing::warn!(removed, "the copy of a long task's message goes without headers that do not fit");
        }
    }

    /// Claims a run that has no claim. Tries once.
    async fn claim(&self, run: &Run) {
        let RenewerParts { claims: Some(claims), in_flight, .. } = &self.parts else { return };
        if !in_flight.begin_claim(run) {
            return;
        }
        claim_marked(in_flight, claims, run).await;
    }

    /// The name of the renewal queue for messages of `origin`, which is opened if it is not.
    async fn queue(self: &Arc<Self>, origin: &Arc<str>) -> Result<Arc<str>, BrokerError> {
        let mut queues = self.queues.lock().await;
        if let Some(queue) = queues.get(origin) {
            return Ok(Arc::clone(&queue.name));
        }
        let renewal = self.parts.client.broker().delivery_timeout();
        let renewal = renewal.expect("nothing is due where deliveries do not time out");
        let name: Arc<str> = queue_name(&self.parts.instance, origin).into();
        let consumption = renewal.open_renewal_queue(&name, origin).await?;
        let control = Arc::downgrade(&consumption.control);
        let reader = tokio::spawn(Arc::clone(self).read(consumption, Arc::clone(origin))).abort_handle();
        lock(&self.readers).push(reader);
        queues.insert(Arc::clone(origin), RenewalQueue { name: Arc::clone(&name), control });
        Ok(name)
    }

    fn copy_is_sent(&self, key: &RunKey) {
        *lock(&self.underway).entry(key.clone()).or_default() += 1;
    }

    /// A copy has arrived, or will not.
    fn copy_is_done(&self, key: &RunKey) {
        let mut underway = lock(&self.underway);
        if let Some(count) = underway.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                underway.remove(key);
            }
        }
    }

    /// Gives back the copies that are left, once nothing runs any more. Queues that certainly are empty are deleted;
    /// the others are by the broker, when nobody has used them for long.
    pub(crate) async fn close(&self) {
        // Bounded, since the opening of a queue waits for a broker that may be away.
        let Ok(mut queues) = tokio::time::timeout(ARRIVE_WITHIN, self.queues.lock()).await else { return };
        if queues.is_empty() {
            return;
        }
        let arrived = async {
            while !lock(&self.underway).is_empty() {
                tokio::time::sleep(ARRIVAL_LOOK_EVERY).await;
            }
        };
        let all_arrived = tokio::time::timeout(ARRIVE_WITHIN, arrived).await.is_ok();
        let in_flight = &self.parts.in_flight;
        let is_empty = all_arrived && in_flight.is_empty() && !in_flight.has_returned_to_origin();
        for (_, queue) in queues.drain() {
            if let Some(control) = queue.control.upgrade() {
                control.stop();
                control.close().await;
            }
            // Bounded, since the broker may be away.
            if let Some(renewal) = self.parts.client.broker().delivery_timeout().filter(|_| is_empty)
                && !matches!(
                    tokio::time::timeout(DELETED_WITHIN, renewal.delete_renewal_queue(&queue.name)).await,
                    Ok(Ok(()))
                )
            {
                tracing::debug!(queue = &*queue.name, "a renewal queue stays behind; the broker deletes it later");
            }
        }
    }

    /// Takes the copies that arrive, until the consumption ends.
    async fn read(self: Arc<Self>, consumption: Consumption, origin: Arc<str>) {
        let Consumption { mut deliveries, control: _control, .. } = consumption;
        while let Some(delivery) = deliveries.next().await {
            self.take(delivery, &origin);
        }
    }

    fn take(&self, delivery: Delivery, origin: &str) {
        let Delivery { message, acker, .. } = delivery;
        let in_flight = &self.parts.in_flight;
        // Of what others have put there, none takes the place of a delivery.
        let verified = self.parts.client.verify(&message, origin).is_ok();
        let adoption = match codec::decode(&message) {
            Ok(envelope) if verified => {
                let key = envelope.run_key();
                self.copy_is_done(&key);
                in_flight.take_over(&key, acker)
            }
            Ok(_) | Err(_) => Adoption::Unknown(acker),
        };
        match adoption {
            Adoption::Adopted => {}
            Adoption::AlreadySettled(acker) => acker.ack(),
            // No run here wants it: whether it has to run is found out by the worker that takes it from its origin.
            Adoption::SecondCopy(acker) | Adoption::Unknown(acker) => {
                in_flight.note_returned_to_origin();
                acker.requeue();
            }
        }
    }
}

/// The queue to which the message of a run goes if no run here wants it any more, and its copy. When the copy arrives
/// there, the message has come back once more.
fn copy_of(run: &Run, role: Role) -> (Arc<str>, Envelope) {
    let copy = run.envelope.clone().with(|copy| {
        copy.moved = true;
        copy.returns = copy.returns.saturating_add(1);
    });
    if role.is_quarantine() {
        let copy = copy.with(|copy| copy.origin_queue = Some(run.queue.to_string()));
        (quarantine_queue(&run.queue).into(), copy)
    } else {
        (Arc::clone(&run.queue), copy)
    }
}

/// The name of the renewal queue of the process `instance` for messages of `origin`.
fn queue_name(instance: &str, origin: &str) -> String {
    let name = format!("{RENEWAL_PREFIX}{instance}.{origin}");
    // The parts of the name are for people only.
    if QueueSpec::check_name(&name).is_ok() { name } else { format!("{RENEWAL_PREFIX}{}", taskq::TaskId::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_what_as_long_as_there_is_room() {
        assert_eq!(queue_name("web-1/12/34", "mail"), "taskq.renew.web-1/12/34.mail");
        let name = queue_name("web-1/12/34", &"q".repeat(190));
        assert!(name.starts_with(RENEWAL_PREFIX) && QueueSpec::check_name(&name).is_ok(), "{name}");
        assert_ne!(name, queue_name("web-1/12/34", &"q".repeat(190)), "no two alike");
    }
}
