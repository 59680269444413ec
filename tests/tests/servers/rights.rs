//! Users of RabbitMQ with few rights: those that the guide names are enough, and what exists can be used without the
//! right to declare it.

use std::collections::{BTreeMap, BTreeSet};

use taskq::Error;
use taskq::broker::RENEWAL_PREFIX;
use taskq::internal::fault::full_message;
use taskq_tests::harness::{App, BOUND, BeatFixture, Ledger, ServerFixture, repository, unique, wait_until};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The queue of the guide.
const QUEUE: &str = "mail";

/// The patterns that the guide gives to each user: configure, write, read.
fn rights_of_the_guide() -> BTreeMap<String, [String; 3]> {
    let guide = std::fs::read_to_string(repository().join("docs/deploying.md")).expect("the guide exists");
    let commands = guide.lines().filter_map(|line| line.strip_prefix("rabbitmqctl set_permissions -p my-app "));
    let rights = commands.map(|line| {
        let words: Vec<_> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        let [user, rights @ ..] = words.as_slice() else { panic!("{line}") };
        (user.clone(), rights.to_vec().try_into().expect("three patterns"))
    });
    rights.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_guide_names_are_enough() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let guide = rights_of_the_guide();
    let servers_of = |user: &str| fixture.vhost.permit(user, guide[user].each_ref().map(String::as_str));
    let (caller, worker) = (servers_of("caller"), servers_of("worker"));

    // Long tasks are held by copies of their messages, in queues of the worker's own.
    let app = App::new(SHOP).servers(&worker).env("TASKQ_CONSUMER_TIMEOUT", "4s");
    let worker = fixture.worker_of(&app, &[QUEUE]);
    let client = caller.client_with(&[("default_queue", QUEUE)]).await;
    let delayed = tasks::add(2, 3).countdown("300ms").send(&client).await.expect("it may build the ladder");
    let (flaky, failed) = (tasks::flaky(3, None), tasks::fail("no".to_owned()));
    let flaky = flaky.send(&client).await.expect("it may call");
    let failed = failed.send(&client).await.expect("it may call");
    let crashing = tasks::abort(None).send(&client).await.expect("it may call");
    assert_eq!(delayed.get_timeout(BOUND).await.expect("it runs"), 5);
    assert_eq!(flaky.get_timeout(BOUND).await.expect("the worker may retry"), 3);
    failed.get_timeout(BOUND).await.expect_err("it fails");
    let lost = crashing.get_timeout(BOUND).await.expect_err("it costs processes, and is found out in quarantine");
    assert!(lost.to_string().contains("WorkerLost"), "{lost}");
    let dead = fixture.client.dead().list(10).await.expect("it may be read");
    let reasons: BTreeSet<_> = dead.iter().map(|entry| entry.letter.reason.clone()).collect();
    assert_eq!(reasons, ["failed", "worker-lost"].map(str::to_owned).into(), "the worker may write to the dead set");
    let long = tasks::slow(6_000).send(&client).await.expect("it may call");
    wait_until("a long task is held", || {
        fixture.vhost.queues().keys().any(|name| name.starts_with(RENEWAL_PREFIX)).then_some(())
    });
    assert_eq!(long.get_timeout(BOUND).await.expect("it runs"), 6_000);

    let settings = format!(
        "broker_url = \"{}\"\nresult_url = \"{}\"\ndefault_queue = \"{QUEUE}\"",
        caller.amqp,
        caller.redis.replace("/0", "/13"),
    );
    let tick = "task = \"shop.ledger\"\nargs = [\"LEDGER\", \"tick\", 0]\nevery = \"1s\"\n";
    let beating = BeatFixture::new(SHOP, &settings, &[("tick", tick)]);
    let beat = beating.beat(&unique("beat"));
    wait_until("the beat calls", || (!beating.ledger.is_empty()).then_some(()));
    beat.drain();
    let ended = worker.drain();
    assert!(!ended.stderr.contains("ACCESS_REFUSED"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_is_used_without_the_right_to_declare_it() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let bare = fixture.vhost.permit("bare", ["^$", ".*", ".*"]);
    let (client, queue) = (bare.client_with(&[]).await, unique("mail"));
    let error = tasks::add(1, 1).queue(queue.clone()).send(&client).await.expect_err("there is nothing");
    let said = full_message(&error);
    assert!(said.contains("no exchange 'taskq.dead'") && said.contains("grant the right `configure`"), "{said}");

    // A user who may declare has been here.
    let first = tasks::add(1, 1).queue(queue.clone()).countdown("100ms");
    let first = first.send(&fixture.client).await.expect("it may declare");
    let worker = fixture.worker_of(&App::new(SHOP).servers(&bare), &[&queue]);
    assert_eq!(first.get_timeout(BOUND).await.expect("it runs"), 2);
    let ledger = Ledger::new();
    let flaky = tasks::ledger_flaky(ledger.path(), "flaky", 0, 2, 100).queue(queue.clone());
    let flaky = flaky.send(&client).await.expect("the queue exists");
    let delayed =
        tasks::add(2, 3).queue(queue.clone()).countdown("300ms").send(&client).await.expect("as does the ladder");
    assert_eq!(delayed.get_timeout(BOUND).await.expect("it runs"), 5);
    flaky.get_timeout(BOUND).await.expect("it is retried");
    worker.drain();

    let unread = fixture.vhost.permit("unread", ["^$", ".*", "^taskq\\."]);
    let refused = App::new(SHOP).servers(&unread).run(&["worker", "--unsupervised", "-Q", &queue]).expect_exit(4);
    assert!(refused.stderr.contains(&queue) && refused.stderr.contains("grant the right `read`"), "{}", refused.stderr);

    let error = tasks::add(1, 1).queue("other").send(&client).await.expect_err("there is no such queue");
    let said = full_message(&error);
    assert!(said.contains("no queue 'other'") && said.contains("grant the right `configure`"), "{said}");
    let strict = bare.client_with(&[("strict", "true")]).await;
    let error = tasks::add(1, 1).queue(queue.clone()).send(&strict).await.expect_err("it is strict");
    let said = error.to_string();
    assert!(said.contains("`strict`") && said.contains("declare it; grant the right `configure`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_may_not_be_published_fails_alone_and_at_once() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("mail");
    // The ladder exists.
    let first = tasks::add(1, 1).queue(queue.clone()).countdown("100ms");
    first.send(&fixture.client).await.expect("it may do everything");
    // RabbitMQ from 4.3 on does not tell this user whether the queue exists.
    let undelayed = fixture.vhost.permit("undelayed", ["^$", "^amq\\.default$", "^$"]);
    let client = undelayed.client_with(&[]).await;
    let calls = (0..40).map(|number| {
        let call = tasks::add(number, 1).queue(queue.clone());
        let call = if number % 8 == 0 { call.countdown("1m") } else { call };
        let client = client.clone();
        async move { (number, call.send(&client).await) }
    });
    for (number, outcome) in futures_util::future::join_all(calls).await {
        match outcome {
            Ok(_) => assert_ne!(number % 8, 0, "it may not be delayed"),
            Err(Error::Publish(error)) => {
                let said = full_message(&error);
                assert!(number % 8 == 0 && said.contains("ACCESS_REFUSED"), "{number}: {said}");
                assert!(said.contains("taskq.delay."), "{said}");
            }
            Err(other) => panic!("{number}: {}", full_message(&other)),
        }
    }
    let nowhere = tasks::add(1, 1).queue("other").send(&client).await.expect_err("there is no such queue");
    assert!(full_message(&nowhere).contains("other"), "{nowhere}");
}
