//! A pool of threads for plain functions.
//!
//! tokio has such a pool as well, but a runtime also uses it to read files and to look up names. If plain functions
//! filled it, asynchronous code would wait for them, and those that wait for asynchronous code would wait for ever.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taskq::internal::attempt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How long a thread waits for another function before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Threads on which plain functions are called, so many at a time; others wait. One thread is always there, further
/// ones come and go. When this is dropped, functions that run go on, and those that wait are not called.
#[derive(Debug)]
pub(crate) struct PlainThreads(Arc<ThreadPool>);

/// The part that the threads share.
struct ThreadPool {
    threads_max: usize,
    idle_max: Duration,
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct PoolState {
    waiting: VecDeque<Job>,
    threads: usize,
    /// The threads that have nothing to do, or have not noticed yet that they have.
    idle: usize,
    is_closed: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl PlainThreads {
    /// Makes a pool of at most `threads_max` threads, and starts the first one. Fails if the system does not grant it.
    pub(crate) fn new(threads_max: usize) -> io::Result<Self> {
        Self::with_idle_max(threads_max, IDLE_MAX)
    }

    fn with_idle_max(threads_max: usize, idle_max: Duration) -> io::Result<Self> {
        let threads_max = threads_max.max(1);
        let pool = ThreadPool { threads_max, idle_max, state: Mutex::default(), changed: Condvar::new() };
        let pool = Arc::new(pool);
        pool.start_thread(&mut pool.lock())?;
        Ok(Self(pool))
    }

    /// Calls `function` as soon as there is a thread for it. It runs outside of the current runtime, but with its
    /// handle, so it may wait for futures. The answer is closed without a value if it is not called, or panics.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        function: impl FnOnce() -> R + Send + 'static,
    ) -> oneshot::Receiver<R> {
        let (reply, answer) = oneshot::channel();
        let runtime = Handle::current();
        self.0.add(Box::new(move || {
            let _runtime = runtime.enter();
            // If it was given up, nobody waits for the answer.
            drop(reply.send(function()));
        }));
        answer
    }
}

impl Drop for PlainThreads {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.lock();
            state.is_closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.0.changed.notify_all();
        // They hold arguments of the user's types.
        for job in waiting {
            shield(|| drop(job));
        }
    }
}

impl ThreadPool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.waiting.push_back(job);
        if state.waiting.len() > state.idle && state.threads < self.threads_max {
            if let Err(error) = self.start_thread(&mut state) {
                tracing::warn!(%error, "no further thread can be started; a plain task waits until another one ends");
            }
        } else {
            self.changed.notify_one();
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut PoolState) -> io::Result<()> {
        let pool = Arc::clone(self);
        std::thread::Builder::new().name("taskq-plain".to_owned()).spawn(move || pool.serve())?;
        state.threads += 1;
        Ok(())
    }

    /// Calls functions on this thread, until there has been none for a while.
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                shield(job);
                state = self.lock();
                continue;
            }
            if state.is_closed {
                break;
            }
            state.idle += 1;
            let waited = self.changed.wait_timeout(state, self.idle_max).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && state.waiting.is_empty() && state.threads > 1 {
                break;
            }
        }
        state.threads -= 1;
    }
}

/// Runs `call`; a panic in it, of which the panic hook has told, costs no thread.
fn shield(call: impl FnOnce()) {
    if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(call)) {
        attempt::discard(payload);
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool").field("threads_max", &self.threads_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn pool(threads_max: usize) -> PlainThreads {
        PlainThreads::new(threads_max).expect("the system grants a thread")
    }

    #[tokio::test]
    async fn as_many_run_at_once_as_there_are_threads() {
        let threads = pool(8);
        // Each waits for all others.
        let barrier = Arc::new(Barrier::new(8));
        for _ in 0..3 {
            let answers: Vec<_> = (0..8)
                .map(|number| {
                    let barrier = Arc::clone(&barrier);
                    threads.call(move || {
                        barrier.wait();
                        number
                    })
                })
                .collect();
            for (number, answer) in answers.into_iter().enumerate() {
                assert_eq!(answer.await, Ok(number));
            }
        }
    }

    #[tokio::test]
    async fn never_more_run_at_once() {
        let threads = pool(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let answers: Vec<_> = (0..200)
            .map(|_| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                threads.call(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for answer in answers {
            answer.await.expect("it is called");
        }
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn a_function_may_wait_for_the_runtime() {
        let threads = pool(1);
        // Reading a file takes a thread of the runtime's own pool.
        let answer = threads.call(|| Handle::current().block_on(tokio::fs::read("/dev/null")));
        assert_eq!(answer.await.expect("it is called").expect("it can be read"), [0_u8; 0]);
    }

    #[tokio::test]
    async fn panics_cost_no_thread() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let threads = pool(1);
        threads.call(|| panic!("called")).await.expect_err("it panics");
        threads.call(|| std::panic::panic_any(Bomb)).await.expect_err("it panics");
        threads.call(|| drop(Bomb)).await.expect_err("it panics");
        assert_eq!(threads.call(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn what_waits_is_not_called_once_the_pool_is_gone() {
        let threads = pool(1);
        let barrier = Arc::new(Barrier::new(2));
        let gate = Arc::clone(&barrier);
        let running = threads.call(move || {
            gate.wait();
            gate.wait().is_leader()
        });
        // It has begun.
        barrier.wait();
        let waiting = threads.call(|| panic!("it must not be called"));
        drop(threads);
        waiting.await.expect_err("nobody calls it");
        barrier.wait();
        running.await.expect("what has begun goes on");
    }

    #[tokio::test]
    async fn idle_threads_end_but_for_one() {
        let threads = PlainThreads::with_idle_max(4, Duration::from_millis(1)).expect("the system grants a thread");
        let barrier = Arc::new(Barrier::new(4));
        let answers = [(); 4].map(|()| {
            let barrier = Arc::clone(&barrier);
            threads.call(move || barrier.wait().is_leader())
        });
        for answer in answers {
            answer.await.expect("it is called");
        }
        while threads.0.lock().threads > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(threads.call(|| 7).await, Ok(7));
    }
}
