//! Workers over real RabbitMQ that would keep messages from each other.

use taskq::broker::QueueSpec;
use taskq_tests::harness::{ServerFixture, short_tasks_beside_a_long_one, unique};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_do_not_wait_behind_a_long_one_while_another_worker_is_idle() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    for kind in ["quorum", "classic"] {
        let queues = [unique(kind), unique(kind)];
        let clients = [fixture.client_with(&[]).await, fixture.client_with(&[]).await];
        if kind == "classic" {
            for queue in &queues {
                clients[0].declare_as(&QueueSpec::classic(queue.as_str())).await.expect("it can be declared");
            }
        }
        short_tasks_beside_a_long_one(kind, clients, [&queues[0], &queues[1]]).await;
    }
}
