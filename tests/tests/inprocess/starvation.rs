//! Workers on a file, and in one process, that would keep messages from each other.

use taskq::{Client, TaskId};
use taskq_tests::harness::{Embedded, short_tasks_beside_a_long_one};

async fn client(url: &str) -> Client {
    Client::builder().broker(url).results(url).build().await.expect("it is embedded")
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_on_a_file_do_not_wait_behind_a_long_one() {
    let file = Embedded::new();
    let url = file.url();
    short_tasks_beside_a_long_one("sqlite", [client(&url).await, client(&url).await], ["short", "other"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_in_memory_do_not_wait_behind_a_long_one() {
    let url = format!("memory:{}", TaskId::new());
    short_tasks_beside_a_long_one("memory", [client(&url).await, client(&url).await], ["short", "other"]).await;
}
