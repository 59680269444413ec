//! The queue of the running code: by scope, or by runtime.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::runtime::{Handle, Id};

use super::parts::QueueParts;
use crate::client;

tokio::task_local! {
    static SCOPE: Arc<QueueParts>;
}

/// Returns the queue of the current scope, else of the runtime.
pub(super) fn current() -> Option<Arc<QueueParts>> {
    SCOPE.try_with(Arc::clone).ok().or_else(|| {
        let runtime = Handle::try_current().ok()?.id();
        runtimes().get(&runtime)?.upgrade()
    })
}

/// Runs `future` with `queue` as the queue of its calls.
pub(super) fn scope<F: Future>(queue: Arc<QueueParts>, future: F) -> impl Future<Output = F::Output> + use<F> {
    SCOPE.scope(queue, future)
}

/// Makes calls in this process ask for their test's queue first, from now on.
pub(super) fn listen() {
    client::ask_first(|| current().map(|queue| queue.client.clone()));
}

/// The place of a queue in the table of runtimes; given up on drop.
#[derive(Debug)]
pub(super) struct Seat(Id);

/// The reason for which a queue gets no seat.
pub(super) enum Refused {
    NoRuntime,
    Taken(Arc<QueueParts>),
}

/// Seats `queue` on the current runtime.
pub(super) fn sit(queue: &Weak<QueueParts>) -> Result<Seat, Refused> {
    let runtime = Handle::try_current().map_err(|_| Refused::NoRuntime)?.id();
    let mut runtimes = runtimes();
    if let Some(earlier) = runtimes.get(&runtime).and_then(Weak::upgrade) {
        // Given back without the lock: it may be the last to hold that queue by now.
        drop(runtimes);
        return Err(Refused::Taken(earlier));
    }
    runtimes.insert(runtime, Weak::clone(queue));
    Ok(Seat(runtime))
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut runtimes = runtimes();
        // Its queue is gone by now; another one may have taken the place since.
        if runtimes.get(&self.0).is_some_and(|queue| queue.strong_count() == 0) {
            runtimes.remove(&self.0);
        }
    }
}

fn runtimes() -> MutexGuard<'static, HashMap<Id, Weak<QueueParts>>> {
    static RUNTIMES: OnceLock<Mutex<HashMap<Id, Weak<QueueParts>>>> = OnceLock::new();
    RUNTIMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}
