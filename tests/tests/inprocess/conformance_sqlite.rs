//! A file keeps every promise of the broker, of the result backend and of the Kv store.

use std::path::PathBuf;
use std::sync::Arc;

use taskq::TaskId;
use taskq::backend::sqlite::SqliteBackend;
use taskq::backend::{BackendOptions, SharedKv, SharedResults};
use taskq::broker::sqlite::SqliteBroker;
use taskq::broker::{Broker, BrokerOptions, QueueKind};
use taskq::conformance::{broker, kv, results};

/// A file of one test's own, deleted with what SQLite puts beside it.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("taskq-conformance-{}.db", TaskId::new())))
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            // What is left in the temporary folder is no test's concern.
            drop(std::fs::remove_file(format!("{}{end}", self.0.display())));
        }
    }
}

/// Each promise is checked by a client that shares the file with all others of the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_of_one_process() {
    let file = File::new();
    let make = || async {
        SqliteBroker::connect(&file.url(), BrokerOptions::default()).await.expect("the file can be made")
            as Arc<dyn Broker>
    };
    broker::run_all(make, QueueKind::Quorum).await;
}

/// Each promise is checked by a client as another process would have it, while those of the promises before are open.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn broker_of_many_processes() {
    let file = File::new();
    let make = || async {
        SqliteBroker::connect_alone(&file.url(), BrokerOptions::default()).await.expect("the file can be made")
            as Arc<dyn Broker>
    };
    broker::run_all(make, QueueKind::Classic).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_and_facts() {
    let file = File::new();
    let backend = SqliteBackend::connect(&file.url(), &BackendOptions::default()).await.expect("the file can be made");
    let backend = Arc::new(backend);
    results::run_all(|| async { Arc::clone(&backend) as SharedResults }).await;
    kv::run_all(|| async { Arc::clone(&backend) as SharedKv }).await;
}
