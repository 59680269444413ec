//! Clients of real servers in surroundings of other kinds: without a tokio runtime, and in a forked process.

use std::time::Duration;

use taskq::{Client, Error, TaskState};
use taskq_tests::harness::{BOUND, Servers, Vhost, block_on, in_fork, in_own_process, unique};
use taskq_tests::tasks;
use taskq_worker::Worker;

async fn connect(vhost: &Vhost) -> Client {
    let builder = Client::builder().broker(&vhost.servers.amqp).results(&vhost.servers.redis);
    builder.build().await.expect("the servers are up")
}

#[test]
fn a_client_needs_no_runtime() {
    let Some(vhost) = Servers::from_env().and_then(|servers| Vhost::create(&servers)) else { return };
    let client = block_on(connect(&vhost));
    let of_worker = client.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(Worker::builder(of_worker).run())
    });
    block_on(async {
        let handle = tasks::add(2, 3).send(&client).await.expect("it is taken");
        assert_eq!(handle.get_timeout(BOUND).await.expect("it runs"), 5);
        let mut updates = handle.watch().await.expect("it is stored");
        assert_eq!(updates.next().await.expect("there is an end").expect("it can be read").state, TaskState::Success);
        let delayed = tasks::add(2, 4).countdown("50ms").unique(unique("key"), "1h");
        let delayed = delayed.send(&client).await.expect("it is taken");
        assert_eq!(delayed.get_timeout(BOUND).await.expect("it runs"), 6);
        let late = client.handle::<i64>(taskq::TaskId::new()).get_timeout(Duration::from_millis(1)).await;
        assert!(matches!(late, Err(Error::NoResultYet { .. })), "{late:?}");
        assert!(client.dead().list(1).await.expect("it can be looked into").is_empty());
        assert_eq!(client.broker().info().await.expect("it tells").product, "RabbitMQ");
    });
}

#[test]
fn a_client_of_the_parent_is_refused_after_a_fork() {
    if !in_own_process(concat!(module_path!(), "::a_client_of_the_parent_is_refused_after_a_fork")) {
        return;
    }
    let Some(vhost) = Servers::from_env().and_then(|servers| Vhost::create(&servers)) else { return };
    let client = block_on(connect(&vhost));
    let first = block_on(tasks::add(1, 1).send(&client)).expect("it is taken");
    in_fork(|| {
        block_on(async {
            let refused = tasks::add(1, 2).send(&client).await.err();
            let unknown = first.status().await.err();
            let own = connect(&vhost).await;
            tasks::add(1, 3).send(&own).await.expect("its own is good");
            let known = own.handle::<i64>(first.id().clone()).status().await.expect("its own is good");
            own.close().await;
            matches!((refused, unknown), (Some(Error::Forked), Some(Error::Forked)))
                && known.state == TaskState::Pending
        })
    });
    block_on(tasks::add(1, 4).send(&client)).expect("the parent's is as it was");
    assert_eq!(block_on(client.broker().stats("default")).expect("it is there").ready, 3);
}
