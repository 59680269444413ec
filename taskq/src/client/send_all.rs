//! Sending many calls at once.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

use super::publish::{PendingConfirm, TryEnqueue};
use super::sent::{CallFacts, SentCall};
use super::{Client, Handle};
use crate::canvas::{Call, CallParts};
use crate::error::Error;

/// The number of confirms that may be outstanding at once; it bounds memory, and is far more than saturates the broker.
const OUTSTANDING_MAX: usize = 4096;

/// The position of a call, and its outcome.
type Answer = (usize, Result<SentCall, Error>);

/// A sending of many calls, made by [`Client::send_all`].
///
/// Awaiting it sends all calls and returns a [`SendReport`]. As a [`Stream`] it yields `(index, result)` as the
/// confirms arrive, in any order; calls that were not yet published when the stream is dropped stay unsent.
#[must_use = "it sends nothing until it is awaited or polled"]
pub struct SendAll<T> {
    client: Client,
    waiting: VecDeque<CallParts>,
    next_index: usize,
    /// The call that cannot be published at once: its queue is being declared, or its key looked up. Later calls
    /// wait for it, so that calls are published in their order.
    held_up: Option<BoxFuture<'static, Result<IndexedConfirm, Answer>>>,
    outstanding: FuturesUnordered<IndexedConfirm>,
    returns: PhantomData<fn() -> T>,
}

/// The broker's answer to one call.
struct IndexedConfirm {
    index: usize,
    sent: SentCall,
    confirm: BoxFuture<'static, Result<(), Error>>,
}

impl IndexedConfirm {
    fn new(index: usize, facts: CallFacts, PendingConfirm { id, confirm }: PendingConfirm) -> Self {
        Self { index, sent: SentCall { id, facts: Some(facts) }, confirm }
    }
}

impl Future for IndexedConfirm {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.confirm.as_mut().poll(cx).map(|confirmed| (self.index, confirmed.map(|()| self.sent.clone())))
    }
}

/// The outcome of sending many calls.
#[derive(Debug)]
#[non_exhaustive]
pub struct SendReport<T> {
    /// A handle for each call that the broker confirmed, by the call's position.
    pub sent: Vec<(usize, Handle<T>)>,
    /// The calls that were not accepted, by position, with the reason.
    pub failed: Vec<(usize, Error)>,
}

impl<T> SendReport<T> {
    /// Returns the handles if all calls were accepted, else the first error. In that case the handles of the accepted
    /// calls are dropped; read the fields to keep them.
    pub fn all(self) -> Result<Vec<Handle<T>>, Error> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.sent.into_iter().map(|(_, handle)| handle).collect()),
        }
    }
}

impl Client {
    /// Sends many calls, without waiting for one confirm before the next is published.
    ///
    /// Awaiting it returns a report of all calls; as a stream, it yields each result as its confirm arrives.
    pub fn send_all<T>(&self, calls: impl IntoIterator<Item = Call<T>>) -> SendAll<T> {
        SendAll::new(self.clone(), calls.into_iter().map(Call::into_parts).collect())
    }
}

impl<T> SendAll<T> {
    fn new(client: Client, calls: VecDeque<CallParts>) -> Self {
        Self {
            client,
            waiting: calls,
            next_index: 0,
            held_up: None,
            outstanding: FuturesUnordered::new(),
            returns: PhantomData,
        }
    }

    /// Enqueues the next call if there is one and there is room, and returns whether it did. The error is the answer of
    /// a call that cannot be sent at all.
    fn begin_next(&mut self) -> Result<bool, Answer> {
        if self.held_up.is_some() || self.outstanding.len() >= OUTSTANDING_MAX {
            return Ok(false);
        }
        let Some(mut parts) = self.waiting.pop_front() else { return Ok(false) };
        let index = self.next_index;
        self.next_index += 1;
        let id = parts.options.id.take().unwrap_or_default();
        let (client, facts) = (self.client.clone(), CallFacts::of(&parts));
        if let Some(unique) = parts.options.unique.take() {
            // The holder of the key is looked up first; that result is the answer for this call.
            let sent = Box::pin(async move { client.send_unique(parts, id, unique).await });
            self.held_up = Some(Box::pin(async move { Err((index, sent.await)) }));
            return Ok(true);
        }
        match client.try_enqueue(parts, id, false).map_err(|error| (index, Err(error)))? {
            TryEnqueue::Enqueued(pending) => self.outstanding.push(IndexedConfirm::new(index, facts, pending)),
            TryEnqueue::Undeclared(parts, id) => {
                self.held_up = Some(Box::pin(async move {
                    let pending = client.enqueue(*parts, id, false).await;
                    pending
                        .map(|pending| IndexedConfirm::new(index, facts, pending))
                        .map_err(|error| (index, Err(error)))
                }));
            }
        }
        Ok(true)
    }
}

impl<T> Stream for SendAll<T> {
    type Item = (usize, Result<Handle<T>, Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let answer = loop {
            if let Some(held_up) = &mut this.held_up
                && let Poll::Ready(outcome) = held_up.as_mut().poll(cx)
            {
                this.held_up = None;
                match outcome {
                    Ok(confirm) => this.outstanding.push(confirm),
                    Err(answer) => break answer,
                }
            }
            match this.begin_next() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(answer) => break answer,
            }
            match this.outstanding.poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => break answer,
                Poll::Ready(None) if this.held_up.is_none() && this.waiting.is_empty() => {
                    return Poll::Ready(None);
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        };
        let (index, result) = answer;
        Poll::Ready(Some((index, result.map(|sent| this.client.handle_of(sent)))))
    }
}

impl<T: 'static> IntoFuture for SendAll<T> {
    type Output = SendReport<T>;
    type IntoFuture = BoxFuture<'static, SendReport<T>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut report = SendReport { sent: Vec::with_capacity(self.waiting.len()), failed: Vec::new() };
            while let Some((index, result)) = self.next().await {
                match result {
                    Ok(handle) => report.sent.push((index, handle)),
                    Err(error) => report.failed.push((index, error)),
                }
            }
            report.sent.sort_unstable_by_key(|(index, _)| *index);
            report.failed.sort_unstable_by_key(|(index, _)| *index);
            report
        })
    }
}

impl<T> fmt::Debug for SendAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendAll({} waiting, {} outstanding)", self.waiting.len(), self.outstanding.len())
    }
}
