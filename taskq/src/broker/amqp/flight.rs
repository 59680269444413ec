//! Publications that are on the wire, and the rule by which they are answered.
//!
//! The broker sends an unroutable message back before it confirms it, but lapin hands the messages that came back
//! out with the wrong confirms: each confirm that completes, of whatever message, takes the oldest message that came
//! back and was not handed out yet. What is certain all the same, and what this file rests on:
//!
//! 1. The broker takes the messages of a channel in order, so they come back in order.
//! 2. A message comes back before its own confirm. So at any time, no more of them wait inside lapin than there are
//!    messages that came back and are not confirmed yet.
//! 3. Hence, once everything up to a publication `T` is confirmed, those that still wait are all later than `T`:
//!    whatever came back of `T` and before was handed out, with one of the confirms that are complete by now.
//!
//! So `T` is answered when everything up to it is confirmed and *every* complete confirm, later ones included, was
//! looked at. Messages that came back are known by a number that is theirs alone, never by the confirm they came
//! with. Nothing has to wait for a round to end, and nothing has to be sent alone.
//!
//! That lets one queue that does not confirm (a quorum queue without its majority) hold up the answers of all others.
//! Where the oldest publication is overtaken for long, one more thing is used:
//!
//! 4. What cannot be routed is confirmed at once, so RabbitMQ never confirms it after anything later. A publication
//!    that was overtaken is therefore routed, and does not count in 2.
//!
//! So then `T` is answered when it is itself confirmed and lapin is through with the frame that did so: everything
//! unroutable before it is confirmed, too, and 3 holds as before.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lapin::Confirmation;
use lapin::message::BasicReturnMessage;

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// What is on the wire, oldest first. `T` is what belongs to a publication.
pub(super) struct Flights<T> {
    /// Oldest first. Their numbers rise, with gaps where something was answered out of order.
    aloft: VecDeque<Flight<T>>,
    next: u64,
    failed: Option<lapin::Error>,
}

struct Flight<T> {
    number: u64,
    cargo: T,
    state: State,
    returned: bool,
    /// It was confirmed when the last look began.
    due: bool,
}

enum State {
    Waiting(Confirm),
    Confirmed { stored: bool },
    Lost,
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Landing {
    /// The broker has it.
    Stored,
    /// The broker would not have it.
    Refused,
    /// No queue wanted it.
    Returned,
}

impl<T> Flights<T> {
    pub(super) fn new() -> Self {
        Self { aloft: VecDeque::new(), next: 0, failed: None }
    }

    pub(super) fn len(&self) -> usize {
        self.aloft.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.aloft.is_empty()
    }

    /// The number that the next publication has to carry.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// The number of the oldest.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.aloft.front().map(|flight| flight.number)
    }

    /// Puts a publication on the wire. Its future is polled once, which is when lapin queues the frames: in this
    /// order, and without waiting for the socket.
    ///
    /// It is entered before it is polled. On a busy machine the answer may be there before the first poll is over, and
    /// with it the publication's own message that came back, which has to find it here.
    pub(super) fn launch(&mut self, cargo: T, confirm: Confirm) {
        let state = State::Waiting(confirm);
        self.aloft.push_back(Flight { number: self.next, cargo, state, returned: false, due: false });
        self.next += 1;
        self.look_at(self.aloft.len() - 1, &mut Context::from_waker(Waker::noop()));
    }

    /// Ready once the oldest is confirmed, or lost.
    pub(super) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.aloft.is_empty() {
            return Poll::Pending;
        }
        if self.look_at(0, context) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Hands out what can be answered by now: everything up to the first that is not confirmed.
    pub(super) fn land(&mut self, mut answer: impl FnMut(T, Landing)) {
        let mut context = Context::from_waker(Waker::noop());
        let mut complete = 0;
        while complete < self.aloft.len() && self.look_at(complete, &mut context) && self.is_confirmed(complete) {
            complete += 1;
        }
        if complete == 0 {
            return;
        }
        // The later ones: what they carry may belong to those that are answered now.
        self.look_at_all_from(complete);
        for flight in self.aloft.drain(..complete) {
            flight.land(&mut answer);
        }
    }

    /// Hands out everything that is confirmed, also past some that are not. `lapin_is_through` returns once lapin is
    /// through with the frame that it is working on, if any.
    pub(super) fn land_out_of_order(&mut self, lapin_is_through: impl FnOnce(), mut answer: impl FnMut(T, Landing)) {
        self.look_at_all_from(0);
        for at in 0..self.aloft.len() {
            self.aloft[at].due = self.is_confirmed(at);
        }
        lapin_is_through();
        self.look_at_all_from(0);
        for flight in std::mem::take(&mut self.aloft) {
            if flight.due {
                flight.land(&mut answer);
            } else {
                self.aloft.push_back(flight);
            }
        }
    }

    /// Why the channel is gone, once that showed.
    pub(super) fn failure(&self) -> Option<&lapin::Error> {
        self.failed.as_ref()
    }

    /// What belongs to the publications on the wire, oldest first.
    pub(super) fn cargo_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.aloft.iter_mut().map(|flight| &mut flight.cargo)
    }

    /// Ends it: what is still unanswered, oldest first. Some of it may have been stored; nobody can know.
    pub(super) fn into_cargo(self) -> impl DoubleEndedIterator<Item = T> {
        self.aloft.into_iter().map(|flight| flight.cargo)
    }

    fn is_confirmed(&self, at: usize) -> bool {
        matches!(self.aloft[at].state, State::Confirmed { .. })
    }

    fn look_at_all_from(&mut self, start: usize) {
        let mut context = Context::from_waker(Waker::noop());
        for at in start..self.aloft.len() {
            self.look_at(at, &mut context);
        }
    }

    /// Polls one, if there is still something to learn from it; whether it is complete.
    fn look_at(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        let State::Waiting(confirm) = &mut self.aloft[at].state else { return true };
        let Poll::Ready(outcome) = confirm.as_mut().poll(context) else { return false };
        self.aloft[at].state = self.outcome(outcome);
        true
    }

    fn outcome(&mut self, outcome: lapin::Result<Confirmation>) -> State {
        let (stored, returned) = match outcome {
            Ok(Confirmation::Ack(returned)) => (true, returned),
            Ok(Confirmation::Nack(returned)) => (false, returned),
            // Confirms were switched on before anything was published; without them nothing is certain.
            Ok(Confirmation::NotRequested) => (false, None),
            Err(error) => {
                self.failed.get_or_insert(error);
                return State::Lost;
            }
        };
        if let Some(message) = returned {
            self.mark_returned(&message);
        }
        State::Confirmed { stored }
    }

    fn mark_returned(&mut self, message: &BasicReturnMessage) {
        let number = message.properties.message_id().as_ref().and_then(|id| id.as_str().parse::<u64>().ok());
        if let Some(flight) = number.and_then(|number| self.find(number)) {
            flight.returned = true;
        } else {
            tracing::error!(
                queue = %message.routing_key,
                "a message came back that nobody waits for; it was taken for delivered"
            );
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut Flight<T>> {
        let at = self.aloft.binary_search_by_key(&number, |flight| flight.number).ok()?;
        self.aloft.get_mut(at)
    }
}

impl<T> Flight<T> {
    fn land(self, answer: &mut impl FnMut(T, Landing)) {
        let landing = match self.state {
            _ if self.returned => Landing::Returned,
            State::Confirmed { stored: true } => Landing::Stored,
            State::Confirmed { stored: false } => Landing::Refused,
            State::Waiting(_) | State::Lost => unreachable!("only what is confirmed was chosen"),
        };
        answer(self.cargo, landing);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const COUNT: u64 = 40;

    /// Plays the broker, and lapin's pairing. A message that lapin gives back can only be made by lapin, so the
    /// states of the flights are set from here.
    struct Wire {
        flights: Flights<u64>,
        unroutable: BTreeSet<u64>,
        /// What came back and was not handed out, oldest first; and how far the broker is.
        line: VecDeque<u64>,
        reached: u64,
        /// What each complete confirm carries, until somebody looks at it.
        complete: Vec<Option<Option<u64>>>,
    }

    impl Wire {
        fn new(unroutable: BTreeSet<u64>) -> Self {
            let mut flights = Flights::new();
            for number in 0..COUNT {
                flights.launch(number, Box::pin(std::future::pending()));
            }
            Self { flights, unroutable, line: VecDeque::new(), reached: 0, complete: vec![None; COUNT as usize] }
        }

        /// The broker works in order: to confirm something, it has returned everything up to it, and maybe more.
        fn confirm(&mut self, number: u64, further: u64) {
            let reached = (number + 1).max(further).max(self.reached);
            let came_back = (self.reached..reached).filter(|number| self.unroutable.contains(number));
            self.line.extend(came_back);
            self.reached = reached;
            self.complete[number as usize] = Some(self.line.pop_front());
        }

        /// What polling the confirms would do.
        fn look(&mut self) {
            for number in 0..COUNT {
                if let Some(carried) = self.complete[number as usize].take() {
                    self.flights.find(number).expect("it was not answered").state = State::Confirmed { stored: true };
                    if let Some(returned) = carried {
                        self.flights.find(returned).expect("somebody still waits for it").returned = true;
                    }
                }
            }
        }
    }

    proptest! {
        /// Returns wait in one line, confirms complete in any order and take the first of the line each. No
        /// unroutable publication may be answered as stored, no other as returned.
        #[test]
        fn returns_find_their_publications(
            unroutable in proptest::collection::btree_set(0..COUNT, 0..40),
            order in Just((0..COUNT).collect::<Vec<_>>()).prop_shuffle(),
            further in proptest::collection::vec(0..COUNT, 40),
            looks in proptest::collection::btree_set(0..40_usize, 0..40),
        ) {
            let mut wire = Wire::new(unroutable.clone());
            let mut answers = Vec::new();
            for (step, &number) in order.iter().enumerate() {
                wire.confirm(number, further[step]);
                if looks.contains(&step) || step + 1 == order.len() {
                    wire.look();
                    wire.flights.land(|number, landing| answers.push((number, landing)));
                }
            }
            prop_assert!(answers.iter().map(|(number, _)| *number).eq(0..COUNT), "all, and in order");
            for (number, landing) in answers {
                prop_assert_eq!(landing == Landing::Returned, unroutable.contains(&number), "publication {}", number);
            }
        }

        /// The same past publications that are never confirmed. What cannot be routed is confirmed as the broker
        /// comes to it, so never after anything later.
        #[test]
        fn a_stuck_queue_holds_up_nobody_else(
            unroutable in proptest::collection::btree_set(0..COUNT, 0..40),
            stuck in proptest::collection::btree_set(0..COUNT, 0..10),
            waiting in proptest::collection::vec(0..8_u64, 40),
            looks in proptest::collection::btree_set(0..40_usize, 0..40),
        ) {
            // In order of arrival, routed ones some steps late.
            let mut order: Vec<(u64, u64)> = (0..COUNT)
                .filter(|number| unroutable.contains(number) || !stuck.contains(number))
                .map(|number| (number + if unroutable.contains(&number) { 0 } else { waiting[number as usize] }, number))
                .collect();
            order.sort_unstable();
            let mut wire = Wire::new(unroutable.clone());
            let mut answers = Vec::new();
            for (step, &(reached, number)) in order.iter().enumerate() {
                wire.confirm(number, (reached + 1).min(COUNT));
                if looks.contains(&step) || step + 1 == order.len() {
                    wire.look();
                    wire.flights.land_out_of_order(|| {}, |number, landing| answers.push((number, landing)));
                }
            }
            prop_assert_eq!(answers.len(), order.len());
            for (number, landing) in answers {
                prop_assert_eq!(landing == Landing::Returned, unroutable.contains(&number), "publication {}", number);
            }
        }
    }

    #[test]
    fn answers_come_in_order_and_stop_at_the_first_open_one() {
        let mut flights = Flights::new();
        let (first, open) = tokio::sync::oneshot::channel::<Confirmation>();
        flights.launch(0, Box::pin(async { Ok(Confirmation::Ack(None)) }));
        flights.launch(1, Box::pin(async move { Ok(open.await.expect("the test answers")) }));
        flights.launch(2, Box::pin(async { Ok(Confirmation::Nack(None)) }));
        let mut answers = Vec::new();
        flights.land(|number, landing| answers.push((number, landing)));
        assert_eq!(answers, [(0, Landing::Stored)]);
        flights.land_out_of_order(|| {}, |number, landing| answers.push((number, landing)));
        assert_eq!(answers[1..], [(2, Landing::Refused)]);
        first.send(Confirmation::Ack(None)).expect("it is waited for");
        flights.land(|number, landing| answers.push((number, landing)));
        assert_eq!(answers[2..], [(1, Landing::Stored)]);
        assert!(flights.is_empty() && flights.next_number() == 3);
    }

    #[test]
    fn nothing_is_answered_beyond_a_loss() {
        let mut flights = Flights::new();
        let lost = || lapin::Error::from(lapin::ErrorKind::MissingHeartbeatError);
        flights.launch("a", Box::pin(async { Ok(Confirmation::Ack(None)) }));
        flights.launch("b", Box::pin(async move { Err(lost()) }));
        flights.launch("c", Box::pin(async { Ok(Confirmation::Ack(None)) }));
        let mut answers = Vec::new();
        flights.land(|name, _| answers.push(name));
        assert_eq!(answers, ["a"]);
        assert!(flights.failure().is_some());
        assert_eq!(flights.into_cargo().collect::<Vec<_>>(), ["b", "c"]);
    }
}
