//! What runs for longer than the broker waits for a settlement is held by copies of its message.
//!
//! A broker that wants deliveries settled within some time takes everything back when that is over, and each long task
//! would run again and again. So at half of that time the run's message is published once more, to a queue that only this
//! process consumes from. The copy that arrives becomes the run's delivery, and the one it had is acknowledged; half of
//! the time later the same happens to the copy. As long as process and connection live, the task runs once and nothing is
//! taken back. If the process dies, the copy goes to the queue that the message came from, since that is where a held
//! queue sends whatever comes back to it.
//!
//! At every moment the broker has the message: the copy is confirmed before the delivery before it is acknowledged. For a
//! moment it has both, and if everything ends just then, both come back; whoever gets them sees that they may be copies,
//! and finds the claim that the run makes before its message is copied.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use taskq::broker::{BrokerError, Consumption, ConsumptionControl, Delivery, Publication, QueueSpec, RENEWAL_PREFIX};
use taskq::internal::codec;
use taskq::message::Envelope;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::copies::{alone_queue, claim_running};
use super::inflight::{Adoption, InFlight};
use super::run::{Run, RunKey, lock};
use super::services::Services;

/// How often the ages of deliveries are looked at, as a part of the time that the broker gives, and at the least.
const LOOK_PART: u32 = 32;
const LOOK_EVERY_MAX: Duration = Duration::from_secs(5);

/// How long the end of a worker waits for copies that are on their way, and for a queue to be deleted.
const ARRIVE_WITHIN: Duration = Duration::from_secs(2);
const DELETED_WITHIN: Duration = Duration::from_secs(2);
const ARRIVAL_LOOK_EVERY: Duration = Duration::from_millis(5);

/// How old a run's delivery is, and what is being done about it.
#[derive(Debug, Default)]
pub(super) struct Age {
    /// When the delivery was first looked at.
    since: Option<Instant>,
    /// When a copy was last asked for that has not arrived.
    asked: Option<Instant>,
    /// The delivery is a copy, or will soon be: it is not among those that count against the prefetch.
    held: bool,
}

impl Age {
    /// Whether a copy is to be asked for now, and takes note of it. The time begins with the first look, a little late, so
    /// that short runs pay for no clock. A copy that does not arrive is asked for again before the time is over: three times,
    /// or once if the message had been waiting before it was taken.
    pub(super) fn is_due(&mut self, now: Instant, within: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        let waited = self.asked.is_none_or(|asked| now.duration_since(asked) >= within / 8);
        let due = waited && now.duration_since(since) >= within / 2;
        if due {
            (self.asked, self.held) = (Some(now), true);
        }
        due
    }

    /// There is another delivery: the time begins anew. Gives 1 if the one before was held, else 0.
    pub(super) fn renew(&mut self, held: bool) -> usize {
        let before = std::mem::replace(self, Self { held, ..Self::default() });
        usize::from(before.held)
    }

    /// Whether the delivery is a copy, or will soon be.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Whether a copy may be on its way.
    pub(super) fn expects_copy(&self) -> bool {
        self.asked.is_some()
    }
}

/// The held queues of this process.
pub(super) struct Holding {
    /// Within which time the broker wants deliveries settled.
    within: Duration,
    looked: Mutex<Option<Instant>>,
    /// By the queue that the messages come from. Opened when they are first needed.
    queues: tokio::sync::Mutex<HashMap<Arc<str>, HeldQueue>>,
    readers: Mutex<Vec<AbortHandle>>,
    /// How many copies of each run were sent and have not arrived.
    underway: Mutex<HashMap<RunKey, u32>>,
}

/// A queue of this process. Whoever reads from it keeps it open.
struct HeldQueue {
    name: Arc<str>,
    control: Weak<dyn ConsumptionControl>,
}

/// While it lives, held queues are read. For the runtime of the tasks: when that is gone, so are the runs, and what they
/// held has to come into other hands.
pub(super) struct Reading(pub(super) Arc<Services>);

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(holding) = &self.0.holding {
            lock(&holding.readers).drain(..).for_each(|reader| reader.abort());
        }
    }
}

impl Holding {
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            looked: Mutex::default(),
            queues: tokio::sync::Mutex::default(),
            readers: Mutex::default(),
            underway: Mutex::default(),
        }
    }

    /// The runs whose message is to be copied now. To be asked often; it looks now and then.
    pub(super) fn due(&self, in_flight: &InFlight) -> Vec<Arc<Run>> {
        let now = Instant::now();
        let mut looked = lock(&self.looked);
        if looked.is_some_and(|looked| now.duration_since(looked) < (self.within / LOOK_PART).min(LOOK_EVERY_MAX)) {
            return Vec::new();
        }
        *looked = Some(now);
        in_flight.due(now, self.within)
    }

    /// The name of the held queue for messages of `home`, which is opened if it is not.
    async fn queue(services: &Arc<Services>, holding: &Self, home: &Arc<str>) -> Result<Arc<str>, BrokerError> {
        let mut queues = holding.queues.lock().await;
        if let Some(queue) = queues.get(home) {
            return Ok(Arc::clone(&queue.name));
        }
        let held = services.client.broker().delivery_timeout().expect("nothing is due where no queues are needed");
        let name: Arc<str> = queue_name(&services.instance, home).into();
        let consumption = held.open_renewal_queue(&name, home).await?;
        let control = Arc::downgrade(&consumption.control);
        let reader = tokio::spawn(read(Arc::clone(services), consumption)).abort_handle();
        lock(&holding.readers).push(reader);
        queues.insert(Arc::clone(home), HeldQueue { name: Arc::clone(&name), control });
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

    /// Gives back what is held, once nothing runs any more. Queues that certainly are empty are deleted; others are by the
    /// broker, when nobody has used them for long.
    pub(super) async fn close(&self, services: &Services) {
        // Bounded, since whoever opens one waits for a broker that may be away.
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
        let is_empty = all_arrived && services.in_flight.is_empty() && !services.in_flight.has_sent_home();
        for (_, queue) in queues.drain() {
            if let Some(control) = queue.control.upgrade() {
                control.stop();
                control.close().await;
            }
            // Bounded, since the broker may be away.
            if let Some(held) = services.client.broker().delivery_timeout().filter(|_| is_empty)
                && !matches!(
                    tokio::time::timeout(DELETED_WITHIN, held.delete_renewal_queue(&queue.name)).await,
                    Ok(Ok(()))
                )
            {
                tracing::debug!(queue = &*queue.name, "a held queue stays behind; the broker deletes it later");
            }
        }
    }
}

/// Copies the messages of these runs. `rests`: every slot is theirs, so no message that comes could be run; once their
/// deliveries are acknowledged, the broker would send some.
pub(super) async fn hold(services: Arc<Services>, runs: Vec<Arc<Run>>, rests: Option<Arc<dyn ConsumptionControl>>) {
    if let Some(control) = rests
        && let Some(fetching) = control.fetch_control()
    {
        fetching.suspend_fetching().await;
    }
    join_all(runs.iter().map(|run| hold_one(&services, run))).await;
}

async fn hold_one(services: &Arc<Services>, run: &Arc<Run>) {
    let Some(holding) = &services.holding else { return };
    // The copy may come into other hands if this process is slow; a claim tells them. Without one it goes on all the same,
    // since to keep the delivery matters more.
    if run.claim().is_none() {
        claim_running(services, run).await;
    }
    let (task, id) = (run.definition.name, &run.key.id);
    let (home, copy) = copy_of(run, services.runs_alone());
    let failed = match Holding::queue(services, holding, &home).await {
        Err(error) => Some(taskq::Error::from(error)),
        Ok(queue) => {
            holding.copy_is_sent(&run.key);
            let publication = Publication { queue, message: codec::encode(copy), delay: None };
            let published = services.client.publish(publication).await;
            if published.is_err() {
                holding.copy_is_done(&run.key);
                // It may have been taken all the same.
                services.in_flight.note_sent_home();
            }
            published.err()
        }
    };
    match failed {
        None => tracing::debug!(task, %id, "a long task is held by a copy of its message"),
        Some(error) => tracing::warn!(
            task, %id, error = &error as &dyn std::error::Error,
            "a long task could not be held by a copy of its message; it is tried again"
        ),
    }
}

/// Where the message of a run goes if nobody here wants it any more, and its copy. When the copy comes there, the message
/// has come back once more.
fn copy_of(run: &Run, alone: bool) -> (Arc<str>, Envelope) {
    let copy = Envelope { moved: true, returns: run.envelope.returns.saturating_add(1), ..run.envelope.clone() };
    if alone {
        (alone_queue(&run.queue).into(), Envelope { origin_queue: Some(run.queue.to_string()), ..copy })
    } else {
        (Arc::clone(&run.queue), copy)
    }
}

/// The name of the queue in which `instance` holds messages of `home`.
fn queue_name(instance: &str, home: &str) -> String {
    let name = format!("{RENEWAL_PREFIX}{instance}.{home}");
    // Only for people does it say whose it is, and where its messages go.
    if QueueSpec::check_name(&name).is_ok() { name } else { format!("{RENEWAL_PREFIX}{}", taskq::TaskId::new()) }
}

/// Takes the copies that arrive, until the consumption ends.
async fn read(services: Arc<Services>, consumption: Consumption) {
    let Consumption { mut deliveries, control: _control } = consumption;
    while let Some(delivery) = deliveries.next().await {
        take(&services, delivery);
    }
}

fn take(services: &Services, delivery: Delivery) {
    let Delivery { message, acker, .. } = delivery;
    let adoption = match codec::decode(&message) {
        Ok(envelope) => {
            let key = RunKey::of(&envelope);
            if let Some(holding) = &services.holding {
                holding.copy_is_done(&key);
            }
            services.in_flight.take_over(&key, acker)
        }
        Err(_) => Adoption::Unknown(acker),
    };
    match adoption {
        Adoption::Adopted => {}
        Adoption::AlreadySettled(acker) => acker.ack(),
        // Nobody here runs it: somebody may have to, and finds out at its home.
        Adoption::SecondCopy(acker) | Adoption::Unknown(acker) => {
            services.in_flight.note_sent_home();
            acker.requeue();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(80);

    #[test]
    fn a_copy_is_due_at_half_of_the_time_and_again_if_it_does_not_arrive() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut age = Age::default();
        let mut due = Vec::new();
        for second in 0..=80 {
            if age.is_due(at(second), WITHIN) {
                due.push(second);
            }
        }
        assert_eq!(due, [40, 50, 60, 70, 80]);
        assert!(age.held && age.expects_copy());
        assert_eq!(age.renew(true), 1, "a copy was asked for");
        assert!(age.held && !age.expects_copy(), "it has arrived");
        assert!(!age.is_due(at(81), WITHIN));
        assert!(!age.is_due(at(120), WITHIN));
        assert!(age.is_due(at(121), WITHIN), "half of the time after the copy was first looked at");
        assert_eq!(age.renew(false), 1);
        assert!(!age.held && !age.expects_copy(), "the message came back to its queue, and from there");
    }

    #[test]
    fn names_say_whose_and_what_as_long_as_there_is_room() {
        assert_eq!(queue_name("web-1/12/34", "mail"), "taskq.renew.web-1/12/34.mail");
        let name = queue_name("web-1/12/34", &"q".repeat(190));
        assert!(name.starts_with(RENEWAL_PREFIX) && QueueSpec::check_name(&name).is_ok(), "{name}");
        assert_ne!(name, queue_name("web-1/12/34", &"q".repeat(190)), "no two alike");
    }
}
