//! Machines whose clocks differ by an hour: what was asked for as a length of time is one.

use std::time::Instant;

use taskq_tests::harness::{BOUND, MovedClock, ServerFixture, unique};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// Further apart than any test waits.
const HOUR: i64 = 3600;

#[tokio::test(flavor = "multi_thread")]
async fn delays_and_expiry_are_lengths_of_time_whatever_the_clocks_say() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let Some(clock) = MovedClock::new() else { return };
    for apart in [-HOUR, HOUR] {
        clock.put(apart);
        let queue = unique("clock");
        let app = clock.of(&fixture.app());
        let worker = fixture.worker_of(&app, &[&queue]);
        let send = async |call: taskq::Call<i64>| {
            call.queue(queue.clone()).send(&fixture.client).await.expect("the broker takes it")
        };
        let begun = Instant::now();
        let delayed = send(tasks::add(2, 3).countdown("1s")).await;
        assert_eq!(delayed.get_timeout(BOUND).await.expect("its delay is over"), 5);
        println!("clocks {apart} s apart: a delay of 1 s took {} ms", begun.elapsed().as_millis());
        // From a sender whose clock is as wrong as the worker's.
        let report = app.run(&["call", "shop.add", "2", "3", "--queue", &queue, "--countdown", "1s", "--wait=60s"]);
        assert_eq!(report.expect_exit(0).json()["value"], 5);

        let lasting = send(tasks::add(2, 3).expires("30m")).await;
        assert_eq!(lasting.get_timeout(BOUND).await.expect("it has half an hour"), 5);
        let expired = send(tasks::add(2, 3).countdown("1s").expires("100ms")).await;
        let revoked = expired.get_timeout(BOUND).await.expect_err("its time was over before its delay");
        assert!(matches!(revoked, taskq::Error::Revoked { .. }), "{revoked}");

        let report = app.run(&["check"]).expect_exit(0).json();
        let ahead = report["results"]["clock_ahead_ms"].as_i64().expect("Redis tells its time");
        assert!((ahead + apart * 1000).abs() < BOUND.as_millis() as i64, "{ahead}");
        let facts = report["results"]["facts"].to_string();
        assert!(facts.contains("synchronize their clocks"), "{facts}");
        worker.drain();
    }
    let report = fixture.app().run(&["check"]).expect_exit(0).json();
    assert!(!report["results"]["facts"].to_string().contains("synchronize"), "{report}");
}
