//! Runs whose delivery is renewed by copies of their message: which of the deliveries that a run has had is settled,
//! and how.

use std::sync::Arc;

use taskq::broker::{Acker, Settlement, Settler};
use taskq::definition::Registry;
use taskq::internal::attempt;
use taskq::message::{Envelope, Payload};
use taskq::task;
use tokio::time::Instant as Moment;

use super::*;
use crate::engine::custody::{Adoption, InFlight};
use crate::engine::run::{NewRun, Run};
use crate::engine::shared::Shared;

#[task]
async fn long() {}

/// A channel that notes what is settled on it.
#[derive(Default)]
struct Channel {
    settled: Mutex<Vec<(u64, Settlement)>>,
    gone: AtomicBool,
}

impl Settler for Channel {
    fn settle(&self, tag: u64, settlement: Settlement) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push((tag, settlement));
    }

    fn is_current(&self, _tag: u64) -> bool {
        !self.gone.load(Ordering::Acquire)
    }
}

impl Channel {
    fn acker(self: &Arc<Self>, tag: u64) -> Acker {
        Acker::new(Arc::clone(self) as Arc<dyn Settler>, tag)
    }

    fn settled(&self) -> Vec<(u64, Settlement)> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const WITHIN: Duration = Duration::from_secs(60);

/// A run, the channel that its message came over, and that of the copies.
struct Fixture {
    in_flight: InFlight,
    run: Arc<Run>,
    work: Arc<Channel>,
    copies: Arc<Channel>,
    now: Moment,
}

impl Fixture {
    fn new() -> Self {
        let (work, copies) = (Arc::<Channel>::default(), Arc::<Channel>::default());
        let registry = Registry::collect().expect("no two tasks of one name");
        let definition = registry.get(long::NAME).expect("it is linked");
        let envelope = Envelope::new(TaskId::new(), long::NAME, Payload::default());
        let limits = attempt::limits(&envelope, &definition.options);
        let acker = work.acker(1);
        let run = Run::new(NewRun { nonce: 0, envelope, definition, queue: "q".into(), limits, stores_result: false });
        let (run, in_flight) = (Arc::new(run), InFlight::default());
        in_flight.enter(Arc::clone(&run), acker);
        Self { in_flight, run, work, copies, now: Moment::now() }
    }

    /// Lets this time pass, and says whether a copy is due.
    fn is_due_after(&mut self, seconds: u64) -> bool {
        self.now += Duration::from_secs(seconds);
        !self.in_flight.due_for_renewal(self.now, |_| WITHIN).is_empty()
    }

    fn acknowledge(&self) {
        self.in_flight.acknowledge_all([&*self.run]);
    }

    fn take_over(&self, tag: u64) -> Adoption {
        self.in_flight.take_over(&self.run.key, self.copies.acker(tag))
    }
}

#[test]
fn the_copy_takes_the_place_of_the_delivery() {
    let mut fixture = Fixture::new();
    assert!(!fixture.is_due_after(0) && !fixture.is_due_after(29) && fixture.is_due_after(1));
    assert_eq!(
        (fixture.in_flight.renewed(), fixture.work.settled()),
        (1, vec![]),
        "until it is there nothing is settled"
    );
    assert!(matches!(fixture.take_over(1), Adoption::Adopted));
    assert_eq!(fixture.work.settled(), [(1, Settlement::Ack)]);
    assert!(!fixture.is_due_after(0) && fixture.is_due_after(30));
    // Two copies may come where the answer to the first publication got lost: the last one counts.
    assert!(matches!(fixture.take_over(2), Adoption::Adopted));
    assert!(matches!(fixture.take_over(3), Adoption::Adopted));
    assert_eq!(fixture.copies.settled(), [(1, Settlement::Ack), (2, Settlement::Ack)]);
    fixture.acknowledge();
    assert_eq!(fixture.copies.settled()[2..], [(3, Settlement::Ack)]);
    assert_eq!(fixture.work.settled().len(), 1);
    assert_eq!(fixture.in_flight.renewed(), 0);
    let late = fixture.take_over(4);
    assert!(
        matches!(late, Adoption::Unknown(_)),
        "nothing was on its way any more, so somebody else has to look: {late:?}"
    );
}

#[test]
fn a_copy_that_comes_after_the_end_is_acknowledged() {
    let mut fixture = Fixture::new();
    assert!(!fixture.is_due_after(0) && fixture.is_due_after(30));
    fixture.acknowledge();
    assert_eq!((fixture.work.settled(), fixture.in_flight.renewed()), (vec![(1, Settlement::Ack)], 0));
    assert!(matches!(fixture.take_over(1), Adoption::AlreadySettled(_)));
}

#[test]
fn a_copy_that_is_given_back_goes_to_its_origin() {
    let mut fixture = Fixture::new();
    assert!(!fixture.is_due_after(0) && fixture.is_due_after(30));
    assert!(matches!(fixture.take_over(1), Adoption::Adopted));
    assert!(!fixture.in_flight.has_returned_to_origin());
    fixture.in_flight.give_back(&fixture.run);
    assert_eq!(fixture.copies.settled(), [(1, Settlement::Requeue)]);
    assert!(fixture.in_flight.has_returned_to_origin(), "the renewal queue is not to be deleted at once");
}

#[test]
fn a_lost_copy_that_comes_back_to_this_worker_is_adopted() {
    let mut fixture = Fixture::new();
    assert!(!fixture.is_due_after(0) && fixture.is_due_after(30));
    assert!(matches!(fixture.take_over(1), Adoption::Adopted));
    fixture.copies.gone.store(true, Ordering::Release);
    assert!(!fixture.is_due_after(60), "a run that has lost its delivery has none to renew");
    assert!(matches!(fixture.in_flight.adopt(&fixture.run.key, fixture.work.acker(2)), Adoption::Adopted));
    assert_eq!((fixture.in_flight.renewed(), fixture.copies.settled()), (0, vec![]));
    assert!(!fixture.is_due_after(0) && fixture.is_due_after(30), "and is renewed again");
    fixture.acknowledge();
    assert_eq!(fixture.work.settled(), [(1, Settlement::Ack), (2, Settlement::Ack)]);
}

/// Enters a running run of `task` whose delivery was lost with its connection.
pub(super) fn enter_run_without_delivery(shared: &Shared, task: &str) {
    let channel = Arc::<Channel>::default();
    channel.gone.store(true, Ordering::Release);
    let registry = Registry::collect().expect("no two tasks of one name");
    let definition = registry.get(task).expect("it is linked");
    let envelope = Envelope::new(TaskId::new(), task.to_owned(), Payload::default());
    let limits = attempt::limits(&envelope, &definition.options);
    let run = Run::new(NewRun { nonce: 0, envelope, definition, queue: "q".into(), limits, stores_result: false });
    run.begin(chrono::Utc::now());
    shared.in_flight.enter(Arc::new(run), channel.acker(1));
}
