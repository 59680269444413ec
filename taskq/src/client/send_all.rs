//! Many calls at once.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

use super::publish::{Dispatch, Underway};
use super::{Client, Handle};
use crate::canvas::CallParts;
use crate::error::Error;
use crate::message::TaskId;

/// How many confirms may be outstanding at once; bounds memory, and is far beyond what fills the pipe.
const OUTSTANDING_MAX: usize = 4096;

type Answer = (usize, Result<TaskId, Error>);

/// Many calls on their way.
///
/// Awaited, it sends all and gives a [`SendReport`]. As a [`Stream`] it gives `(index, result)` as the answers come, in
/// no order; dropping the stream leaves the calls that were not yet on their way unsent.
#[must_use = "it sends nothing until it is awaited or polled"]
pub struct SendAll<T> {
    client: Client,
    waiting: VecDeque<CallParts>,
    next_index: usize,
    /// A call that cannot go at once: its queue is being declared, or its key looked up. Later ones wait for it, so that
    /// calls go out in their order.
    held_up: Option<BoxFuture<'static, Result<Confirm, Answer>>>,
    outstanding: FuturesUnordered<Confirm>,
    returns: PhantomData<fn() -> T>,
}

/// The broker's answer to one call.
struct Confirm {
    index: usize,
    id: TaskId,
    confirm: BoxFuture<'static, Result<(), Error>>,
}

impl Confirm {
    fn new(index: usize, Underway { id, confirm }: Underway) -> Self {
        Self { index, id, confirm }
    }
}

impl Future for Confirm {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        self.confirm.as_mut().poll(cx).map(|confirmed| (self.index, confirmed.map(|()| self.id.clone())))
    }
}

/// What became of many calls.
#[derive(Debug)]
pub struct SendReport<T> {
    /// A handle for each call that the broker confirmed, by the call's position.
    pub sent: Vec<(usize, Handle<T>)>,
    /// The calls that were not accepted, by position, with the reason.
    pub failed: Vec<(usize, Error)>,
}

impl<T> SendReport<T> {
    /// The handles, if all calls were accepted; else the first error. The handles of those that were accepted are
    /// lost with it: look at the fields to keep them.
    pub fn all(self) -> Result<Vec<Handle<T>>, Error> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.sent.into_iter().map(|(_, handle)| handle).collect()),
        }
    }
}

impl<T> SendAll<T> {
    pub(super) fn new(client: Client, calls: VecDeque<CallParts>) -> Self {
        Self {
            client,
            waiting: calls,
            next_index: 0,
            held_up: None,
            outstanding: FuturesUnordered::new(),
            returns: PhantomData,
        }
    }

    /// Puts the next call on its way, if there is one and there is room; false if not. Gives the answer of a call that
    /// cannot be sent at all.
    fn begin_next(&mut self) -> Result<bool, Answer> {
        if self.held_up.is_some() || self.outstanding.len() >= OUTSTANDING_MAX {
            return Ok(false);
        }
        let Some(mut parts) = self.waiting.pop_front() else { return Ok(false) };
        let index = self.next_index;
        self.next_index += 1;
        let id = parts.options.id.take().unwrap_or_default();
        let client = self.client.clone();
        if let Some(unique) = parts.options.unique.take() {
            // Who holds the key is found out first; the answer to that is the answer.
            let sent = Box::pin(async move { client.send_unique(parts, id, unique).await });
            self.held_up = Some(Box::pin(async move { Err((index, sent.await)) }));
            return Ok(true);
        }
        match client.dispatch_now(parts, id, false).map_err(|error| (index, Err(error)))? {
            Dispatch::Underway(underway) => self.outstanding.push(Confirm::new(index, underway)),
            Dispatch::Undeclared(parts, id) => {
                self.held_up = Some(Box::pin(async move {
                    let underway = client.dispatch(*parts, id, false).await;
                    underway.map(|underway| Confirm::new(index, underway)).map_err(|error| (index, Err(error)))
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
        Poll::Ready(Some((index, result.map(|id| this.client.handle(id)))))
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
