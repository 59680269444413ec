//! Awaiting a call: the beginning of a task's path.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures_util::future::BoxFuture;

use super::sent::{CallFacts, SentCall};
use super::{Client, Handle, installed};
use crate::canvas::{Call, CallParts, TaskOutput};
use crate::error::Error;
use crate::message::TaskId;

/// The sending of a call; returns the handle once the broker has confirmed the message.
#[must_use = "futures do nothing until they are awaited"]
pub struct SendFuture<T>(BoxFuture<'static, Result<Handle<T>, Error>>);

/// The sending of a call, and the wait for its result.
#[must_use = "futures do nothing until they are awaited"]
pub struct GetFuture<T>(BoxFuture<'static, Result<T, Error>>);

impl<T> IntoFuture for Call<T> {
    type Output = Result<Handle<T>, Error>;
    type IntoFuture = SendFuture<T>;

    /// Enqueues the call with the worker's client inside a task, else with the installed client, else with one that is
    /// connected now as `taskq.toml` and the environment configure it. `Ok` means that the broker has confirmed the
    /// message; the task will run at least once.
    fn into_future(self) -> SendFuture<T> {
        let parts = self.into_parts();
        SendFuture(Box::pin(async move {
            let client = installed::current().await?;
            send_parts(&client, parts).await
        }))
    }
}

impl<T> Call<T> {
    /// Enqueues the call with this client, and returns the handle once the broker has confirmed the message.
    pub fn send(self, client: &Client) -> SendFuture<T> {
        let (client, parts) = (client.clone(), self.into_parts());
        SendFuture(Box::pin(async move { send_parts(&client, parts).await }))
    }
}

impl<T: TaskOutput> Call<T> {
    /// Enqueues the call and waits for its result; see [`Handle::get`]. A call that stores no result, or whose client
    /// has no place for results, is not sent.
    pub fn get(self) -> GetFuture<T> {
        let parts = self.into_parts();
        GetFuture(Box::pin(async move {
            let client = installed::current().await?;
            client.results()?;
            if !CallFacts::of(&parts).stores_result {
                let mistake = "its result is awaited, and it stores none (`ignore_result`); add `.ignore_result(false)`, \
                               or send it without waiting";
                return Err(Error::Call { task: parts.task.into_owned(), mistake: mistake.to_owned() });
            }
            send_parts(&client, parts).await?.get().await
        }))
    }
}

async fn send_parts<T>(client: &Client, mut parts: CallParts) -> Result<Handle<T>, Error> {
    let id = parts.options.id.take().unwrap_or_default();
    let facts = CallFacts::of(&parts);
    let sent = match parts.options.unique.take() {
        Some(unique) => client.send_unique(parts, id, unique).await?,
        None => SentCall { id: client.send_now(parts, id, false).await?, facts: Some(facts) },
    };
    Ok(client.handle_of(sent))
}

impl Client {
    /// Sends the call and waits for the confirm.
    pub(super) async fn send_now(&self, parts: CallParts, id: TaskId, resent: bool) -> Result<TaskId, Error> {
        let pending = self.enqueue(parts, id, resent).await?;
        pending.confirm.await?;
        Ok(pending.id)
    }
}

impl<T> Future for SendFuture<T> {
    type Output = Result<Handle<T>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> Future for GetFuture<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for SendFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendFuture")
    }
}

impl<T> fmt::Debug for GetFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GetFuture")
    }
}
