//! The writing thread: one transaction for all pending changes.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::committed::Committed;
use super::fault::Fault;
use super::identity::Identity;
use super::observer::Observers;
use super::presence;

/// The maximum number of jobs in one transaction, which bounds the time for which other processes wait for the lock.
const GROUP_MAX: usize = 1000;

/// A transaction in progress, as a job sees it: a connection, and the changes to be announced after the commit.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    /// Changes that observers are notified of after the commit.
    pub(crate) committed: &'a mut Committed,
}

/// A change of the file, together with the channel for its answer.
pub(super) trait Work: Send {
    /// Makes the change. It may be called again if the transaction was rolled back because of another job.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;

    /// Sends the answer.
    fn finish(self: Box<Self>, outcome: Result<(), Fault>);
}

/// A closure as [`Work`].
pub(super) struct Job<F, T> {
    change: F,
    made: Option<T>,
    reply: oneshot::Sender<Result<T, Fault>>,
}

impl<F, T> Job<F, T> {
    pub(super) fn new(change: F, reply: oneshot::Sender<Result<T, Fault>>) -> Self {
        Self { change, made: None, reply }
    }
}

impl<F, T> Work for Job<F, T>
where
    F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.made = Some((self.change)(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), Fault>) {
        let Self { made, reply, .. } = *self;
        // The caller may have stopped waiting; the change is made all the same.
        let _ = reply.send(outcome.map(|()| made.expect("a job is only committed after it ran")));
    }
}

/// The state of the writing thread.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    pub(super) identity: Identity,
    pub(super) observers: Arc<Observers>,
}

/// The reason why a transaction failed.
enum TransactionFault {
    /// A fault in one of the jobs; the others may succeed.
    Job(Fault),
    /// A fault that affects all jobs.
    All(Fault),
}

impl Writer {
    /// Runs until all senders are gone.
    pub(super) fn run(mut self, jobs: &Receiver<Box<dyn Work>>) {
        let mut group = Vec::new();
        while let Ok(job) = jobs.recv() {
            group.push(job);
            group.extend(jobs.try_iter().take(GROUP_MAX - 1));
            self.write(&mut group);
        }
    }

    /// Carries out a group of jobs and answers them. A job that fails does not affect the others.
    fn write(&mut self, group: &mut Vec<Box<dyn Work>>) {
        match self.transact(group) {
            Ok(committed) => {
                committed.ended.iter().for_each(|lease| presence::forget(&self.path, *lease));
                // Observers are notified first, so that a caller who acts on its answer at once finds them up to date.
                self.observers.tell(&committed);
                group.drain(..).for_each(|job| job.finish(Ok(())));
            }
            Err(TransactionFault::Job(_)) if group.len() > 1 => {
                for job in std::mem::take(group) {
                    self.write(&mut vec![job]);
                }
            }
            Err(TransactionFault::Job(fault) | TransactionFault::All(fault)) => {
                group.drain(..).for_each(|job| job.finish(Err(fault.clone())));
            }
        }
    }

    fn transact(&mut self, group: &mut [Box<dyn Work>]) -> Result<Committed, TransactionFault> {
        // Writing to a deleted file succeeds, and the writes are lost.
        self.identity.check(&self.path).map_err(TransactionFault::All)?;
        let fault = |error| Fault::of(&self.path, &error);
        let outcome = self.attempt(group).map_err(|(in_job, error)| {
            if in_job { TransactionFault::Job(fault(error)) } else { TransactionFault::All(fault(error)) }
        });
        if outcome.is_err() && !self.connection.is_autocommit() {
            // Some errors end the transaction by themselves; this ends it after the others. If this fails as well, the
            // next BEGIN reports it.
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::error!(path = %self.path.display(), %error, "a transaction could not be given up");
            }
        }
        // A change that went into a deleted file must not be answered with `Ok`.
        outcome.and_then(|committed| self.identity.check(&self.path).map(|()| committed).map_err(TransactionFault::All))
    }

    /// Runs the jobs in one transaction. An error comes with whether it was in a job.
    fn attempt(&self, group: &mut [Box<dyn Work>]) -> Result<Committed, (bool, rusqlite::Error)> {
        let outside = |error| (false, error);
        let mut committed = Committed::default();
        self.connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(outside)?;
        let mut tx = Tx { connection: &self.connection, committed: &mut committed };
        for job in group {
            job.run(&mut tx).map_err(|error| (true, error))?;
        }
        self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(outside)?;
        Ok(committed)
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> Tx<'a> {
    /// The connection, for rows that are read while changes are being noted.
    pub(crate) fn connection(&self) -> &'a Connection {
        self.connection
    }
}
