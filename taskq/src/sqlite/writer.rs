//! The thread that writes: one transaction for everything that waits.

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

/// How many jobs go into one transaction at most, which bounds how long other processes wait for their turn.
const GROUP_MAX: usize = 1000;

/// A transaction under way, as a job sees it: a connection, and what is to be told once it is committed.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    /// What the job changed that others wait for.
    pub(crate) committed: &'a mut Committed,
}

/// A change of the file, and the way to answer whoever asked for it.
pub(super) trait Work: Send {
    /// Makes the change. It may be called again, if the transaction had to be given up for somebody else's fault.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;

    /// Answers.
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
        // Whoever asked may have stopped waiting; the change is made all the same.
        let _ = reply.send(outcome.map(|()| made.expect("a job is only committed after it ran")));
    }
}

/// What the writing thread owns.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: Arc<Path>,
    pub(super) identity: Identity,
    pub(super) observers: Arc<Observers>,
}

/// How a transaction failed.
enum TransactionFault {
    /// In one of the jobs; the others may be fine.
    Job(Fault),
    /// For everybody.
    All(Fault),
}

impl Writer {
    /// Works until nobody is left who could ask for anything.
    pub(super) fn run(mut self, jobs: &Receiver<Box<dyn Work>>) {
        let mut group = Vec::new();
        while let Ok(job) = jobs.recv() {
            group.push(job);
            group.extend(jobs.try_iter().take(GROUP_MAX - 1));
            self.write(&mut group);
        }
    }

    /// Carries out a group of jobs and answers them. One that fails takes nobody with it.
    fn write(&mut self, group: &mut Vec<Box<dyn Work>>) {
        match self.transact(group) {
            Ok(committed) => {
                committed.ended.iter().for_each(|lease| presence::forget(&self.path, *lease));
                // Observers first: whoever is answered may look at once, and finds that they know.
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
        // Writing to a file that was deleted works, and is lost.
        self.identity.check(&self.path).map_err(TransactionFault::All)?;
        let fault = |error| Fault::of(&self.path, &error);
        let outcome = self.attempt(group).map_err(|(in_job, error)| {
            if in_job { TransactionFault::Job(fault(error)) } else { TransactionFault::All(fault(error)) }
        });
        if outcome.is_err() && !self.connection.is_autocommit() {
            // Some errors end the transaction by themselves; for the others this does. If it fails as well, the next
            // BEGIN says so.
            if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                tracing::error!(path = %self.path.display(), %error, "a transaction could not be given up");
            }
        }
        // Nothing is answered with Ok that went into a file which nobody can find.
        outcome.and_then(|committed| self.identity.check(&self.path).map(|()| committed).map_err(TransactionFault::All))
    }

    /// Gives an error, and whether it was in a job.
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
    /// The connection, for rows that are read while changes are noted.
    pub(crate) fn connection(&self) -> &'a Connection {
        self.connection
    }
}
