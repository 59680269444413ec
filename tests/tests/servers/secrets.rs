//! Secrets in logs: passwords of URLs and secret arguments are in no output of any program, in no record of a failure,
//! and in the command line of no process that taskq starts, also where everything is logged.

use serde_json::{Value, json};
use taskq::canvas::ArgumentList;
use taskq::{Call, Error};
use taskq_tests::harness::{App, BOUND, Finished, PrivateRedis, ServerFixture, Servers, children_of};
use taskq_tests::tasks;

const SHOP: &str = env!("CARGO_BIN_EXE_shop");
const REDIS_PASSWORD: &str = "correct-horse-battery";
const CARD: &str = "4929123412341234";
const PIN: u64 = 73_577_357;

/// The texts that nobody may see.
struct Secrets(Vec<String>);

impl Secrets {
    fn assert_unseen(&self, place: &str, text: &str) {
        for secret in &self.0 {
            // As text, or as the list of bytes that frames are shown as.
            let bytes = format!("{:?}", secret.as_bytes());
            let at = text.find(secret.as_str()).or_else(|| text.find(bytes.trim_matches(['[', ']'])));
            let around = at.map(|at| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(300)..at]));
            assert!(at.is_none(), "{secret} is in {place}: …{}", around.unwrap_or_default());
        }
    }

    fn assert_unseen_in(&self, place: &str, finished: &Finished) {
        self.assert_unseen(place, &finished.stdout);
        self.assert_unseen(place, &finished.stderr);
    }

    /// Looks at the command lines of the descendants of a process, and returns how many there are.
    fn assert_unseen_below(&self, pid: u32) -> usize {
        let children = children_of(pid);
        for child in &children {
            // One that has ended has none.
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            self.assert_unseen("a command line", &String::from_utf8_lossy(&line).replace('\0', " "));
        }
        children.len() + children.iter().map(|child| self.assert_unseen_below(*child)).sum::<usize>()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_seen_although_everything_is_logged() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let redis = PrivateRedis::start(Some(REDIS_PASSWORD)).expect("there are servers");
    let permitted = fixture.vhost.permit("discreet", [".*", ".*", ".*"]);
    let servers = Servers { redis: redis.url(), ..permitted };
    let (authority, _) = servers.amqp.rsplit_once('@').expect("there is a user");
    let (_, password) = authority.rsplit_once(':').expect("there is a password");
    let secrets = Secrets(vec![password.to_owned(), REDIS_PASSWORD.to_owned(), CARD.to_owned(), PIN.to_string()]);

    let urls = ["--broker", &servers.amqp, "--results", &servers.redis];
    let everything = App::new(SHOP).env("RUST_LOG", "trace");
    let mut worker = everything.start(&[&["worker", "-B", "--processes", "2", "-c", "4"], &urls[..]].concat());
    worker.wait_until_ready();
    assert!(secrets.assert_unseen_below(worker.id()) >= 2, "there are the processes that run tasks");

    let client = servers.client_with(&[]).await;
    let charged = tasks::charge(CARD, 100).send(&client).await.expect("it is accepted");
    assert_eq!(charged.get_timeout(BOUND).await.expect("it is charged").expose(), CARD);
    let calls = [
        tasks::charge(CARD, 0),
        Call::named("shop.charge", arguments(&json!([PIN, 100]))),
        Call::named("shop.charge", arguments(&json!([CARD, CARD]))),
        Call::named("shop.price", arguments(&json!([[{"name": CARD, "count": PIN, "cents": -1}]]))),
        Call::named("shop.price", arguments(&json!([[{"name": "x", "count": 1, "cents": CARD}]]))),
    ];
    let mut ids = Vec::new();
    for call in calls {
        let handle = call.send(&client).await.expect("it is accepted");
        let failed = handle.get_timeout(BOUND).await.expect_err("it does not fit");
        secrets.assert_unseen("an error", &format!("{failed} {failed:?} {:?}", handle.status().await));
        ids.push(handle.id().to_string());
    }
    let as_number = client.handle::<u8>(charged.id().clone()).get_timeout(BOUND).await;
    let Err(error @ Error::ResultType { .. }) = as_number else { panic!("a text is no number: {as_number:?}") };
    secrets.assert_unseen("an error", &format!("{error} {error:?} {client:?} {:?}", client.settings()));

    let app = App::new(SHOP).servers(&servers).env("RUST_LOG", "trace");
    for line in ["check", "dead list --all", "queues list", "schedule list", "--help", "worker --help"] {
        let finished = app.run(&line.split(' ').collect::<Vec<_>>()).expect_exit(0);
        secrets.assert_unseen_in(line, &finished);
    }
    for id in &ids {
        secrets.assert_unseen_in("a status", &app.run(&["status", id]).expect_exit(0));
        secrets.assert_unseen_in("a result", &app.run(&["result", id]));
    }
    let mistyped = app.run(&["worker", &servers.amqp]).expect_exit(2);
    secrets.assert_unseen_in("a usage", &mistyped);
    let ended = worker.drain();
    assert!(ended.stderr.contains("DEBUG"), "everything was logged: {ended}");
    secrets.assert_unseen_in("a log", &ended);

    // Handed over to the program that has the tasks.
    let mut handed = App::new(SHOP).start(&[&["-A", SHOP, "worker"], &urls[..]].concat());
    handed.wait_until_ready();
    let line = std::fs::read(format!("/proc/{}/cmdline", handed.id())).expect("it runs");
    secrets.assert_unseen("a command line", &String::from_utf8_lossy(&line).replace('\0', " "));
    assert!(secrets.assert_unseen_below(handed.id()) >= 1, "there is the process that runs tasks");
    secrets.assert_unseen_in("a log", &handed.drain());

    // Servers that refuse, and URLs with mistakes.
    for (broker, results) in [
        (servers.amqp.replace(password, &format!("{password}x")), servers.redis.clone()),
        (servers.amqp.clone(), servers.redis.replace(REDIS_PASSWORD, &format!("{REDIS_PASSWORD}x"))),
        (servers.amqp.replace("amqp:", "ampq:"), servers.redis.clone()),
        (servers.amqp.replace("amqp://", "amqp:"), servers.redis.clone()),
        (format!("amqp://{REDIS_PASSWORD}@127.0.0.1:1"), servers.redis.clone()),
        (format!("amqp://guest:{REDIS_PASSWORD}"), servers.redis.clone()),
        (servers.amqp.clone(), format!("redis://127.0.0.1:1/0?password={REDIS_PASSWORD}")),
        (REDIS_PASSWORD.to_owned(), servers.redis.clone()),
    ] {
        let servers = Servers { amqp: broker, redis: results };
        let app = App::new(SHOP).servers(&servers).env("RUST_LOG", "trace");
        for line in ["check", "worker --unsupervised", "queues list"] {
            let finished = app.run(&line.split(' ').collect::<Vec<_>>());
            assert_ne!(finished.exit, 0, "{servers:?}: {finished}");
            secrets.assert_unseen_in(line, &finished);
        }
    }
}

/// These arguments, by position.
fn arguments(list: &Value) -> ArgumentList {
    let list = list.as_array().expect("it is a list");
    ArgumentList::from_json(list, &serde_json::Map::new()).expect("JSON can be written")
}
