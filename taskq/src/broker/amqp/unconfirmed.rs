//! Publications that are sent and unconfirmed, and the rule by which they are answered.
//!
//! The broker returns an unroutable message before it confirms it, but lapin hands out returned messages with the
//! wrong confirms: each confirm that completes, of any message, takes the oldest returned message that was not handed
//! out yet. The following is certain nevertheless, and is the basis of this file:
//!
//! 1. The broker takes the messages of a channel in order, so it returns them in order.
//! 2. A message is returned before its own confirm. So at any time, at most as many returned messages wait inside lapin
//!    as there are messages that were returned and are not confirmed yet.
//! 3. Hence, once everything up to a publication `T` is confirmed, those that still wait are all later than `T`: every
//!    returned message up to `T` was handed out, with one of the confirms that are complete by now.
//!
//! So `T` is answered when everything up to it is confirmed and *every* complete confirm, later ones included, was
//! examined. Returned messages are recognized by a number of their own, never by the confirm they came with. Nothing
//! has to wait for a round to end, and nothing has to be sent alone.
//!
//! By that rule alone, one queue that does not confirm (a quorum queue without its majority) would hold up the answers
//! of all others. If the oldest publication has been overtaken for long, one more fact is used:
//!
//! 4. An unroutable message is confirmed at once, so RabbitMQ never confirms it after anything later. A publication
//!    that was overtaken is therefore routed, and does not count in 2.
//!
//! Then `T` is answered when it is itself confirmed and lapin has finished the frame that confirmed it: every
//! unroutable message before it is confirmed, too, and 3 holds as before.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lapin::Confirmation;
use lapin::message::BasicReturnMessage;

type Confirm = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// The publications that are sent and not yet answered, oldest first. `T` is the data kept with each.
pub(super) struct Unconfirmed<T> {
    /// The publications, oldest first. Their numbers rise, with gaps where one was answered out of order.
    sent: VecDeque<SentMessage<T>>,
    next: u64,
    failed: Option<lapin::Error>,
}

struct SentMessage<T> {
    number: u64,
    slot: T,
    state: ConfirmState,
    returned: bool,
    /// The publication was confirmed when the last examination began.
    due: bool,
}

enum ConfirmState {
    Waiting(Confirm),
    Confirmed { stored: bool },
    Lost,
}

/// The outcome of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    /// The broker has stored the message.
    Stored,
    /// The broker rejected the message.
    Refused,
    /// The broker returned the message, since no queue matches.
    Returned,
}

impl<T> Unconfirmed<T> {
    pub(super) fn new() -> Self {
        Self { sent: VecDeque::new(), next: 0, failed: None }
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The number that the next publication has to carry.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// The number of the oldest publication.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.sent.front().map(|sent| sent.number)
    }

    /// Sends a publication. Its future is polled once, which is when lapin queues the frames, in this order and
    /// without waiting for the socket.
    ///
    /// The publication is entered before it is polled. On a busy machine the answer may arrive before the first poll
    /// is over, and with it the returned message, which has to find its publication here.
    pub(super) fn insert(&mut self, slot: T, confirm: Confirm) {
        let state = ConfirmState::Waiting(confirm);
        self.sent.push_back(SentMessage { number: self.next, slot, state, returned: false, due: false });
        self.next += 1;
        self.look_at(self.sent.len() - 1, &mut Context::from_waker(Waker::noop()));
    }

    /// Ready once the oldest publication is confirmed or lost.
    pub(super) fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sent.is_empty() {
            return Poll::Pending;
        }
        if self.look_at(0, context) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Hands out all publications that can be answered now: everything up to the first that is not confirmed.
    pub(super) fn land(&mut self, mut answer: impl FnMut(T, PublishOutcome)) {
        let mut context = Context::from_waker(Waker::noop());
        let mut complete = 0;
        while complete < self.sent.len() && self.look_at(complete, &mut context) && self.is_confirmed(complete) {
            complete += 1;
        }
        if complete == 0 {
            return;
        }
        // Later confirms may carry returned messages of the publications that are answered now.
        self.look_at_all_from(complete);
        for sent in self.sent.drain(..complete) {
            sent.land(&mut answer);
        }
    }

    /// Hands out all confirmed publications, also those after unconfirmed ones. `lapin_is_through` returns once lapin
    /// has finished the frame that it is working on, if any.
    pub(super) fn land_out_of_order(
        &mut self,
        lapin_is_through: impl FnOnce(),
        mut answer: impl FnMut(T, PublishOutcome),
    ) {
        self.look_at_all_from(0);
        for at in 0..self.sent.len() {
            self.sent[at].due = self.is_confirmed(at);
        }
        lapin_is_through();
        self.look_at_all_from(0);
        for sent in std::mem::take(&mut self.sent) {
            if sent.due {
                sent.land(&mut answer);
            } else {
                self.sent.push_back(sent);
            }
        }
    }

    /// The reason why the channel is gone, once that has been noticed.
    pub(super) fn failure(&self) -> Option<&lapin::Error> {
        self.failed.as_ref()
    }

    /// Returns the data of the publications, oldest first.
    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.sent.iter_mut().map(|sent| &mut sent.slot)
    }

    /// Returns the data of the unanswered publications, oldest first. Whether they were stored is not known.
    pub(super) fn into_slots(self) -> impl DoubleEndedIterator<Item = T> {
        self.sent.into_iter().map(|sent| sent.slot)
    }

    fn is_confirmed(&self, at: usize) -> bool {
        matches!(self.sent[at].state, ConfirmState::Confirmed { .. })
    }

    fn look_at_all_from(&mut self, start: usize) {
        let mut context = Context::from_waker(Waker::noop());
        for at in start..self.sent.len() {
            self.look_at(at, &mut context);
        }
    }

    /// Polls the confirm of one publication, if that can still tell anything, and returns whether it is complete.
    fn look_at(&mut self, at: usize, context: &mut Context<'_>) -> bool {
        let ConfirmState::Waiting(confirm) = &mut self.sent[at].state else { return true };
        let Poll::Ready(outcome) = confirm.as_mut().poll(context) else { return false };
        self.sent[at].state = self.outcome(outcome);
        true
    }

    fn outcome(&mut self, outcome: lapin::Result<Confirmation>) -> ConfirmState {
        let (stored, returned) = match outcome {
            Ok(Confirmation::Ack(returned)) => (true, returned),
            Ok(Confirmation::Nack(returned)) => (false, returned),
            // Confirms were enabled before anything was published; without them nothing is certain.
            Ok(Confirmation::NotRequested) => (false, None),
            Err(error) => {
                self.failed.get_or_insert(error);
                return ConfirmState::Lost;
            }
        };
        if let Some(message) = returned {
            self.mark_returned(&message);
        }
        ConfirmState::Confirmed { stored }
    }

    fn mark_returned(&mut self, message: &BasicReturnMessage) {
        let number = message.properties.message_id().as_ref().and_then(|id| id.as_str().parse::<u64>().ok());
        if let Some(sent) = number.and_then(|number| self.find(number)) {
            sent.returned = true;
        } else {
            tracing::error!(
                queue = %message.routing_key,
                "an unknown message was returned; it may have been answered as delivered"
            );
        }
    }

    fn find(&mut self, number: u64) -> Option<&mut SentMessage<T>> {
        let at = self.sent.binary_search_by_key(&number, |sent| sent.number).ok()?;
        self.sent.get_mut(at)
    }
}

impl<T> SentMessage<T> {
    fn land(self, answer: &mut impl FnMut(T, PublishOutcome)) {
        let outcome = match self.state {
            _ if self.returned => PublishOutcome::Returned,
            ConfirmState::Confirmed { stored: true } => PublishOutcome::Stored,
            ConfirmState::Confirmed { stored: false } => PublishOutcome::Refused,
            ConfirmState::Waiting(_) | ConfirmState::Lost => unreachable!("only what is confirmed was chosen"),
        };
        answer(self.slot, outcome);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const COUNT: u64 = 40;

    /// A fake of the broker and of lapin's pairing. Only lapin can make the message that it returns, so the states of
    /// the sent messages are set from here.
    struct FakeBroker {
        unconfirmed: Unconfirmed<u64>,
        unroutable: BTreeSet<u64>,
        /// Returned messages that were not handed out, oldest first; and the broker's position.
        line: VecDeque<u64>,
        reached: u64,
        /// The returned message in each complete confirm, until it is examined.
        complete: Vec<Option<Option<u64>>>,
    }

    impl FakeBroker {
        fn new(unroutable: BTreeSet<u64>) -> Self {
            let mut unconfirmed = Unconfirmed::new();
            for number in 0..COUNT {
                unconfirmed.insert(number, Box::pin(std::future::pending()));
            }
            Self { unconfirmed, unroutable, line: VecDeque::new(), reached: 0, complete: vec![None; COUNT as usize] }
        }

        /// Confirms a message. The broker works in order: by then it has returned all unroutable messages up to it,
        /// and maybe more.
        fn confirm(&mut self, number: u64, further: u64) {
            let reached = (number + 1).max(further).max(self.reached);
            let came_back = (self.reached..reached).filter(|number| self.unroutable.contains(number));
            self.line.extend(came_back);
            self.reached = reached;
            self.complete[number as usize] = Some(self.line.pop_front());
        }

        /// Does what polling the confirms would.
        fn look(&mut self) {
            for number in 0..COUNT {
                if let Some(carried) = self.complete[number as usize].take() {
                    self.unconfirmed.find(number).expect("it was not answered").state =
                        ConfirmState::Confirmed { stored: true };
                    if let Some(returned) = carried {
                        self.unconfirmed.find(returned).expect("somebody still waits for it").returned = true;
                    }
                }
            }
        }
    }

    proptest! {
        /// Returned messages wait in one line, and confirms complete in any order and take the first of the line each.
        /// An unroutable publication must not be answered as stored, nor any other as returned.
        #[test]
        fn returns_find_their_publications(
            unroutable in proptest::collection::btree_set(0..COUNT, 0..40),
            order in Just((0..COUNT).collect::<Vec<_>>()).prop_shuffle(),
            further in proptest::collection::vec(0..COUNT, 40),
            looks in proptest::collection::btree_set(0..40_usize, 0..40),
        ) {
            let mut broker = FakeBroker::new(unroutable.clone());
            let mut answers = Vec::new();
            for (step, &number) in order.iter().enumerate() {
                broker.confirm(number, further[step]);
                if looks.contains(&step) || step + 1 == order.len() {
                    broker.look();
                    broker.unconfirmed.land(|number, outcome| answers.push((number, outcome)));
                }
            }
            prop_assert!(answers.iter().map(|(number, _)| *number).eq(0..COUNT), "all, and in order");
            for (number, outcome) in answers {
                prop_assert_eq!(outcome == PublishOutcome::Returned, unroutable.contains(&number), "publication {}", number);
            }
        }

        /// Answers find their publications also after some that are never confirmed. An unroutable message is
        /// confirmed when the broker comes to it, so never after anything later.
        #[test]
        fn a_stuck_queue_holds_up_nobody_else(
            unroutable in proptest::collection::btree_set(0..COUNT, 0..40),
            stuck in proptest::collection::btree_set(0..COUNT, 0..10),
            waiting in proptest::collection::vec(0..8_u64, 40),
            looks in proptest::collection::btree_set(0..40_usize, 0..40),
        ) {
            // In order of arrival, with routed ones some steps late.
            let mut order: Vec<(u64, u64)> = (0..COUNT)
                .filter(|number| unroutable.contains(number) || !stuck.contains(number))
                .map(|number| (number + if unroutable.contains(&number) { 0 } else { waiting[number as usize] }, number))
                .collect();
            order.sort_unstable();
            let mut broker = FakeBroker::new(unroutable.clone());
            let mut answers = Vec::new();
            for (step, &(reached, number)) in order.iter().enumerate() {
                broker.confirm(number, (reached + 1).min(COUNT));
                if looks.contains(&step) || step + 1 == order.len() {
                    broker.look();
                    broker.unconfirmed.land_out_of_order(|| {}, |number, outcome| answers.push((number, outcome)));
                }
            }
            prop_assert_eq!(answers.len(), order.len());
            for (number, outcome) in answers {
                prop_assert_eq!(outcome == PublishOutcome::Returned, unroutable.contains(&number), "publication {}", number);
            }
        }
    }

    #[test]
    fn answers_come_in_order_and_stop_at_the_first_open_one() {
        let mut unconfirmed = Unconfirmed::new();
        let (first, open) = tokio::sync::oneshot::channel::<Confirmation>();
        unconfirmed.insert(0, Box::pin(async { Ok(Confirmation::Ack(None)) }));
        unconfirmed.insert(1, Box::pin(async move { Ok(open.await.expect("the test answers")) }));
        unconfirmed.insert(2, Box::pin(async { Ok(Confirmation::Nack(None)) }));
        let mut answers = Vec::new();
        unconfirmed.land(|number, outcome| answers.push((number, outcome)));
        assert_eq!(answers, [(0, PublishOutcome::Stored)]);
        unconfirmed.land_out_of_order(|| {}, |number, outcome| answers.push((number, outcome)));
        assert_eq!(answers[1..], [(2, PublishOutcome::Refused)]);
        first.send(Confirmation::Ack(None)).expect("it is waited for");
        unconfirmed.land(|number, outcome| answers.push((number, outcome)));
        assert_eq!(answers[2..], [(1, PublishOutcome::Stored)]);
        assert!(unconfirmed.is_empty() && unconfirmed.next_number() == 3);
    }

    #[test]
    fn nothing_is_answered_beyond_a_loss() {
        let mut unconfirmed = Unconfirmed::new();
        let lost = || lapin::Error::from(lapin::ErrorKind::MissingHeartbeatError);
        unconfirmed.insert("a", Box::pin(async { Ok(Confirmation::Ack(None)) }));
        unconfirmed.insert("b", Box::pin(async move { Err(lost()) }));
        unconfirmed.insert("c", Box::pin(async { Ok(Confirmation::Ack(None)) }));
        let mut answers = Vec::new();
        unconfirmed.land(|name, _| answers.push(name));
        assert_eq!(answers, ["a"]);
        assert!(unconfirmed.failure().is_some());
        assert_eq!(unconfirmed.into_slots().collect::<Vec<_>>(), ["b", "c"]);
    }
}
