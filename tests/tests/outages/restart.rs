//! RabbitMQ and Redis are restarted during a run, in good order and by `kill -9`: nothing that was accepted is lost,
//! and every queue is consumed again without help.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use taskq::{Client, Handle, TaskId};
use taskq_tests::harness::{App, Ledger, PrivateServers, Server, unique};
use taskq_tests::tasks;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Long enough for a lease of a run that was cut off to run out.
const PATIENCE: Duration = Duration::from_secs(120);

/// One server, one restart at a time: everything below happens on each of them.
const RESTARTS: [(Server, bool); 4] =
    [(Server::Rabbit, false), (Server::Rabbit, true), (Server::Redis, false), (Server::Redis, true)];

/// Sends tasks without a pause until it is told to stop.
struct Sender {
    over: Arc<AtomicBool>,
    sending: JoinHandle<Sent>,
}

/// The outcome of sending.
#[derive(Default)]
struct Sent {
    accepted: Vec<String>,
    refused: Vec<String>,
}

impl Sender {
    fn start(client: &Client, queue: &str, ledger: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (stop, client) = (Arc::clone(&over), client.clone());
        let (queue, ledger) = (queue.to_owned(), ledger.to_owned());
        let sending = tokio::spawn(async move {
            let mut sent = Sent::default();
            for number in 0.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let line = format!("{queue}-{number}");
                // Some come straight, some by the delay ladder, some again after a failure.
                let answer = match number % 4 {
                    0 => tasks::ledger_flaky(&*ledger, &*line, 5, 1, 200)
                        .id(&*line)
                        .queue(queue.clone())
                        .send(&client)
                        .await
                        .map(drop),
                    1 => tasks::ledger(&*ledger, &*line, 5)
                        .id(&*line)
                        .queue(queue.clone())
                        .countdown("300ms")
                        .send(&client)
                        .await
                        .map(drop),
                    _ => {
                        tasks::ledger(&*ledger, &*line, 5).id(&*line).queue(queue.clone()).send(&client).await.map(drop)
                    }
                };
                match answer {
                    Ok(()) => sent.accepted.push(line),
                    Err(error) => sent.refused.push(error.to_string()),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sent
        });
        Self { over, sending }
    }

    async fn stop(self) -> Sent {
        self.over.store(true, Ordering::Release);
        self.sending.await.expect("the sender does not panic")
    }
}

/// The worker has run something of this queue that was sent only now.
async fn is_consumed(client: &Client, queue: &str, processes: &[u32]) {
    let about = tasks::about().queue(queue.to_owned()).send(client).await.expect("the broker is back");
    let about = result(&about, "a task that was sent after the restart").await;
    assert_eq!(serde_json::json!([about["pid"]]), serde_json::json!(processes), "by the same process as before");
}

/// The result of a task; asked for again where the backend was away meanwhile.
async fn result<T: taskq::canvas::TaskOutput>(handle: &Handle<T>, what: &str) -> T {
    handle.get_timeout(PATIENCE).await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_servers_lose_nothing() {
    let Some(own) = PrivateServers::start() else { return };
    let ledger = Ledger::new();
    let queues = [unique("one"), unique("two")];
    let builder = Client::builder().broker(&own.servers.amqp).results(&own.servers.redis);
    let client = builder.build().await.expect("the servers are up");
    let shop = App::new(env!("CARGO_BIN_EXE_shop")).servers(&own.servers);
    let mut worker = shop.start(&["worker", "-c", "8", "-Q", &queues.join(","), "-l", "error"]);
    worker.wait_until_ready();
    let processes = worker.children();

    let senders = queues.each_ref().map(|queue| Sender::start(&client, queue, ledger.path()));
    for (server, kill) in RESTARTS {
        let before = ledger.len();
        worker.wait_for("both queues are being worked on", |_| (ledger.len() > before + 100).then_some(()));
        own.restart(server, kill);
        for queue in &queues {
            is_consumed(&client, queue, &processes).await;
        }
        println!("{server:?} was restarted{}: both queues are consumed again", if kill { " by force" } else { "" });
    }
    let mut accepted = BTreeSet::new();
    for sender in senders {
        let sent = sender.stop().await;
        let refused: BTreeSet<_> = sent.refused.iter().collect();
        println!("{} accepted, {} refused: {refused:?}", sent.accepted.len(), sent.refused.len());
        accepted.extend(sent.accepted);
    }
    let deadline = Instant::now() + PATIENCE;
    let ran = loop {
        let ran = ledger.counts();
        let missing: Vec<_> = accepted.iter().filter(|line| !ran.contains_key(*line)).collect();
        if missing.is_empty() {
            break ran;
        }
        if Instant::now() > deadline {
            for id in &missing {
                let status = client.handle::<()>(TaskId::parse(id).expect("a good id")).status().await;
                println!("{id}: {status:?}");
            }
            for queue in &queues {
                println!("{queue}: {:?}", client.broker().stats(queue).await);
            }
            panic!("{} of {} accepted have not run\n{}", missing.len(), accepted.len(), worker.stderr());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let (runs, distinct): (usize, usize) = (ran.values().sum(), ran.len());
    println!("{} accepted, {distinct} different tasks ran, {runs} runs with retries", accepted.len());

    // The Redis of now was empty a moment ago; what is stored since is right.
    let sums = (0..100).map(|n| tasks::add(n, n).queue(queues[n as usize % 2].clone()));
    let handles = client.send_all(sums).await.all().expect("every task is accepted");
    for (n, handle) in (0..).zip(&handles) {
        assert_eq!(result(handle, "a sum").await, 2 * n);
    }
    worker.drain();
    for queue in &queues {
        assert_eq!(client.broker().stats(queue).await.expect("it exists").ready, 0, "acknowledged, all of them");
    }
    assert!(client.dead().list(10).await.expect("it can be read").is_empty(), "none failed");
}
