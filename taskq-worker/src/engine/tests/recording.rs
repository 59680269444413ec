//! What is in the air is in the recorder's file, and nothing else.

use taskq::task;

use super::*;

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
    let (bench, gate) = (Bench::start().await, Gate::new());
    let one = bench.send(waits(gate.0.clone())).await;
    let two = bench.send(waits_on_a_thread(gate.0.clone())).await;
    let mut flights = until("both run", async || Some(bench.file.flights()).filter(|flights| flights.len() == 2)).await;
    flights.sort_by(|a, b| a.task.cmp(&b.task));
    let seen: Vec<_> = flights.iter().map(|flight| (flight.id.as_str(), flight.task.as_str())).collect();
    assert_eq!(seen, [(one.id().as_str(), waits::NAME), (two.id().as_str(), waits_on_a_thread::NAME)]);
    assert!(flights.iter().all(|flight| !flight.alone && !flight.culprit && flight.attempt == 0));
    assert!(flights.iter().all(|flight| flight.since_ms > 1_700_000_000_000));
    assert_eq!(bench.control.pulse(), Pulse { done: 0, running: 2, trouble: None });
    gate.open();
    one.get_timeout(PATIENCE).await.expect("it ends");
    two.get_timeout(PATIENCE).await.expect("it ends");
    until("both are gone", async || bench.file.flights().is_empty().then_some(())).await;
    bench.send(panics()).await.get_timeout(PATIENCE).await.expect_err("it panics");
    bench.send(none()).await.get_timeout(PATIENCE).await.expect("it ends");
    until("these are gone as well", async || bench.file.flights().is_empty().then_some(())).await;
    assert_eq!(bench.control.pulse().done, 4);
    bench.stop().await;
}

#[tokio::test]
async fn a_function_that_waits_for_a_thread_is_not_in_the_air_and_its_time_does_not_run() {
    let gate = Gate::new();
    let client = client().await;
    let mut bench = Bench::with(&client, 2, false, |worker| worker).await;
    // The runtime has 512 threads for functions; all but none are taken here.
    let held: Vec<_> = (0..512)
        .map(|_| {
            let gate = gate.0.clone();
            bench.runtime.as_ref().expect("it runs").spawn_blocking(move || Gate::block_at(&gate))
        })
        .collect();
    let waiting = bench.send(waits_on_a_thread(gate.0.clone()).time_limit("1ms")).await;
    // Tasks that came later are through, so this one has long been taken; and many looks at limits were made.
    for _ in 0..5 {
        bench.send(none().countdown("100ms")).await.get_timeout(PATIENCE).await.expect("it ends");
    }
    assert_eq!(bench.file.flights(), []);
    gate.open();
    for thread in held {
        thread.await.expect("it only waits");
    }
    waiting.get_timeout(PATIENCE).await.expect("its time began with its body");
    assert!(bench.events.try_recv().is_err(), "nothing was stuck");
    bench.stop().await;
}
