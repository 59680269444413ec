//! Tasks that are running are in the recorder's file, and nothing else is.

use taskq::task;

use super::*;
use crate::engine::WorkerHeartbeat;

#[task]
async fn waits(gate: String) {
    let gate = Gate::state(&gate);
    while !gate.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[task]
fn waits_on_a_thread(gate: String) {
    Gate::block_at(&gate);
}

#[task(retries = 0)]
async fn panics() {
    panic!("as it is told to");
}

#[task]
async fn none() {}

#[tokio::test]
async fn bodies_are_recorded_while_they_run() {
    let (bench, gate) = (SupervisedFixture::start().await, Gate::new());
    let one = bench.send(waits(gate.0.clone())).await;
    let two = bench.send(waits_on_a_thread(gate.0.clone())).await;
    let mut flights = until("both run", async || Some(bench.file.flights()).filter(|flights| flights.len() == 2)).await;
    flights.sort_by(|a, b| a.task.cmp(&b.task));
    let seen: Vec<_> = flights.iter().map(|flight| (flight.id.as_str(), flight.task.as_str())).collect();
    assert_eq!(seen, [(one.id().as_str(), waits::NAME), (two.id().as_str(), waits_on_a_thread::NAME)]);
    assert!(flights.iter().all(|flight| !flight.in_quarantine && !flight.culprit && flight.attempt == 0));
    assert!(flights.iter().all(|flight| flight.since_ms > 1_700_000_000_000));
    assert_eq!(bench.control.heartbeat().await, WorkerHeartbeat { done: 0, running: 2, problem: None });
    gate.open();
    one.get_timeout(PATIENCE).await.expect("it ends");
    two.get_timeout(PATIENCE).await.expect("it ends");
    until("both are gone", async || bench.file.flights().is_empty().then_some(())).await;
    bench.send(panics()).await.get_timeout(PATIENCE).await.expect_err("it panics");
    bench.send(none()).await.get_timeout(PATIENCE).await.expect("it ends");
    until("these are gone as well", async || bench.file.flights().is_empty().then_some(())).await;
    assert_eq!(bench.control.heartbeat().await.done, 4);
    bench.stop().await;
}

#[tokio::test]
async fn a_function_that_waits_for_a_thread_is_not_in_the_air_and_its_time_does_not_run() {
    let gate = Gate::new();
    let client = client().await;
    let mut bench = SupervisedFixture::with(&client, 2, false, |worker| worker.blocking_threads(1)).await;
    let running = bench.send(waits_on_a_thread(gate.0.clone())).await;
    until("it has the only thread", async || (bench.file.flights().len() == 1).then_some(())).await;
    let waiting = bench.send(waits_on_a_thread(gate.0.clone()).time_limit("1ms")).await;
    // Tasks that came later are through, so this one has long been taken; and many looks at limits were made.
    for _ in 0..5 {
        bench.send(none().countdown("100ms")).await.get_timeout(PATIENCE).await.expect("it ends");
    }
    let flights = bench.file.flights();
    assert!(matches!(&flights[..], [one] if one.id == running.id().as_str()), "{flights:?}");
    gate.open();
    running.get_timeout(PATIENCE).await.expect("it only waits");
    waiting.get_timeout(PATIENCE).await.expect("its time began with its body");
    assert!(bench.events.try_recv().is_err(), "nothing was stuck");
    bench.stop().await;
}

/// Tasks a second that a worker gets through, with a recorder or without, while its process does nothing else.
async fn drained_per_second(tasks: u32, recorded: bool) -> f64 {
    let client = client().await;
    client.send_all((0..tasks).map(|_| none().ignore_result(true))).await.all().expect("the memory broker takes them");
    let file = File::new();
    let (events, _told) = mpsc::unbounded_channel();
    let mut builder = Worker::builder(client.clone()).concurrency(64);
    if recorded {
        let recorder = Recorder::create(&file.0, 64).expect("a temporary file can be made");
        builder = builder.supervised(Supervision { recorder, quarantine: false, worker: None, events });
    }
    let begun = Instant::now();
    let worker = builder.build().await.expect("the memory broker is always there");
    let control = worker.control();
    let running = tokio::spawn(worker.run());
    while control.heartbeat().await.done < u64::from(tasks) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let rate = f64::from(tasks) / begun.elapsed().as_secs_f64();
    control.drain();
    running.await.expect("it does not panic").expect("it drains");
    rate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a quiet machine and a release build"]
async fn what_the_recorder_costs() {
    const ROUNDS: usize = 21;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // In turns, and each first as often as the other.
        for recorded in [round % 2 == 0, round % 2 == 1] {
            let rate = drained_per_second(200_000, recorded).await;
            if recorded { with.push(rate) } else { without.push(rate) }
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (without, with) = (median(&mut without), median(&mut with));
    let cost = (1.0 / with - 1.0 / without) * 1e9;
    println!("{ROUNDS} rounds: {without:.0} tasks/s without, {with:.0} with; {cost:.0} ns a task");
}
