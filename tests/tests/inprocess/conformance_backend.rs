//! Every backend adapter keeps every promise of both ports.

use std::sync::Arc;

use taskq::backend::memory::MemoryBackend;
use taskq::backend::{self, Backend, BackendOptions, SharedKv, SharedResults};
use taskq::conformance::{kv, results};
use taskq_tests::harness::Servers;

/// The backend on a Redis for tests; without one the test is skipped, unless servers are required.
async fn redis() -> Option<Backend> {
    let url = Servers::from_env()?.redis;
    Some(backend::connect(&url, BackendOptions::default()).await.expect("the test Redis is up"))
}

fn memory() -> MemoryBackend {
    MemoryBackend::new(&BackendOptions::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_in_memory() {
    results::run_all(|| async { Arc::new(memory()) as SharedResults }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn facts_in_memory() {
    kv::run_all(|| async { Arc::new(memory()) as SharedKv }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_in_redis() {
    let Some(backend) = redis().await else { return };
    results::run_all(|| async { Arc::clone(&backend.results) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn facts_in_redis() {
    let Some(backend) = redis().await else { return };
    kv::run_all(|| async { Arc::clone(&backend.kv) }).await;
}
