//! Signing what is published, verifying what was received, and sealing arguments, where there are keys.

use futures_util::future::BoxFuture;

use super::Client;
use crate::broker::{DEAD_QUEUE, DEATH_QUEUE, DEATH_REASON, Publication};
use crate::error::Error;
use crate::message::{Payload, TaskId, WireMessage};
use crate::protection::SignatureFault;
use crate::protection::keys::SealingKeys;
use crate::protection::sealed::{self, SealFault};
use crate::protection::signature::{self, Age};

impl Client {
    /// Publishes a message to a queue that has been declared, signed if there is a key.
    ///
    /// The message is handed to the broker before this returns; the future is the broker's answer. For workers: retries
    /// and everything else that follows a task are published here.
    pub fn publish(&self, publication: Publication) -> BoxFuture<'static, Result<(), Error>> {
        let queue = publication.queue.clone();
        self.publish_for(publication, &queue)
    }

    /// Publishes a message like [`publish`](Self::publish) that is signed for another queue, to which the broker will
    /// move it.
    #[doc(hidden)]
    pub fn publish_for(&self, mut publication: Publication, queue: &str) -> BoxFuture<'static, Result<(), Error>> {
        if let Some(key) = self.settings().signing_key() {
            signature::sign(&mut publication.message, queue, key, self.clock().now());
        }
        self.publish_unsigned(publication)
    }

    /// Publishes a message like [`publish`](Self::publish), as it is: one that nobody has vouched for.
    #[doc(hidden)]
    pub fn publish_unsigned(&self, publication: Publication) -> BoxFuture<'static, Result<(), Error>> {
        let confirm = self.broker().publish(publication);
        let client = self.clone();
        Box::pin(async move { confirm.await.map_err(|error| client.router().publish_error(error)) })
    }

    /// Verifies that a message was signed for `queue`, and within the window. Succeeds where signatures are not
    /// verified.
    #[doc(hidden)]
    pub fn verify(&self, message: &WireMessage, queue: &str) -> Result<(), SignatureFault> {
        self.verified(message, queue, Age::Recent)
    }

    /// Verifies that a message which the broker has moved from `queue` was signed for that, however long ago.
    #[doc(hidden)]
    pub fn verify_moved(&self, message: &WireMessage, queue: &str) -> Result<(), SignatureFault> {
        let mut signed = message.clone();
        // The broker's notes came later.
        signed.headers.retain(|name| ![DEATH_REASON, DEATH_QUEUE].contains(&name));
        self.verified(&signed, queue, Age::Any)
    }

    /// Verifies a message of the dead set: that a worker has put it there, or that the broker has moved it there and it
    /// was signed for the queue that it came from.
    pub(super) fn verify_dead(&self, message: &WireMessage) -> Result<(), SignatureFault> {
        match message.headers.text(DEATH_QUEUE) {
            Some(queue) => self.verify_moved(message, queue),
            None => self.verified(message, DEAD_QUEUE, Age::Any),
        }
    }

    fn verified(&self, message: &WireMessage, queue: &str, age: Age) -> Result<(), SignatureFault> {
        match self.verification() {
            Some(verification) => verification.verify(message, queue, self.clock().now(), age),
            None => Ok(()),
        }
    }

    /// Seals the arguments of a call.
    pub(super) fn seal(&self, payload: &Payload, id: &TaskId, task: &str) -> Result<Payload, SealFault> {
        sealed::seal(payload, id, task, self.settings().sealing_keys())
    }

    /// Returns the keys of sealed arguments, with which a worker opens them.
    #[doc(hidden)]
    pub fn sealing_keys(&self) -> &SealingKeys {
        self.settings().sealing_keys()
    }
}
