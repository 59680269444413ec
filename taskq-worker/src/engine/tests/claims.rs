//! Claims on runs that lost their delivery.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use taskq::backend::memory::MemoryBackend;
use taskq::backend::{Backend, BackendError, Kv, Put};
use taskq::broker::BrokerOptions;
use taskq::broker::memory::MemoryBroker;
use taskq::settings::Settings;
use taskq::task;

use super::*;
use crate::engine::tests::renewal::enter_run_without_delivery;

#[task]
async fn goes_on() {}

/// A store that never answers, as one behind a connection that was cut, but for the list of its keys, by which a worker
/// begins.
#[derive(Debug, Default)]
struct Silent {
    claims: AtomicUsize,
}

fn silence<T: Send + 'static>() -> BoxFuture<'static, T> {
    std::future::pending().boxed()
}

impl Kv for Silent {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, BackendError>> {
        silence()
    }

    fn put<'a>(&'a self, _: &'a str, _: Bytes, _: Option<Duration>) -> BoxFuture<'a, Result<(), BackendError>> {
        silence()
    }

    fn compare_and_put<'a>(
        &'a self,
        _: &'a str,
        _: Option<Bytes>,
        _: Bytes,
        _: Option<Duration>,
    ) -> BoxFuture<'a, Result<Put, BackendError>> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        silence()
    }

    fn delete<'a>(&'a self, _: &'a str, _: Option<Bytes>) -> BoxFuture<'a, Result<Put, BackendError>> {
        silence()
    }

    fn scan<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, BackendError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }
}

#[tokio::test]
async fn one_claim_at_a_time_is_made_for_a_run_that_lost_its_delivery() {
    const RUNS: usize = 20;
    let url = format!("memory:{}", TaskId::new());
    let kv = Arc::<Silent>::default();
    let backend = Backend { results: MemoryBackend::shared(&url), kv: Arc::clone(&kv) as _ };
    let client = taskq::internal::client_over(
        Settings::default(),
        MemoryBroker::shared(&url, BrokerOptions::default()),
        backend,
    );
    let worker =
        Worker::builder(client).grace(Duration::ZERO).build().await.expect("the memory broker is always there");
    for _ in 0..RUNS {
        enter_run_without_delivery(&worker.shared, goes_on::NAME);
    }
    let (ticks, control) = (worker.ticks.clone(), worker.control());
    let running = tokio::spawn(worker.run());
    until("each run was looked at ten times", async || (ticks.now() > 12).then_some(())).await;
    assert_eq!(kv.claims.load(Ordering::SeqCst), RUNS, "one claim under way for each run");
    control.cancel();
    running.abort();
}
