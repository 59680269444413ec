//! The whole path with a worker in a process of its own, over real RabbitMQ and Redis: many tasks, delays, bad input.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use taskq::client::DeadEntry;
use taskq::{Client, Error, Handle, TaskId};
use taskq_tests::harness::{App, BOUND, Ledger, Process, Servers, Vhost, now_ms, unique, wait_until};
use taskq_tests::tasks;
use tokio::time::Instant;

/// How many results are waited for side by side.
const WAITING_MAX: usize = 256;

/// A virtual host, a client of it, and the shop.
struct Bench {
    vhost: Vhost,
    client: Client,
}

impl Bench {
    async fn start() -> Option<Self> {
        let vhost = Vhost::create(&Servers::from_env()?)?;
        let client = client(&vhost, &[]).await;
        Some(Self { vhost, client })
    }

    fn shop(&self) -> App {
        App::new(env!("CARGO_BIN_EXE_shop")).servers(&self.vhost.servers)
    }

    /// A worker on these queues that is ready.
    fn worker(&self, shop: &App, queues: &[&str]) -> Process {
        let mut worker = shop.start(&["worker", "-c", "8", "-Q", &queues.join(","), "-l", "warn"]);
        worker.wait_until_ready();
        worker
    }

    async fn raw(&self) -> Channel {
        let url = &self.vhost.servers.amqp;
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
        let channel = connection.create_channel().await.expect("the connection is open");
        // The channel keeps what it needs of its connection.
        std::mem::forget(connection);
        channel
    }
}

async fn client(vhost: &Vhost, settings: &[(&'static str, &str)]) -> Client {
    let mut builder = Client::builder().broker(&vhost.servers.amqp).results(&vhost.servers.redis);
    for (key, value) in settings {
        builder = builder.set(key, *value);
    }
    builder.build().await.expect("the servers are up")
}

/// Asks a worker to end, and checks that it does so in good order.
fn drain(worker: Process) {
    worker.signal("TERM");
    let ended = worker.finish().expect_exit(0);
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}

/// Ten thousand tasks on a queue of this kind: all confirmed, all results right.
async fn ten_thousand(kind: &str) {
    const TASKS: i64 = 10_000;
    let Some(bench) = Bench::start().await else { return };
    let queue = unique(kind);
    let settings = std::env::temp_dir().join(unique("taskq-settings"));
    std::fs::write(&settings, format!("[queues.\"{queue}\"]\nkind = \"{kind}\"\n")).expect("a file can be written");
    let servers = &bench.vhost.servers;
    let client = Client::builder().config_file(&settings).broker(&servers.amqp).results(&servers.redis).build().await;
    let client = client.expect("the servers are up");
    let config = settings.to_str().expect("the temporary folder has a Unicode path");
    let mut worker = bench.shop().start(&["worker", "-c", "8", "-Q", &queue, "-l", "warn", "--config", config]);
    worker.wait_until_ready();

    let report = client.send_all((0..TASKS).map(|n| tasks::add(n, 2 * n).queue(queue.clone()))).await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    let mut sent = BTreeMap::new();
    let waits = report.sent.into_iter().map(|(index, handle)| async move { (index, handle.get_timeout(BOUND).await) });
    let mut results = stream::iter(waits).buffer_unordered(WAITING_MAX);
    while let Some((index, sum)) = results.next().await {
        sent.insert(index, sum.expect("every task succeeds"));
    }
    assert_eq!(sent.len() as i64, TASKS);
    for (index, sum) in sent {
        assert_eq!(sum, 3 * index as i64, "the result of call {index}");
    }
    assert!(!worker.stderr().contains("other arguments"), "the queue is of the kind that was asked for");
    drain(worker);
    assert_eq!(client.broker().stats(&queue).await.expect("it exists").ready, 0);
    drop(std::fs::remove_file(settings));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_over_a_quorum_queue() {
    ten_thousand("quorum").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_over_a_classic_queue() {
    ten_thousand("classic").await;
}

/// How late things were, in words.
fn lateness(what: &str, mut late_ms: Vec<u64>) {
    late_ms.sort_unstable();
    let (half, most) = (late_ms[late_ms.len() / 2], late_ms[late_ms.len() - 1]);
    println!("{what}: {} ran late by {half} ms in the median and {most} ms at most", late_ms.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_runs_before_its_time() {
    const TASKS: usize = 100;
    let Some(bench) = Bench::start().await else { return };
    let (queue, ledger) = (unique("delays"), Ledger::new());
    let worker = bench.worker(&bench.shop(), &[&queue]);
    let note = |line: String| tasks::ledger(ledger.path(), line, 0).queue(queue.clone());

    // What was asked for is known before the call is made, so no clock can excuse an early run.
    let mut asked = BTreeMap::new();
    let mut calls = Vec::new();
    for number in 0..TASKS {
        let (counted, dated) = (format!("countdown {number}"), format!("eta {number}"));
        let delay = Duration::from_millis(2000 + 7 * number as u64);
        let due = chrono::Utc::now() + delay;
        calls.push(note(dated.clone()).eta(due));
        asked.insert(dated, u64::try_from(due.timestamp_millis()).expect("after 1970"));
        asked.insert(counted.clone(), now_ms() + 2000);
        calls.push(note(counted).countdown("2s"));
    }
    bench.client.send_all(calls).await.all().expect("every task is accepted");
    let retried = (0..TASKS)
        .map(|number| tasks::ledger_flaky(ledger.path(), format!("retry {number}"), 0, 2, 700).queue(queue.clone()));
    bench.client.send_all(retried).await.all().expect("every task is accepted");
    let until = now_ms() + 3000;
    let snoozing = (0..TASKS)
        .map(|number| tasks::ledger_snooze(ledger.path(), format!("snooze {number}"), until, 900).queue(queue.clone()));
    let snoozing = bench.client.send_all(snoozing).await.all().expect("every task is accepted");
    for handle in &snoozing {
        handle.get_timeout(BOUND).await.expect("in the end it stops snoozing");
    }
    let entries = wait_until("everything has run", || {
        let entries = ledger.entries();
        let ended = |kind: &str| entries.iter().filter(|entry| entry.line.starts_with(kind)).count();
        let all = ended("countdown") == TASKS && ended("eta") == TASKS && ended("retry") == 3 * TASKS;
        all.then_some(entries)
    });

    let mut late = BTreeMap::<&str, Vec<u64>>::new();
    let mut runs = BTreeMap::<&str, Vec<u64>>::new();
    for entry in &entries {
        let kind = entry.line.split(' ').next().expect("lines begin with their kind");
        let before = runs.entry(&entry.line).or_default();
        let due = match (kind, before.last()) {
            ("retry", Some(last)) => last + 700,
            ("snooze", Some(last)) => last + 900,
            ("retry" | "snooze", None) => entry.at_ms,
            _ => asked[&entry.line],
        };
        assert!(entry.at_ms >= due, "{}: {} ms early", entry.line, due - entry.at_ms);
        late.entry(kind).or_default().push(entry.at_ms - due);
        before.push(entry.at_ms);
    }
    for (line, runs) in &runs {
        let expected = if line.starts_with("retry") {
            3..=3
        } else if line.starts_with("snooze") {
            2..=9
        } else {
            1..=1
        };
        assert!(expected.contains(&runs.len()), "{line} ran {} times", runs.len());
    }
    for (kind, late) in late {
        lateness(kind, late);
    }
    drain(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_time_waits_in_the_broker() {
    const TASKS: u64 = 1000;
    let Some(bench) = Bench::start().await else { return };
    // Of a classic queue the broker's figures are those of the moment.
    let (quorum, classic, ledger) = (unique("quorum"), unique("classic"), Ledger::new());
    bench
        .raw()
        .await
        .queue_declare(classic.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .expect("a new queue can be declared");
    let worker = bench.worker(&bench.shop(), &[&quorum, &classic]);
    let mut due = BTreeMap::new();
    let calls: Vec<_> = (0..TASKS)
        .flat_map(|number| [(number, &quorum), (number, &classic)])
        .map(|(number, queue)| {
            let delay = 8000 + 4 * number;
            let line = format!("{queue} {number}");
            due.insert(line.clone(), now_ms() + delay);
            tasks::ledger(ledger.path(), line, 0).queue(queue.clone()).countdown(Duration::from_millis(delay))
        })
        .collect();
    bench.client.send_all(calls).await.all().expect("every task is accepted");
    let first_due = due.values().min().copied().expect("there are some");
    let (mut samples, mut samples_before) = (0, 0);
    wait_until("everything has run", || {
        let queues = bench.vhost.queues();
        let now = now_ms();
        for queue in [&quorum, &classic] {
            let held = queues[queue].unacked;
            let may_be =
                due.iter().filter(|(line, due)| line.starts_with(queue.as_str()) && **due <= now).count() as u64;
            assert!(held <= may_be, "{queue}: {held} messages are with the worker, and {may_be} are due");
        }
        samples += 1;
        samples_before += usize::from(now < first_due);
        (ledger.entries().len() as u64 == 2 * TASKS).then_some(())
    });
    assert!(samples_before > 0, "nothing was seen while everything waited");
    let entries = ledger.entries();
    let late = entries.iter().map(|entry| {
        let due = due[&entry.line];
        assert!(entry.at_ms >= due, "{}: {} ms early", entry.line, due - entry.at_ms);
        entry.at_ms - due
    });
    println!("{samples} samples, {samples_before} of them before the first task was due");
    lateness("2000 delayed tasks", late.collect());
    drain(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_never_receives_delayed_tasks_of_another_that_ends_like_it() {
    const TASKS: usize = 50;
    let Some(bench) = Bench::start().await else { return };
    let mail = unique("mail");
    let queues = [mail.clone(), format!("eu.{mail}"), format!("x.eu.{mail}")];
    let ledger = Ledger::new();
    let workers = queues.each_ref().map(|queue| bench.worker(&bench.shop(), &[queue]));
    let calls = (0..TASKS).flat_map(|number| {
        let delay = Duration::from_millis(100 + 30 * number as u64);
        let ledger = &ledger;
        queues
            .iter()
            .map(move |queue| tasks::ledger(ledger.path(), queue.as_str(), 0).queue(queue.clone()).countdown(delay))
    });
    let calls: Vec<_> = calls.collect();
    let handles = bench.client.send_all(calls).await.all().expect("every task is accepted");
    for handle in &handles {
        handle.get_timeout(BOUND).await.expect("every task succeeds");
    }
    let entries = ledger.entries();
    assert_eq!(entries.len(), queues.len() * TASKS, "each ran once");
    for (queue, worker) in queues.iter().zip(&workers) {
        let strangers: BTreeSet<_> = entries
            .iter()
            .filter(|entry| entry.pid == worker.id() && entry.line != *queue)
            .map(|entry| &entry.line)
            .collect();
        assert!(strangers.is_empty(), "the worker of {queue} ran tasks of {strangers:?}");
    }
    workers.into_iter().for_each(drain);
}

/// A message as a stranger may send it.
struct Stranger {
    case: &'static str,
    headers: Value,
    content_type: Option<&'static str>,
    content_encoding: &'static str,
    body: Vec<u8>,
}

impl Stranger {
    /// A good call of `shop.add`, but for the body.
    fn body(case: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::headers(case, json!({}), body)
    }

    /// A good call of `shop.add`, but for these headers and the body.
    fn headers(case: &'static str, changes: Value, body: impl Into<Vec<u8>>) -> Self {
        let mut headers = json!({ "task": "shop.add", "id": unique("stranger"), "x-case": case });
        let map = headers.as_object_mut().expect("it is one");
        map.extend(changes.as_object().expect("a map of changes").clone());
        Self { case, headers, content_type: Some("application/json"), content_encoding: "utf-8", body: body.into() }
    }

    fn without(mut self, header: &str) -> Self {
        self.headers.as_object_mut().expect("it is one").remove(header);
        self
    }

    fn content(mut self, content_type: Option<&'static str>, content_encoding: &'static str) -> Self {
        (self.content_type, self.content_encoding) = (content_type, content_encoding);
        self
    }

    fn id(&self) -> Option<TaskId> {
        TaskId::parse(self.headers["id"].as_str()?).ok()
    }

    async fn send(&self, channel: &Channel, queue: &str) {
        let headers = self.headers.as_object().expect("it is one");
        let table: FieldTable =
            headers.iter().map(|(key, value)| (key.as_str().into(), field(value))).collect::<BTreeMap<_, _>>().into();
        let mut properties =
            BasicProperties::default().with_headers(table).with_content_encoding(self.content_encoding.into());
        if let Some(content_type) = self.content_type {
            properties = properties.with_content_type(content_type.into());
        }
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), queue.into(), options, &self.body, properties)
            .await
            .expect("the channel is open");
    }
}

/// A header's value as Python's client would write it.
fn field(value: &Value) -> AMQPValue {
    match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().expect("whole numbers only")),
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(items) => AMQPValue::FieldArray(items.iter().map(field).collect::<Vec<_>>().into()),
        Value::Object(map) => {
            let table: BTreeMap<_, _> = map.iter().map(|(key, value)| (key.as_str().into(), field(value))).collect();
            AMQPValue::FieldTable(table.into())
        }
    }
}

/// What no worker can run: each with the reason and a part of the text that it has to end with.
fn unusable() -> Vec<(Stranger, &'static str, &'static str)> {
    const GOOD: &str = "[[2, 3], {}, {}]";
    let form = "not a list of arguments";
    let deep = |inner: &str| format!("[[{}{inner}{}], {{}}, {{}}]", "[".repeat(100_000), "]".repeat(100_000));
    let echo = || json!({ "task": "shop.echo" });
    vec![
        (Stranger::headers("unknown task", json!({ "task": "nobody.knows" }), GOOD), "unknown-task", "nobody.knows"),
        (Stranger::body("too many", "[[1, 2, 3], {}, {}]"), "arguments", "takes 2 arguments but 3 were given"),
        (Stranger::body("too few", "[[1], {}, {}]"), "arguments", "missing the argument `y: i64`"),
        (Stranger::body("wrong type", "[[1, \"two\"], {}, {}]"), "arguments", "takes `y: i64`, and got \"two\""),
        (
            Stranger::body("too large a number", "[[1, 123456789012345678901234567890], {}, {}]"),
            "arguments",
            "`y: i64`",
        ),
        (Stranger::body("unknown name", "[[1], {\"z\": 1}, {}]"), "arguments", "no parameter `z`"),
        (
            Stranger::body("a typed value", "[[1, {\"__type__\": \"moon\", \"__value__\": 1}], {}, {}]"),
            "arguments",
            "`y: i64`",
        ),
        (Stranger::body("20 MB", format!("[[1, \"{}\"], {{}}, {{}}]", "x".repeat(20 << 20))), "arguments", "`y: i64`"),
        (Stranger::body("truncated", "[[1, 2], {}"), "decode", form),
        (Stranger::body("20 MB, truncated", format!("[[1, \"{}", "x".repeat(20 << 20))), "decode", form),
        (Stranger::body("empty", ""), "decode", form),
        (Stranger::body("garbage", vec![0xff, 0x00, 0x80, 0xfe, 0x9d]), "decode", form),
        (Stranger::body("no UTF-8", b"[[\"\xff\xfe\", 2], {}, {}]".to_vec()), "decode", ""),
        (Stranger::body("two elements", "[[1, 2], {}]"), "decode", form),
        (Stranger::body("four elements", "[[1, 2], {}, {}, {}]"), "decode", form),
        (Stranger::body("a number", "7"), "decode", form),
        (Stranger::body("a map", "{\"args\": [1, 2]}"), "decode", form),
        (Stranger::body("arguments are no list", "[{}, {}, {}]"), "decode", form),
        (Stranger::body("named arguments are no map", "[[], [], {}]"), "decode", form),
        (Stranger::headers("deep", echo(), deep("")), "arguments", "recursion limit"),
        (
            Stranger::headers("deep and typed", echo(), deep("{\"__type__\": \"uuid\", \"__value__\": NaN}")),
            "decode",
            form,
        ),
        (
            Stranger::body("YAML", "- 1").content(Some("application/x-yaml"), "utf-8"),
            "decode",
            "\"application/x-yaml\" is not understood",
        ),
        (
            Stranger::body("pickle", vec![0x80, 0x02, b'.']).content(Some("application/x-python-serialize"), "binary"),
            "decode",
            "is not understood",
        ),
        (Stranger::body("no content type", GOOD).content(None, "utf-8"), "decode", "content type"),
        (
            Stranger::body("UTF-16", GOOD).content(Some("application/json"), "utf-16"),
            "decode",
            "\"utf-16\" is not understood",
        ),
        (
            Stranger::body("broken msgpack", vec![0x93, 0xc1]).content(Some("application/x-msgpack"), "binary"),
            "decode",
            form,
        ),
        (
            Stranger::headers("brotli", json!({ "compression": "application/x-brotli" }), GOOD),
            "decode",
            "application/x-brotli",
        ),
        (Stranger::headers("no gzip", json!({ "compression": "application/x-gzip" }), GOOD), "decode", "decompressed"),
        (Stranger::body("no id", GOOD).without("id"), "decode", "`id` is missing"),
        (Stranger::headers("null id", json!({ "id": null }), GOOD), "decode", "`id` is missing"),
        (Stranger::headers("empty id", json!({ "id": "" }), GOOD), "decode", "`id` is \"\""),
        (Stranger::headers("a number as id", json!({ "id": 7 }), GOOD), "decode", "`id` is 7"),
        (Stranger::body("no task", GOOD).without("task"), "decode", "no header `task`"),
        (
            Stranger::headers("a list as task", json!({ "task": ["shop.add"] }), GOOD),
            "decode",
            "`task` is [\"shop.add\"]",
        ),
        (Stranger::headers("short timelimit", json!({ "timelimit": [1] }), GOOD), "decode", "`timelimit` is [1]"),
        (Stranger::headers("long timelimit", json!({ "timelimit": [1, 2, 3] }), GOOD), "decode", "`timelimit`"),
        (Stranger::headers("negative timelimit", json!({ "timelimit": [-1, null] }), GOOD), "decode", "`timelimit`"),
        (Stranger::headers("eta in words", json!({ "eta": "tomorrow" }), GOOD), "decode", "`eta` is \"tomorrow\""),
        (Stranger::headers("eta as a number", json!({ "eta": 1_800_000_000 }), GOOD), "decode", "`eta` is 1800000000"),
        (Stranger::headers("expires in words", json!({ "expires": "never" }), GOOD), "decode", "`expires`"),
        (Stranger::headers("negative retries", json!({ "retries": -1 }), GOOD), "decode", "`retries` is -1"),
        (
            Stranger::headers("large headers", json!({ "x-large": "y".repeat(40_000) }), "[[1], {}, {}]"),
            "arguments",
            "missing the argument `y: i64`",
        ),
    ]
}

/// What looks odd and is to be understood: each with the result.
fn odd() -> Vec<(Stranger, Value)> {
    let nulls = json!({
        "lang": null, "shadow": null, "eta": null, "expires": null, "group": null, "group_index": null, "retries": null,
        "timelimit": null, "root_id": null, "parent_id": null, "argsrepr": null, "kwargsrepr": null, "origin": null,
        "ignore_result": null, "stamped_headers": null, "stamps": {}, "replaced_task_nesting": 0,
    });
    let echo = || json!({ "task": "shop.echo" });
    vec![
        (Stranger::headers("all nulls", nulls, "[[2, 3], {}, {}]"), json!(5)),
        (Stranger::headers("null limits", json!({ "timelimit": [null, null] }), "[[2, 3], {}, {}]"), json!(5)),
        (Stranger::body("null named arguments", "[[2, 3], null, {}]"), json!(5)),
        (Stranger::body("null embed", "[[2, 3], {}, null]"), json!(5)),
        (Stranger::body("empty chain", "[[2, 3], {}, {\"chain\": [], \"callbacks\": null}]"), json!(5)),
        (Stranger::body("by name", "[[], {\"y\": 3, \"x\": 2}, {}]"), json!(5)),
        (Stranger::headers("not a number", echo(), "[[NaN], {}, {}]"), json!(null)),
        (Stranger::headers("unicode", echo(), r#"[["\u00e4\ud83d\ude00"], {}, {}]"#), json!("ä😀")),
        (Stranger::headers("half a pair", echo(), r#"[["\ud83d"], {}, {}]"#), json!("\u{fffd}")),
        (
            Stranger::headers(
                "unknown headers",
                json!({ "x-tenant": "t1", "x-deep": { "a": [1, null] } }),
                "[[2, 3], {}, {}]",
            ),
            json!(5),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_ends_in_the_dead_set_and_the_worker_goes_on() {
    let Some(bench) = Bench::start().await else { return };
    let queue = unique("strangers");
    let worker = bench.worker(&bench.shop().env("TASKQ_UNKNOWN_TASK_GRACE", "2s"), &[&queue]);
    let channel = bench.raw().await;
    let (unusable, odd) = (unusable(), odd());
    for stranger in unusable.iter().map(|(stranger, ..)| stranger).chain(odd.iter().map(|(stranger, _)| stranger)) {
        stranger.send(&channel, &queue).await;
    }
    for (stranger, expected) in &odd {
        let handle: Handle<Value> = bench.client.handle(stranger.id().expect("it has one"));
        let result = handle.get_timeout(BOUND).await;
        assert_eq!(result.as_ref().ok(), Some(expected), "{}: {result:?}", stranger.case);
    }
    let dead = dead(&bench, unusable.len()).await;
    for (stranger, reason, text) in &unusable {
        let case = stranger.case;
        let entry = dead.get(case).unwrap_or_else(|| panic!("{case} is not in the dead set"));
        let letter = &entry.letter;
        assert_eq!(
            (letter.reason.as_str(), letter.queue.as_str()),
            (*reason, queue.as_str()),
            "{case}: {}",
            letter.error
        );
        assert!(letter.error.contains(text), "{case}: {}", letter.error);
        assert!(!letter.error.is_empty() && letter.error.chars().count() <= 2000, "{case}: {}", letter.error);
        assert_eq!(entry.message.body.len(), stranger.body.len(), "{case}: the message is kept as it came");
        let Some(id) = stranger.id() else { continue };
        let outcome = bench.client.handle::<Value>(id).get_timeout(BOUND).await;
        let Err(Error::Failed { failure, .. }) = outcome else { panic!("{case} ends in FAILURE, not {outcome:?}") };
        assert!(failure.message().contains(text), "{case}: {failure}");
        assert!(failure.message().len() < 100_000, "{case}: {} bytes of error", failure.message().len());
    }
    let about = tasks::about().queue(queue.clone()).send(&bench.client).await.expect("it is accepted");
    let about = about.get_timeout(BOUND).await.expect("the worker goes on");
    assert_eq!(about["pid"], worker.id(), "the same process as before");
    drain(worker);
    assert_eq!(bench.client.broker().stats(&queue).await.expect("it exists").ready, 0);
}

/// The dead messages by their cases, once there are so many.
async fn dead(bench: &Bench, count: usize) -> BTreeMap<String, DeadEntry> {
    let deadline = Instant::now() + BOUND;
    loop {
        let entries = bench.client.dead().list(usize::MAX).await.expect("the dead set can be read");
        let case = |entry: &DeadEntry| entry.message.headers.text("x-case").unwrap_or_default().to_owned();
        let by_case: BTreeMap<_, _> = entries.into_iter().map(|entry| (case(&entry), entry)).collect();
        if by_case.len() >= count {
            return by_case;
        }
        assert!(Instant::now() < deadline, "only these are dead: {:?}", by_case.keys());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_by_the_client() {
    let Some(bench) = Bench::start().await else { return };
    let refused = tasks::letter("x".repeat(20 << 20)).send(&bench.client).await;
    let Err(Error::Publish(error)) = refused else { panic!("20 MB are too much: {refused:?}") };
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_call_is_sent_once_whichever_clients_race() {
    const ROUNDS: usize = 20;
    let Some(bench) = Bench::start().await else { return };
    let (queue, ledger) = (unique("unique"), Ledger::new());
    let worker = bench.worker(&bench.shop(), &[&queue]);
    let other = client(&bench.vhost, &[]).await;
    for round in 0..ROUNDS {
        let key = unique("key");
        let call = || tasks::ledger(ledger.path(), round.to_string(), 0).queue(queue.clone()).unique(key.clone(), "1h");
        let racing = (0..10).map(|racer| call().send(if racer % 2 == 0 { &bench.client } else { &other }));
        let handles = futures_util::future::join_all(racing).await;
        let ids: BTreeSet<_> =
            handles.into_iter().map(|handle| handle.expect("each has a handle").id().to_string()).collect();
        assert_eq!(ids.len(), 1, "one task for all of them: {ids:?}");
        let first = call().send(&other).await.expect("it has a handle");
        first.get_timeout(BOUND).await.expect("it succeeds");
        let late = call().send(&bench.client).await.expect("it has a handle");
        assert!(ids.contains(late.id().as_str()), "the finished one has the key");
    }
    let counts = ledger.counts();
    assert_eq!((counts.len(), counts.values().max()), (ROUNDS, Some(&1)), "{counts:?}");
    drain(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_may_be_written_as_msgpack() {
    let Some(bench) = Bench::start().await else { return };
    let queue = unique("msgpack");
    let client = client(&bench.vhost, &[("serializer", "msgpack")]).await;
    // Before there is a worker, the message can be looked at.
    let value = json!({ "text": "ä😀\u{0}", "numbers": [0, -1, u64::MAX, i64::MIN, 0.1], "nested": { "none": null, "flags": [true, false] } });
    let echo = tasks::echo(value.clone()).queue(queue.clone()).send(&client).await.expect("it is accepted");
    let browse = client.broker().browse(&queue, 1).await.expect("the queue exists");
    assert_eq!(browse.deliveries[0].message.properties.content_type.as_deref(), Some("application/x-msgpack"));
    browse.finish().await;
    let worker = bench.worker(&bench.shop(), &[&queue]);
    assert_eq!(echo.get_timeout(BOUND).await.expect("it succeeds"), value);
    let items = vec![tasks::Item { name: "tea".to_owned(), count: 3, cents: 250 }];
    let price = tasks::price(items).queue(queue.clone()).send(&client).await.expect("it is accepted");
    assert_eq!(price.get_timeout(BOUND).await.expect("it succeeds"), 750);
    // A retry passes the body on.
    let flaky = tasks::flaky(2, 10).queue(queue.clone()).send(&client).await.expect("it is accepted");
    assert_eq!(flaky.get_timeout(BOUND).await.expect("the third attempt succeeds"), 2);
    drain(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_exists_with_other_arguments_is_named() {
    // The broker names the first of several.
    const NAMED: &str = "`x-dead-letter-exchange` is none, asked for";
    let Some(bench) = Bench::start().await else { return };
    let queue = unique("other");
    let channel = bench.raw().await;
    channel
        .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .expect("a new queue can be declared");
    let mut worker = bench.worker(&bench.shop(), &[&queue]);
    worker.wait_for("the difference is named", |worker| {
        let log = worker.stderr();
        (log.contains(&queue) && log.contains(NAMED)).then_some(())
    });
    let sum = tasks::add(2, 3).queue(queue.clone()).send(&bench.client).await.expect("the queue is used as it is");
    assert_eq!(sum.get_timeout(BOUND).await.expect("it succeeds"), 5);
    let late = tasks::add(3, 4).queue(queue.clone()).countdown("200ms").send(&bench.client).await.expect("accepted");
    assert_eq!(late.get_timeout(BOUND).await.expect("delays reach it, too"), 7);
    drain(worker);

    let strict = bench.shop().env("TASKQ_STRICT", "true").run(&["worker", "-Q", &queue]);
    assert_ne!(strict.exit, 0, "{strict}");
    assert!(strict.stderr.contains(&queue) && strict.stderr.contains(NAMED), "{strict}");
}
