//! The dispatcher: waits for a slot and a delivery, decides, acts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use taskq::broker::{Acker, Delivery};
use taskq::definition::{Definition, Registry};
use taskq::internal::attempt::{self, Admission, Now, Verdict};
use taskq::internal::codec;
use taskq::internal::dead::Refusal;
use taskq::message::Envelope;
use tokio::sync::OwnedSemaphorePermit;

use super::claims::look_again_after;
use super::custody::Adoption;
use super::duplicates::DeliveryHints;
use super::execution::{self, Attempt};
use super::observe::{Moment, Subject};
use super::quarantine::true_queue;
use super::run::{NewRun, Run, Slots};
use super::settle::{End, Follow, Settles};
use super::shared::Shared;

/// Reads deliveries and starts attempts, one per slot, until the stream ends.
pub(super) struct Dispatcher<S> {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    /// The time for which a message whose task is not registered goes back to the broker.
    pub(super) unknown_task_grace: Duration,
    pub(super) deliveries: S,
    pub(super) slots: Arc<Slots>,
    /// The number of runs so far, which tells runs apart.
    pub(super) runs: u64,
}

impl<S: Stream<Item = Delivery> + Unpin> Dispatcher<S> {
    pub(super) async fn run(mut self) {
        let mut free = None;
        while let Some((slot, mut delivery)) = self.wait(&mut free).await {
            match self.decide(&mut delivery) {
                // What needs no slot leaves it for the next delivery.
                Ok(Step::Run { envelope, task, hints }) => self.start(envelope, task, hints, delivery, slot),
                Ok(Step::Settle { envelope, exit }) => {
                    self.exit(&envelope, exit, delivery);
                    free = Some(slot);
                }
                Err(error) => {
                    self.refuse(&error, delivery);
                    free = Some(slot);
                }
            }
            // Streams of brokers do not know tokio's budget; without this a full queue would starve the other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// A free slot first, then a delivery: nothing is taken that could not be run.
    async fn wait(&mut self, free: &mut Option<OwnedSemaphorePermit>) -> Option<(OwnedSemaphorePermit, Delivery)> {
        let slot = match free.take() {
            Some(slot) => slot,
            None => self.slots.take().await,
        };
        Some((slot, self.deliveries.next().await?))
    }

    fn decide(&self, delivery: &mut Delivery) -> Result<Step, Refusal> {
        self.shared.client.verify(&delivery.message, &delivery.queue)?;
        let mut envelope = codec::decode(&delivery.message)?;
        // A message from quarantine belongs to its queue of origin: whatever becomes of it goes there.
        let header = envelope.origin_queue.take();
        let origin = true_queue(&delivery.queue, header.as_deref(), self.shared.ends.role);
        let from_quarantine = origin.is_some();
        if let Some(origin) = origin {
            delivery.queue = origin.into();
        }
        // What the broker has counted from here on adds to what came before the message was copied.
        let counts = delivery.delivery_count.is_some() || envelope.returns > 0;
        envelope.returns = envelope.returns.saturating_add(delivery.delivery_count.unwrap_or_default());
        let returns = counts.then_some(envelope.returns);
        let redelivered = delivery.redelivered;
        let client = &self.shared.client;
        let store_ahead = envelope.sender_clock.and_then(|_| client.store_clock_ahead());
        let now = Now { time: client.clock().now(), store_ahead };
        let revocation = self.shared.revocations.of(&envelope.id);
        let (is_revoked, grace) = (revocation.is_some(), self.unknown_task_grace);
        let admission = attempt::admit(&envelope, is_revoked, redelivered, &self.registry, grace, now);
        Ok(match admission {
            Admission::Run(task) => Step::Run { envelope, task, hints: None },
            Admission::Claim(task) => {
                Step::Run { envelope, task, hints: Some(DeliveryHints { redelivered, returns, from_quarantine }) }
            }
            Admission::PutOff(delay) => Step::Settle { envelope, exit: UnrunExit::Move(delay) },
            Admission::PutBack(delay) => {
                let so_far = envelope.put_back.unwrap_or_default();
                let envelope = envelope.with(|envelope| envelope.put_back = Some(so_far + delay));
                Step::Settle { envelope, exit: UnrunExit::Move(delay) }
            }
            Admission::Unknown => {
                let verdict = Verdict::unknown_task(&envelope.task);
                Step::Settle { envelope, exit: UnrunExit::End(verdict) }
            }
            Admission::Expired => Step::Settle { envelope, exit: UnrunExit::End(Verdict::expired()) },
            Admission::Revoked => {
                let verdict = Verdict::revoked(revocation.is_some_and(|revocation| revocation.terminate));
                Step::Settle { envelope, exit: UnrunExit::End(verdict) }
            }
        })
    }

    fn start(
        &mut self,
        envelope: Envelope,
        task: &'static Definition,
        hints: Option<DeliveryHints>,
        delivery: Delivery,
        slot: OwnedSemaphorePermit,
    ) {
        let Delivery { acker, queue, .. } = delivery;
        let in_flight = &self.shared.in_flight;
        let acker = match in_flight.adopt(&envelope.run_key(), acker) {
            Adoption::Unknown(acker) => acker,
            Adoption::Adopted => return,
            Adoption::AlreadySettled(acker) => return acker.ack(),
            Adoption::SecondCopy(acker) => {
                let follow = Follow::looked_at_again(&envelope, &queue, look_again_after(&envelope));
                return self.settle(End::unrecorded([follow], self.settles(acker)));
            }
        };
        let run = self.enter(envelope, task, queue, acker);
        // It may have been revoked since it was looked at. From here on the run is found by its id.
        if let Some(revocation) = self.shared.revocations.of(&run.key.id) {
            run.revoke(revocation.terminate);
        }
        tokio::spawn(execution::execute(Arc::clone(&self.shared), Attempt { run, hints }, slot));
    }

    /// Makes the run of a delivery and enters it among those in hand.
    fn enter(
        &mut self,
        envelope: Envelope,
        definition: &'static Definition,
        queue: Arc<str>,
        acker: Acker,
    ) -> Arc<Run> {
        self.runs += 1;
        let options = &definition.options;
        let run = Arc::new(Run::new(NewRun {
            nonce: self.runs,
            limits: attempt::limits(&envelope, options),
            stores_result: self.shared.ends.stores_results && !attempt::ignores_result(&envelope, options),
            envelope,
            definition,
            queue,
        }));
        self.shared.in_flight.enter(Arc::clone(&run), acker);
        self.shared.observers.observe(&Moment::Received { subject: run.subject(), envelope: &run.envelope });
        run
    }

    /// Settles a delivery that is not run.
    fn exit(&self, envelope: &Envelope, exit: UnrunExit, delivery: Delivery) {
        let Delivery { acker, queue, .. } = delivery;
        let subject = Subject { task: &envelope.task, id: &envelope.id, attempt: envelope.attempt };
        let observers = &self.shared.observers;
        let end = match exit {
            UnrunExit::Move(delay) => {
                if envelope.put_back.is_some() {
                    let packages = self.registry.packages().into_iter().collect::<Vec<_>>().join(", ");
                    observers.observe(&Moment::UnknownTask { subject, packages: &packages });
                }
                End::unrecorded([Follow::moved(envelope, &queue, delay)], self.settles(acker))
            }
            UnrunExit::End(verdict) => {
                observers.observe(&Moment::NotRun { subject, verdict: &verdict });
                let guard = self.shared.in_flight.guard_unrun();
                self.shared.ends.without_run(envelope, &queue, &verdict, acker, guard)
            }
        };
        self.settle(end);
    }

    fn refuse(&self, refusal: &Refusal, delivery: Delivery) {
        self.shared.observers.observe(&Moment::Unreadable { queue: &delivery.queue, error: refusal });
        let guard = self.shared.in_flight.guard_unrun();
        self.settle(self.shared.ends.refused(refusal, delivery, guard));
    }

    fn settles(&self, acker: Acker) -> Settles {
        Settles::Delivery(acker, self.shared.in_flight.guard_unrun())
    }

    /// Hands an end over without making the next delivery wait; how many wait is bounded by the prefetch.
    fn settle(&self, end: End) {
        let settler = self.shared.settler.clone();
        tokio::spawn(async move { settler.settle(end).await });
    }
}

/// The decision about a readable delivery.
enum Step {
    Run { envelope: Envelope, task: &'static Definition, hints: Option<DeliveryHints> },
    Settle { envelope: Envelope, exit: UnrunExit },
}

/// The way in which a delivery that is not run is settled.
enum UnrunExit {
    /// The message is published once more, held back by the broker for this long.
    Move(Duration),
    /// The task ends with this verdict.
    End(Verdict),
}
