//! Two workers of one slot each, of which one begins a long task while it has many short ones in hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use taskq::{Client, Context, task};
use taskq_worker::{Worker, WorkerControl};

use super::{BOUND, now_ms};

/// The number of tasks that make both workers fetch much, and of those behind the long one.
const WARM_UP: usize = 3000;
const BEHIND: usize = 600;
/// The number of tasks of another queue, sent when the long one has been running for long.
const LATER: usize = 20;

/// The state of one such scene, which the tasks of both workers share.
#[derive(Debug, Default)]
struct Scene {
    is_over: AtomicBool,
    is_busy: AtomicBool,
    warm: AtomicU64,
    begun: AtomicU64,
    longest_wait_ms: AtomicU64,
}

/// The state as workers hold it.
struct Shared(Arc<Scene>);

#[task(name = "starvation.warm", ignore_result)]
async fn warm(ctx: &Context) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    ctx.state::<Shared>().0.warm.fetch_add(1, Ordering::Relaxed);
}

#[task(name = "starvation.long", ignore_result)]
async fn long(ctx: &Context) {
    let scene = &ctx.state::<Shared>().0;
    scene.is_busy.store(true, Ordering::Relaxed);
    while !scene.is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[task(name = "starvation.short", ignore_result)]
async fn short(ctx: &Context, sent_ms: u64) {
    let scene = &ctx.state::<Shared>().0;
    scene.longest_wait_ms.fetch_max(now_ms().saturating_sub(sent_ms), Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(2)).await;
    scene.begun.fetch_add(1, Ordering::Relaxed);
}

/// Plays it on two queues that nobody else uses, and prints the longest wait. That all short tasks run while the long
/// one still does is the promise; without it this would never end.
///
/// # Panics
///
/// If they do not, or one of them is dead afterwards.
pub async fn short_tasks_beside_a_long_one(what: &str, clients: [Client; 2], queues: [&str; 2]) {
    let scene = Arc::new(Scene::default());
    let [sender, _] = &clients;
    let sender = sender.clone();
    let mut workers = Vec::new();
    for client in clients {
        let worker = Worker::builder(client).concurrency(1).queues(queues).state(Shared(Arc::clone(&scene)));
        let worker = worker.build().await.expect("the broker is there");
        workers.push((worker.control(), tokio::spawn(worker.run())));
    }
    let [queue, other] = queues.map(str::to_owned);
    sender.send_all((0..WARM_UP).map(|_| warm().queue(queue.clone()))).await.all().expect("they are accepted");
    until("the workers are warm", || scene.warm.load(Ordering::Relaxed) == WARM_UP as u64).await;

    // One after the other into one queue: the worker of the long one has fetched many of those behind it.
    let first = long().queue(queue.clone()).send(&sender);
    first.await.expect("it is accepted");
    let calls = (0..BEHIND).map(|_| short(now_ms()).queue(queue.clone()));
    sender.send_all(calls).await.all().expect("they are accepted");
    until("the short ones ran", || scene.begun.load(Ordering::Relaxed) == BEHIND as u64).await;
    assert!(scene.is_busy.load(Ordering::Relaxed), "the long one still runs");
    // Every second of these is handed to the busy worker.
    let calls = (0..LATER).map(|_| short(now_ms()).queue(other.clone()));
    sender.send_all(calls).await.all().expect("they are accepted");
    until("those of the other queue ran", || scene.begun.load(Ordering::Relaxed) == (BEHIND + LATER) as u64).await;
    let longest = scene.longest_wait_ms.load(Ordering::Relaxed);
    println!("{what}: {} short tasks beside one that does not end, the longest wait was {longest} ms", BEHIND + LATER);

    scene.is_over.store(true, Ordering::Relaxed);
    for (control, worker) in workers {
        WorkerControl::drain(&control);
        worker.await.expect("it does not panic").expect("it drains");
    }
    assert!(sender.dead().list(10).await.expect("it can be read").is_empty(), "a message that waited is not dead");
    sender.close().await;
}

async fn until(what: &str, fact: impl Fn() -> bool) {
    let wait = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("still not after {BOUND:?}: {what}"));
}
