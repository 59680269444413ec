//! The dispatcher: waits for a slot and a delivery, decides, acts.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use taskq::broker::{Delivery, QUARANTINE_SUFFIX};
use taskq::client::Unreadable;
use taskq::definition::Definition;
use taskq::internal::attempt::{self, Admission, Verdict};
use taskq::internal::codec::{self, DecodeError};
use taskq::message::Envelope;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::copies::Seen;
use super::execution::{self, Attempt, moved};
use super::inflight::Adoption;
use super::run::RunKey;
use super::services::Services;
use super::settle::{End, Follow, Holder};

/// Reads deliveries and starts attempts, one per slot, until the stream ends.
pub(super) struct Dispatcher<S> {
    pub(super) services: Arc<Services>,
    pub(super) deliveries: S,
    pub(super) slots: Arc<Semaphore>,
}

impl<S: Stream<Item = Delivery> + Unpin> Dispatcher<S> {
    pub(super) async fn run(mut self) {
        let mut free = None;
        while let Some((slot, mut delivery)) = self.wait(&mut free).await {
            match self.decide(&mut delivery) {
                // What needs no slot leaves it for the next delivery.
                Ok(Step::Run { envelope, task, copy }) => {
                    self.start(envelope, task, copy, delivery, slot);
                }
                Ok(Step::Settle { envelope, exit }) => {
                    self.exit(&envelope, exit, delivery);
                    free = Some(slot);
                }
                Err(error) => {
                    self.unreadable(&error, delivery);
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
            None => Arc::clone(&self.slots).acquire_owned().await.ok()?,
        };
        Some((slot, self.deliveries.next().await?))
    }

    fn decide(&self, delivery: &mut Delivery) -> Result<Step, DecodeError> {
        let mut envelope = codec::decode(&delivery.message)?;
        // What was put aside to run alone belongs to its home queue: whatever becomes of it goes there. Whoever put it there
        // by hand may not have said which that is.
        let by_name = delivery.queue.strip_suffix(QUARANTINE_SUFFIX).filter(|_| self.services.runs_alone());
        let home = envelope.origin_queue.take().or_else(|| by_name.map(str::to_owned));
        let put_aside = home.is_some();
        if let Some(home) = home {
            delivery.queue = home.into();
        }
        // What the broker has counted from here on adds to what came before the message was copied.
        let counts = delivery.delivery_count.is_some() || envelope.returns > 0;
        envelope.returns = envelope.returns.saturating_add(delivery.delivery_count.unwrap_or_default());
        let returns = counts.then_some(envelope.returns);
        let services = &self.services;
        let now = services.now();
        let admission =
            attempt::admit(&envelope, delivery.redelivered, &services.registry, services.unknown_task_grace, now);
        Ok(match admission {
            Admission::Run(task) => Step::Run { envelope, task, copy: None },
            Admission::Claim(task) => {
                let seen = Seen { redelivered: delivery.redelivered, returns, put_aside };
                Step::Run { envelope, task, copy: Some(seen) }
            }
            Admission::PutOff(delay) => Step::Settle { envelope, exit: Exit::Move(delay) },
            Admission::PutBack(delay) => {
                let unknown_since = Some(envelope.unknown_since.unwrap_or(now));
                Step::Settle { envelope: Envelope { unknown_since, ..envelope }, exit: Exit::Move(delay) }
            }
            Admission::Unknown => {
                let verdict = Verdict::unknown_task(&envelope.task);
                Step::Settle { envelope, exit: Exit::End(verdict) }
            }
            Admission::Expired => Step::Settle { envelope, exit: Exit::End(Verdict::expired()) },
        })
    }

    fn start(
        &self,
        envelope: Envelope,
        task: &'static Definition,
        copy: Option<Seen>,
        delivery: Delivery,
        slot: OwnedSemaphorePermit,
    ) {
        let Delivery { acker, queue, .. } = delivery;
        let services = &self.services;
        let acker = match services.in_flight.adopt(&RunKey::of(&envelope), acker) {
            Adoption::Unknown(acker) => acker,
            Adoption::Adopted => return,
            Adoption::AlreadySettled(acker) => return acker.ack(),
            Adoption::SecondCopy(acker) => {
                let follow = moved(&envelope, &queue, super::claim::look_again_after(&envelope));
                let holder = Holder::Delivery(acker, services.in_flight.hold());
                return self.settle(End { records: Vec::new(), verdict: None, follow: Some(follow), holder });
            }
        };
        let run = execution::run_of(services, envelope, task, queue, acker);
        tokio::spawn(execution::execute(Arc::clone(services), Attempt { run, copy }, slot));
    }

    /// Settles a delivery that is not run.
    fn exit(&self, envelope: &Envelope, exit: Exit, delivery: Delivery) {
        let Delivery { acker, queue, .. } = delivery;
        let holder = Holder::Delivery(acker, self.services.in_flight.hold());
        let end = match exit {
            Exit::Move(delay) => {
                if envelope.unknown_since.is_some() {
                    self.warn_unknown(envelope);
                }
                let follow = moved(envelope, &queue, delay);
                End { records: Vec::new(), verdict: None, follow: Some(follow), holder }
            }
            Exit::End(verdict) => {
                tracing::warn!(task = %envelope.task, id = %envelope.id, ?verdict, "not run");
                execution::end_without_run(&self.services, envelope, &queue, &verdict, holder)
            }
        };
        self.settle(end);
    }

    fn warn_unknown(&self, envelope: &Envelope) {
        let packages = self.services.registry.packages().into_iter().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            task = %envelope.task, id = %envelope.id,
            "no task of this name is registered here; put back for other workers (linked crates with tasks: {packages}; \
             a crate is only linked if it is mentioned: `use my_tasks as _;`)"
        );
    }

    /// A message that is no task message goes to the dead set as it is, with the reason. If it has an id, whoever
    /// waits for it is told.
    fn unreadable(&self, error: &DecodeError, delivery: Delivery) {
        tracing::error!(queue = &*delivery.queue, %error, "a message cannot be understood; it goes to the dead set");
        let services = &self.services;
        let Unreadable { message, record, .. } = Unreadable::new(&delivery, error, services.now());
        let records = record.filter(|_| services.results.is_some()).into_iter().collect();
        let follow = Some(Follow { queue: Arc::clone(&services.dead_queue), message, delay: None });
        let holder = Holder::Delivery(delivery.acker, services.in_flight.hold());
        self.settle(End { records, verdict: None, follow, holder });
    }

    /// Hands an end over without making the next delivery wait; how many wait is bounded by the prefetch.
    fn settle(&self, end: End) {
        let services = Arc::clone(&self.services);
        tokio::spawn(async move { execution::settle(&services, end).await });
    }
}

/// What is done with a readable delivery.
enum Step {
    Run { envelope: Envelope, task: &'static Definition, copy: Option<Seen> },
    Settle { envelope: Envelope, exit: Exit },
}

/// How a delivery that is not run is settled.
enum Exit {
    /// It is published once more, held back by the broker for this long.
    Move(std::time::Duration),
    /// It ends here.
    End(Verdict),
}
