//! The messages that follow from an end: they are published, or the task is given up if they never can be. Then its
//! claim is finished, and its delivery acknowledged.

use std::sync::Arc;

use taskq::backend::{ResultBackendExt, SharedResults, Written};
use taskq::broker::Publication;
use taskq::internal::attempt::Verdict;
use taskq::internal::dead::{bared, lightened};
use taskq::internal::fault::full_message;
use taskq::message::{Record, TaskId};

use super::super::crash;
use super::super::observe::Moment;
use super::end::{End, Follow, GivenUp, Otherwise, Settles};
use super::retrying::{Waiting, unless_unusable, until_done};
use super::settler::Settler;

impl Settler {
    /// Publishes what follows, notes the claim as finished, and acknowledges. `written` is what became of the record.
    pub(super) async fn follow_up(self: Arc<Self>, end: End, written: Option<Written>) {
        let End { mut verdict, mut follows, concession, settles, .. } = end;
        if let (Some(Written::Kept), Some(results)) = (&written, &self.results) {
            match (&verdict, &settles, concession) {
                (Some(verdict), Settles::Run(run), _) => {
                    let stored = self.stored_record(results, &run.key.id).await;
                    if verdict.is_superseded_by(stored.as_ref()) {
                        follows.clear();
                    }
                }
                (_, _, Some(concession)) => {
                    // A record that is gone by now says nothing any more.
                    if let Some(stored) = self.stored_record(results, concession.id()).await {
                        follows = concession.follows(&stored);
                    }
                }
                _ => {}
            }
        }
        for follow in follows {
            if follow.otherwise == Otherwise::Lighten {
                self.publish_letter(follow).await;
                continue;
            }
            let Err(error) = self.publish(&follow).await else { continue };
            match self.give_up(&settles, verdict.as_ref(), &follow, &error).await {
                Some(instead) => verdict = Some(instead),
                None => return self.give_back(settles, &follow, &error).await,
            }
        }
        if let (Settles::Run(run), Some(claims), Some(verdict)) = (&settles, &self.claims, &verdict)
            && let Some(claim) = self.in_flight.claim_of(run)
        {
            // Whether or not the lease was still ours, what follows is out, and the record says whose run won.
            let finish = || claims.finish(&claim, verdict, written.is_some());
            let finished = until_done(&self.observers, "finishing a claim", finish).await;
            // An unusable one runs out by itself, and copies find the record.
            unless_unusable(&self.observers, &run.key.id, finished);
            crash::point("settle.finished");
        }
        self.acknowledge(vec![settles]);
    }

    /// Publishes a message, however long it takes: the message that it follows from is not acknowledged before. An
    /// error means that it can never be published.
    async fn publish(&self, follow: &Follow) -> Result<(), taskq::Error> {
        let send = || {
            let (queue, message, delay) = (Arc::clone(&follow.queue), follow.message.clone(), follow.delay);
            async move {
                // A queue that was deleted meanwhile is declared again.
                let queue = self.client.declare(&queue).await?;
                let publication = Publication::new(queue, message).delayed(delay);
                if follow.is_vouched_for {
                    self.client.publish(publication).await
                } else {
                    self.client.publish_unsigned(publication).await
                }
            }
        };
        until_done(&self.observers, "publishing what follows a task", send).await?;
        crash::point("settle.published");
        Ok(())
    }

    /// Publishes a message to the dead set. What the broker does not take is made lighter; what is refused at the
    /// moment stays where it is, unacknowledged, and health says so.
    async fn publish_letter(&self, mut letter: Follow) {
        let mut waiting = Waiting::new(&self.observers, "publishing to the dead set");
        while let Err(error) = self.publish(&letter).await {
            if lightened(&mut letter.message, &error).is_empty() && bared(&mut letter.message, &error).is_empty() {
                waiting.pause(&error).await;
            }
        }
    }

    /// Ends a task whose next message can never be published, and returns its verdict. `None` if its delivery is to be
    /// given back instead.
    async fn give_up(
        &self,
        settles: &Settles,
        ended: Option<&Verdict>,
        follow: &Follow,
        error: &taskq::Error,
    ) -> Option<Verdict> {
        if follow.otherwise == Otherwise::GiveBack {
            return None;
        }
        let GivenUp { verdict, record, letter } = self.ends.give_up(settles, ended, follow, &full_message(error))?;
        self.never_published(follow, error, "the task has failed, and goes to the dead set");
        self.write_one(record).await;
        self.publish_letter(letter).await;
        Some(verdict)
    }

    /// Gives a delivery back, after the time for which its message would have been delayed.
    async fn give_back(&self, settles: Settles, follow: &Follow, error: &taskq::Error) {
        self.never_published(follow, error, "its delivery goes back to the broker");
        tokio::time::sleep(follow.delay.unwrap_or_default()).await;
        match settles {
            Settles::Run(run) => self.in_flight.give_back(&run),
            Settles::Delivery(acker, _guard) => acker.requeue(),
        }
    }

    fn never_published(&self, follow: &Follow, error: &taskq::Error, then: &'static str) {
        let id = follow.message.headers.text("id").unwrap_or("(none)");
        self.observers.observe(&Moment::NeverPublished { id, error, then });
    }

    /// The record that was there already, and stays. `None` if there is none any more, or if it cannot be read.
    async fn stored_record(&self, results: &SharedResults, id: &TaskId) -> Option<Record> {
        let read = until_done(&self.observers, "reading a record", || results.read_one(id)).await;
        read.unwrap_or_else(|error| {
            self.observers.observe(&Moment::RecordUnreadable { id, error: &error });
            None
        })
    }
}
