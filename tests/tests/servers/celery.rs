//! Real Celery on the other side: Python calls our tasks, and we call Python's.

use std::path::Path;

use serde_json::{Value, json};
use taskq::{Client, Error, TaskId, TaskState, python, task};
use taskq_tests::harness::{App, BOUND, Ledger, Process, Servers, Vhost, now_ms, unique, wait_until};
use taskq_tests::tasks;

/// Tasks that live in `python/proj.py`.
mod proj {
    use std::collections::BTreeMap;

    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    use serde::{Deserialize, Serialize};

    use super::{Value, python, task};

    /// The types that JSON has no form for, as Rust has them.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Typed {
        pub moment: DateTime<Utc>,
        pub local: NaiveDateTime,
        pub day: NaiveDate,
        pub time: NaiveTime,
        pub uuid: String,
        pub decimal: String,
        pub text: Vec<u8>,
        pub bytes: [u8; 2],
        pub big: u128,
        pub float: f64,
    }

    /// Values that MessagePack has a form for.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Packed {
        pub bytes: Vec<u8>,
        pub float: f64,
        pub keys: BTreeMap<i64, String>,
    }

    #[task(name = "proj.add")]
    pub async fn add(x: i64, y: i64) -> i64;

    #[task(name = "proj.boom")]
    pub async fn boom(msg: String);

    #[task(name = "proj.slow_progress")]
    pub async fn slow_progress(total: u64) -> u64;

    #[task(name = "proj.echo")]
    pub async fn echo(value: Value) -> Value;

    #[task(name = "proj.typed")]
    pub async fn typed() -> Typed;

    #[task(name = "proj.packed")]
    pub async fn packed() -> Packed;

    #[task(name = "proj.not_a_number")]
    pub async fn not_a_number() -> Vec<Option<f64>>;

    #[task(name = "proj.kinds")]
    pub async fn kinds(
        moment: python::Datetime<DateTime<Utc>>,
        day: python::Date<NaiveDate>,
        time: python::Time<NaiveTime>,
        uuid: python::Uuid<String>,
        decimal: python::Decimal<String>,
        bytes: python::Bytes<Vec<u8>>,
        plain: (NaiveDate, u128),
    ) -> Vec<(String, String)>;

    #[task(name = "proj.retry_once")]
    pub async fn retry_once(countdown: u32) -> u32;
}

/// A virtual host, and a Python with Celery.
struct Fixture {
    vhost: Vhost,
    python: String,
}

impl Fixture {
    fn start() -> Option<Self> {
        let servers = Servers::from_env()?;
        let Some(python) = std::env::var("TASKQ_TEST_PYTHON").ok().filter(|python| !python.is_empty()) else {
            let required = std::env::var("TASKQ_TEST_REQUIRE_SERVERS").is_ok_and(|required| required == "1");
            assert!(!required, "TASKQ_TEST_PYTHON names no Python with Celery");
            println!("skipped: export TASKQ_TEST_PYTHON=$(scripts/python-env)");
            return None;
        };
        Some(Self { vhost: Vhost::create(&servers)?, python })
    }

    /// A Python that finds `proj`.
    fn python(&self) -> App {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
        App::new(&self.python)
            .folder(folder)
            .env("CELERY_BROKER_URL", &self.vhost.servers.amqp)
            .env("CELERY_RESULT_BACKEND", &self.vhost.servers.redis)
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }

    /// The outcome of a call by real Celery.
    fn call(&self, request: &Value) -> Value {
        self.python().run(&["caller.py", &request.to_string()]).expect_exit(0).json()
    }

    /// The output of a program in Python, as JSON. It finds `app` and `queue`.
    fn script(&self, queue: &str, code: &str) -> Value {
        let head = "import json, datetime, decimal, uuid\nfrom caller import app, existing_queue\n";
        let code = format!("{head}queue = existing_queue({queue:?})\n{code}");
        self.python().run(&["-c", &code]).expect_exit(0).json()
    }

    /// A worker of Celery's, on the queue `celery`, that is ready.
    fn celery_worker(&self) -> Process {
        self.celery_worker_with("json")
    }

    /// A worker of Celery's that writes results with this serializer.
    fn celery_worker_with(&self, result_serializer: &str) -> Process {
        let arguments = ["-m", "celery", "-A", "proj", "worker", "--pool", "solo", "-l", "info", "--without-mingle"];
        let mut worker = self.python().env("PROJ_RESULT_SERIALIZER", result_serializer).start(&arguments);
        worker.wait_for("Celery's worker is ready", |worker| worker.stderr().contains(" ready.").then_some(()));
        worker
    }

    /// A worker of ours that is ready.
    fn shop_worker(&self, queue: &str) -> Process {
        let shop = App::new(env!("CARGO_BIN_EXE_shop")).servers(&self.vhost.servers);
        let mut worker = shop.start(&["worker", "-c", "4", "-Q", queue, "-l", "warn"]);
        worker.wait_until_ready();
        worker
    }

    /// A client of ours whose calls go to the queue `celery`.
    async fn client(&self) -> Client {
        let servers = &self.vhost.servers;
        let builder = Client::builder().broker(&servers.amqp).results(&servers.redis).default_queue("celery");
        builder.build().await.expect("the servers are up")
    }
}

#[test]
fn python_calls_our_tasks_and_reads_what_became_of_them() {
    let Some(fixture) = Fixture::start() else { return };
    let queue = unique("shop");
    let worker = fixture.shop_worker(&queue);

    let sum = fixture.call(&json!({ "task": "shop.add", "args": [2, 3], "queue": queue }));
    assert_eq!((&sum["status"], &sum["result"]), (&json!("SUCCESS"), &json!(5)), "{sum}");
    let named = json!({ "task": "shop.greet", "args": ["Ada"], "kwargs": { "greeting": "Grüß Gott" }, "queue": queue });
    assert_eq!(fixture.call(&named)["result"], "Grüß Gott, Ada");

    let failed = fixture.call(&json!({ "task": "shop.fail", "args": ["no tea"], "queue": queue }));
    assert_eq!((&failed["status"], &failed["exc_args"]), (&json!("FAILURE"), &json!(["no tea"])), "{failed}");
    assert_eq!((&failed["exc_message"], &failed["exc_type"]), (&json!("no tea"), &json!("TaskError")), "{failed}");
    let wrong = fixture.call(&json!({ "task": "shop.add", "args": [2, "three"], "queue": queue }));
    assert_eq!((&wrong["status"], &wrong["exc_type"]), (&json!("FAILURE"), &json!("TypeError")), "{wrong}");
    assert_eq!(wrong["exc_module"], "builtins", "{wrong}");
    assert!(wrong["exc_message"].as_str().is_some_and(|text| text.contains("`y: i64`")), "{wrong}");
    let panicked = fixture.call(&json!({ "task": "shop.panic", "args": ["no milk"], "queue": queue }));
    assert!(panicked["exc_message"].as_str().is_some_and(|text| text.contains("no milk")), "{panicked}");

    let request = json!({ "task": "shop.progress", "args": [4, 300], "queue": queue, "collect_states": true });
    let slow = fixture.call(&request);
    assert_eq!(slow["result"], 4, "{slow}");
    let states = slow["states"].as_array().expect("the states are a list");
    let progress: Vec<_> = states.iter().filter(|state| state["status"] == "PROGRESS").collect();
    assert!(!progress.is_empty(), "Celery saw no progress: {slow}");
    for state in progress {
        let (current, total) = (state["result"]["current"].as_u64(), state["result"]["total"].as_u64());
        assert!(current.is_some_and(|current| (1..=4).contains(&current)) && total == Some(4), "{slow}");
    }
    // Its log holds the panic that was asked for.
    worker.signal("TERM");
    worker.finish().expect_exit(0);
}

#[test]
fn pythons_options_and_values_are_understood() {
    let Some(fixture) = Fixture::start() else { return };
    let queue = unique("shop");
    let worker = fixture.shop_worker(&queue);
    let ledger = Ledger::new();

    for options in [
        json!({ "compression": "gzip" }),
        json!({ "serializer": "msgpack" }),
        json!({ "serializer": "msgpack", "compression": "gzip" }),
    ] {
        let value = json!({ "text": "ä😀".repeat(500), "none": null, "numbers": [1, -2, 0.5] });
        let echo = fixture.call(&json!({ "task": "shop.echo", "args": [value], "queue": queue, "options": options }));
        assert_eq!(echo["result"], value, "{options}");
    }

    let typed = fixture.script(
        &queue,
        "value = [datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), uuid.UUID(int=5),\n\
         \x20        decimal.Decimal('1.10'), b'\\x01\\x02', 985.6906946328695, 10 ** 15]\n\
         echo = app.send_task('shop.echo', [value], queue=queue).get(timeout=30)\n\
         total = app.send_task('shop.sum', [b'\\x01\\x02\\xff'], queue=queue).get(timeout=30)\n\
         print(json.dumps([echo, total]))",
    );
    let expected = json!([
        [
            "2025-01-02T03:04:05+00:00",
            "00000000-0000-0000-0000-000000000005",
            "1.10",
            [1, 2],
            985.690_694_632_869_5,
            1_000_000_000_000_000_i64
        ],
        258
    ]);
    assert_eq!(typed, expected);

    // What a type has no room for is refused by name, with either serializer, and what it has room for is exact.
    let numbers = fixture.script(
        &queue,
        "def outcome(name, *args, **options):\n\
         \x20   try: return app.send_task(name, args, queue=queue, **options).get(timeout=30)\n\
         \x20   except Exception as error: return str(error)\n\
         print(json.dumps([str(outcome('shop.double', 2 ** 100)), str(outcome('shop.double', -2 ** 100, uuid.UUID(int=5))),\n\
         \x20   outcome('shop.double', 2 ** 50, serializer='msgpack'), outcome('shop.echo', {'a': [2 ** 100]}),\n\
         \x20   outcome('shop.echo', float('nan')), outcome('shop.echo', [float('-inf')], serializer='msgpack'),\n\
         \x20   outcome('shop.echo', '\\udc80'), outcome('shop.sum', b'\\xff', serializer='msgpack')]))",
    );
    assert_eq!(numbers[0], "[2535301200456458802993406410752, None]");
    assert_eq!(numbers[1], "[-2535301200456458802993406410752, '00000000-0000-0000-0000-000000000005']");
    assert_eq!((&numbers[2], &numbers[7]), (&json!([1_u64 << 51, null]), &json!(255)), "{numbers}");
    for (index, name) in [(3, "more than 64 bits"), (4, "NaN"), (5, "-Infinity"), (6, "not Unicode")] {
        let error = numbers[index].as_str().unwrap_or_else(|| panic!("it is an error: {numbers}"));
        assert!(error.contains(name) && error.contains("`value: Value`"), "{error}");
    }

    let countdown = || json!({ "countdown": 3 });
    let eta = || json!({ "eta": chrono::Utc::now() + chrono::TimeDelta::seconds(3) });
    for options in [&countdown as &dyn Fn() -> Value, &eta] {
        let asked = now_ms();
        let options = options();
        let line = options.to_string();
        let request =
            json!({ "task": "shop.ledger", "args": [ledger.path(), line, 0], "queue": queue, "options": options });
        let late = fixture.call(&request);
        assert_eq!(late["status"], "SUCCESS", "{late}");
        let ran = ledger.entries().into_iter().find(|entry| entry.line == line).expect("it has run");
        assert!(ran.at_ms >= asked + 3000, "{options}: {} ms after it was asked for", ran.at_ms - asked);
    }
    let options = json!({ "countdown": 1.5, "expires": 0.5 });
    let expired = fixture.call(&json!({ "task": "shop.add", "args": [1, 1], "queue": queue, "options": options }));
    assert_eq!(
        (&expired["status"], &expired["exc_type"]),
        (&json!("REVOKED"), &json!("TaskRevokedError")),
        "{expired}"
    );

    let options = json!({ "ignore_result": true });
    let request = json!({ "task": "shop.ledger", "args": [ledger.path(), "ignored", 0], "queue": queue, "options": options, "timeout": 0 });
    let ignored = fixture.call(&request);
    wait_until("it has run", || ledger.counts().contains_key("ignored").then_some(()));
    let limited = json!({ "time_limit": 1, "soft_time_limit": 1 });
    let late = fixture.call(&json!({ "task": "shop.slow", "args": [60_000], "queue": queue, "options": limited }));
    assert_eq!((&late["status"], &late["exc_type"]), (&json!("FAILURE"), &json!("TimeLimitExceeded")), "{late}");
    // After its end everything has been written that ever will be.
    worker.drain();
    let id = ignored["task_id"].as_str().expect("it has an id");
    let mut redis = redis::Client::open(&*fixture.vhost.servers.redis)
        .and_then(|client| client.get_connection())
        .expect("Redis is up");
    let stored: bool =
        redis::cmd("EXISTS").arg(format!("celery-task-meta-{id}")).query(&mut redis).expect("Redis answers");
    assert!(!stored, "no result was wanted");
}

/// Everything that our client can see of Python's tasks.
async fn call_python(client: &Client) {
    let sum = proj::add(2, 3).send(client).await.expect("it is accepted");
    assert_eq!(sum.get_timeout(BOUND).await.expect("it succeeds"), 5);
    let status = sum.status().await.expect("there is a backend");
    assert_eq!(status.state, TaskState::Success);

    let value = json!({ "text": "ä😀", "list": [1, null, true, 0.5] });
    let echo = proj::echo(value.clone()).send(client).await.expect("it is accepted");
    assert_eq!(echo.get_timeout(BOUND).await.expect("it succeeds"), json!({ "args": [value], "kwargs": {} }));

    let boom = proj::boom("no tea").send(client).await.expect("it is accepted");
    let Err(Error::Failed { failure, .. }) = boom.get_timeout(BOUND).await else { panic!("it fails") };
    assert_eq!((failure.exc_type.as_str(), failure.exc_module.as_deref()), ("ValueError", Some("builtins")));
    assert_eq!(failure.exc_message, [json!("no tea"), json!(42)]);

    let typed = proj::typed().send(client).await.expect("it is accepted").get_timeout(BOUND).await;
    let expected = json!({
        "moment": "2025-01-02T03:04:05.678901Z",
        "local": "2025-01-02T03:04:05",
        "day": "2025-01-02",
        "time": "03:04:05",
        "uuid": "00000000-0000-0000-0000-000000000005",
        "decimal": "1.50",
        "text": "grüße".as_bytes(),
        "bytes": [255, 0],
        "big": 0,
        "float": 985.690_694_632_869_5,
    });
    let expected: proj::Typed = serde_json::from_value(expected).expect("it is one");
    let typed = typed.expect("every type is read");
    assert_eq!(typed, proj::Typed { big: 1 << 100, ..expected });
    let kinds = proj::kinds(
        python::Datetime(typed.moment),
        python::Date(typed.day),
        python::Time(typed.time),
        python::Uuid(typed.uuid),
        python::Decimal(typed.decimal),
        python::Bytes(typed.bytes.to_vec()),
        (typed.day, typed.big),
    );
    let kinds = kinds.send(client).await.expect("it is accepted").get_timeout(BOUND).await.expect("it succeeds");
    let expected = [
        ("datetime", "2025-01-02 03:04:05.678901+00:00"),
        ("date", "2025-01-02"),
        ("time", "03:04:05"),
        ("UUID", "00000000-0000-0000-0000-000000000005"),
        ("Decimal", "1.50"),
        ("bytes", r"b'\xff\x00'"),
        ("list", "['2025-01-02', 1267650600228229401496703205376]"),
    ];
    assert_eq!(kinds, expected.map(|(kind, shown)| (kind.to_owned(), shown.to_owned())));
    let none = proj::not_a_number().send(client).await.expect("it is accepted").get_timeout(BOUND).await;
    let Err(Error::ResultType { source, .. }) = none else { panic!("null is another value: {none:?}") };
    assert!(source.to_string().contains("NaN"), "{source}");

    let slow = proj::slow_progress(10).send(client).await.expect("it is accepted");
    let mut updates = slow.watch().await.expect("there is a backend");
    let mut seen = Vec::new();
    while let Some(status) = tokio::time::timeout(BOUND, updates.next()).await.expect("updates keep coming") {
        let status = status.expect("JSON can be read");
        seen.extend(status.progress.map(|progress| (progress.current, progress.total)));
    }
    assert_eq!(slow.get_timeout(BOUND).await.expect("it succeeds"), 10);
    assert!(seen.len() >= 2 && seen.is_sorted() && seen.iter().all(|(_, total)| *total == 10), "{seen:?}");

    let late = proj::add(1, 1).countdown("1s").send(client).await.expect("it is accepted");
    assert_eq!(late.get_timeout(BOUND).await.expect("it succeeds"), 2);
    let retried = proj::retry_once(1).send(client).await.expect("it is accepted");
    assert_eq!(retried.get_timeout(BOUND).await.expect("the second attempt succeeds"), 1);

    let wrong = client.handle::<String>(sum.id().clone()).get_timeout(BOUND).await;
    assert!(matches!(wrong, Err(Error::ResultType { .. })), "5 is no text: {wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn we_call_python_after_its_worker_has_made_the_queue() {
    let Some(fixture) = Fixture::start() else { return };
    let _worker = fixture.celery_worker();
    call_python(&fixture.client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_call_python_before_its_worker_has_made_the_queue() {
    let Some(fixture) = Fixture::start() else { return };
    let client = fixture.client().await;
    let early = proj::add(20, 22).send(&client).await.expect("it is accepted");
    let worker = fixture.celery_worker();
    assert_eq!(early.get_timeout(BOUND).await.expect("it succeeds"), 42);
    call_python(&client).await;
    assert!(!worker.stderr().contains("PRECONDITION_FAILED"), "{}", worker.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_declare_the_queue_celery() {
    let Some(fixture) = Fixture::start() else { return };
    // Python names no queue, so it declares `celery` and its exchange, as it does by itself.
    let request = json!({ "task": "shop.add", "args": [2, 3] });
    let sent = fixture.call(&json!({ "task": "shop.add", "args": [20, 22], "timeout": 0 }));
    let worker = fixture.shop_worker("celery");
    let client = fixture.client().await;
    let id = TaskId::parse(sent["task_id"].as_str().expect("it has an id")).expect("a good one");
    assert_eq!(client.handle::<i64>(id).get_timeout(BOUND).await.expect("it succeeds"), 42);
    assert_eq!(fixture.call(&request)["result"], 5);
    let ours = tasks::flaky(1, 100).send(&client).await.expect("it is accepted");
    assert_eq!(ours.get_timeout(BOUND).await.expect("retries come back to it"), 1);
    assert!(!worker.stderr().contains("other arguments"), "{}", worker.stderr());
    worker.drain();
    // And the other way round: ours was first.
    let Some(fixture) = Fixture::start() else { return };
    let _worker = fixture.shop_worker("celery");
    assert_eq!(fixture.call(&request)["result"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_another_serializer_are_read_or_named_at_once() {
    let Some(fixture) = Fixture::start() else { return };
    let client = fixture.client().await;
    let packing = fixture.celery_worker_with("msgpack");
    let packed = proj::packed().send(&client).await.expect("it is accepted").get_timeout(BOUND).await;
    let expected =
        proj::Packed { bytes: vec![255, 0], float: 985.690_694_632_869_5, keys: [(1, "one".to_owned())].into() };
    assert_eq!(packed.expect("MessagePack is read"), expected);
    drop(packing);
    let handle = proj::add(2, 3).send(&client).await.expect("it is accepted");
    let mut updates = handle.watch().await.expect("nothing is stored yet");
    let pickling = fixture.celery_worker_with("pickle");
    let waited = handle.get_timeout(BOUND).await.expect_err("only Python reads a pickle");
    let update = updates.next().await.expect("it ends with the reason").expect_err("only Python reads a pickle");
    let status = handle.status().await.expect_err("only Python reads a pickle");
    let later = handle.get_timeout(BOUND).await.expect_err("only Python reads a pickle");
    for error in [waited, update, status, later] {
        assert!(error.to_string().contains("`result_serializer = \"pickle\"`"), "{error}");
    }
    assert!(updates.next().await.is_none());
    drop(pickling);
}

#[test]
fn celerys_tools_ask_our_workers_and_revoke_our_tasks() {
    let Some(fixture) = Fixture::start() else { return };
    let queue = unique("shop");
    let worker = fixture.shop_worker(&queue);
    let python = fixture.celery_worker();
    let seen = fixture.script(
        &queue,
        "import time\n\
         from celery.exceptions import TaskRevokedError\n\
         slow = app.send_task('shop.slow', [3600000], queue=queue)\n\
         later = app.send_task('shop.add', [1, 2], queue=queue, countdown=3600)\n\
         inspect = app.control.inspect(timeout=10, limit=2)\n\
         def ours(answers): return next((value for node, value in (answers or {}).items() if node.startswith('taskq@')), None)\n\
         while not ours(inspect.active()): time.sleep(0.1)\n\
         seen = {name: ours(getattr(inspect, name)()) for name in\n\
         \x20   ['ping', 'active', 'reserved', 'scheduled', 'registered', 'stats', 'active_queues', 'conf', 'report', 'clock']}\n\
         seen['query_task'] = ours(inspect.query_task(slow.id))\n\
         seen['nodes'] = sorted(node.split('@')[0] for node in inspect.ping())\n\
         seen['refused'] = app.control.pool_grow(1, reply=True, timeout=10, limit=2)\n\
         seen['told'] = app.control.revoke([slow.id, later.id], reply=True, timeout=10, limit=2)\n\
         def end(result):\n\
         \x20   try: return result.get(timeout=30)\n\
         \x20   except TaskRevokedError as error: return [result.status, str(error)]\n\
         seen['ends'] = [end(slow), end(later)]\n\
         while ours(inspect.active()): time.sleep(0.1)\n\
         seen['revoked'] = set(ours(inspect.revoked())) >= {slow.id, later.id}\n\
         seen['slow'] = slow.id\n\
         print(json.dumps(seen))",
    );
    assert_eq!(seen["nodes"], json!(["celery", "taskq"]), "{seen}");
    assert_eq!(seen["ping"], json!({"ok": "pong"}));
    let active = &seen["active"][0];
    assert_eq!(
        (&active["id"], &active["name"], &active["args"]),
        (&seen["slow"], &json!("shop.slow"), &json!([3_600_000]))
    );
    assert_eq!(active["delivery_info"]["routing_key"], queue);
    assert_eq!((&seen["reserved"], &seen["scheduled"]), (&json!([]), &json!([])));
    assert!(seen["registered"].as_array().is_some_and(|all| all.contains(&json!("shop.add"))), "{seen}");
    assert_eq!(
        (&seen["stats"]["pool"]["max-concurrency"], &seen["active_queues"][0]["name"]),
        (&json!(4), &json!(queue))
    );
    assert!(seen["conf"]["broker_url"].as_str().is_some_and(|url| url.starts_with("amqp://")), "{seen}");
    assert!(seen["report"]["ok"].as_str().is_some_and(|text| text.contains("RabbitMQ")), "{seen}");
    assert_eq!(seen["query_task"][seen["slow"].as_str().unwrap_or_default()][0], "active", "{seen}");
    let of_ours = |answers: &Value| {
        let all = answers.as_array().into_iter().flatten().filter_map(Value::as_object).flatten();
        let mut ours = all.filter(|(node, _)| node.starts_with("taskq@")).map(|(_, value)| value.clone());
        ours.next().unwrap_or_default()
    };
    let refused = of_ours(&seen["refused"]);
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("pool_grow")), "{seen}");
    assert!(of_ours(&seen["told"])["ok"].as_str().is_some_and(|text| text.ends_with("flagged as revoked")), "{seen}");
    assert_eq!(seen["ends"], json!([["REVOKED", "revoked"], ["REVOKED", "revoked"]]));
    assert_eq!(seen["revoked"], true);

    let status = fixture.python().run(&["-m", "celery", "-A", "proj", "status", "-t", "5"]).expect_exit(0);
    assert!(status.stdout.contains("taskq@") && status.stdout.contains("celery@"), "{status}");
    drop(python);
    worker.drain();
}

#[tokio::test]
async fn our_tools_ask_celerys_workers_and_revoke_their_tasks() {
    let Some(fixture) = Fixture::start() else { return };
    let client = fixture.client().await;
    let python = fixture.celery_worker();
    let later = proj::add(2, 3).countdown("1h").send(&client).await.expect("it is accepted");
    let answers = client.control().timeout(BOUND).limit(1).ask("ping", serde_json::Map::new()).await;
    let answers = answers.expect("it can be asked");
    assert!(answers[0].node.starts_with("celery@") && answers[0].value == json!({"ok": "pong"}), "{answers:?}");
    later.revoke().await.expect("it is told");
    let Err(Error::Revoked { .. }) = later.get_timeout(BOUND).await else { panic!("it is revoked") };
    let knows = async || {
        let answers = client.control().timeout(BOUND).limit(1).ask("revoked", serde_json::Map::new()).await;
        answers.expect("it can be asked")[0].value.as_array().is_some_and(|ids| ids.contains(&json!(later.id())))
    };
    while !knows().await {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // A worker of ours that begins now learns of it from Python's, and from where it is kept.
    let queue = unique("shop");
    let worker = fixture.shop_worker(&queue);
    let shop = App::new(env!("CARGO_BIN_EXE_shop")).servers(&fixture.vhost.servers);
    wait_until("our worker knows as well", || {
        let nodes = shop.run(&["inspect", "revoked", "-t", "5s"]).expect_exit(0).json_lines();
        let ours =
            nodes.into_iter().find(|line| line["node"].as_str().is_some_and(|node| node.starts_with("taskq@")))?;
        ours["answer"].as_array()?.contains(&json!(later.id())).then_some(())
    });
    drop(python);
    worker.drain();
}

#[test]
fn celery_watches_the_events_of_our_tasks() {
    let Some(fixture) = Fixture::start() else { return };
    let queue = unique("shop");
    let worker = fixture.shop_worker(&queue);
    let seen = fixture.script(
        &queue,
        "import socket, threading, time\n\
         seen, online = [], threading.Event()\n\
         def take(event):\n\
         \x20   seen.append(event)\n\
         \x20   if event['type'] == 'worker-heartbeat': online.set()\n\
         def watch():\n\
         \x20   with app.connection() as connection:\n\
         \x20       receiver = app.events.Receiver(connection, handlers={'*': take})\n\
         \x20       while True:\n\
         \x20           try: receiver.capture(limit=None, timeout=1, wakeup=True)\n\
         \x20           except socket.timeout: pass\n\
         threading.Thread(target=watch, daemon=True).start()\n\
         online.wait(30)\n\
         told = [app.control.enable_events(reply=True, timeout=5, limit=1) for _ in range(2)]\n\
         good = app.send_task('shop.add', [2, 3], queue=queue)\n\
         bad = app.send_task('shop.fail', ['no tea'], queue=queue)\n\
         flaky = app.send_task('shop.flaky', [1, 50], queue=queue)\n\
         late = app.send_task('shop.slow', [3600000], queue=queue)\n\
         assert good.get(timeout=30) == 5 and flaky.get(timeout=30) == 1\n\
         types = lambda id: [event['type'] for event in seen if event.get('uuid') == id]\n\
         def until(id, last):\n\
         \x20   while last not in types(id): time.sleep(0.05)\n\
         until(late.id, 'task-started')\n\
         late.revoke()\n\
         until(good.id, 'task-succeeded'); until(bad.id, 'task-failed'); until(flaky.id, 'task-succeeded')\n\
         until(late.id, 'task-revoked')\n\
         print(json.dumps({'told': told, 'ids': [task.id for task in (good, bad, flaky, late)],\n\
         \x20   'types': [types(task.id) for task in (good, bad, flaky, late)],\n\
         \x20   'events': [event for event in seen if event.get('uuid') == good.id],\n\
         \x20   'heartbeat': next(event for event in seen if event['type'] == 'worker-heartbeat')}, default=str))",
    );
    let ok = |number: usize| {
        let told = seen["told"][number][0].as_object().and_then(|told| told.values().next()).cloned();
        told.unwrap_or_default()["ok"].clone()
    };
    assert_eq!((ok(0), ok(1)), (json!("task events enabled"), json!("task events already enabled")), "{seen}");
    assert_eq!(
        seen["types"],
        json!([
            ["task-received", "task-started", "task-succeeded"],
            ["task-received", "task-started", "task-failed"],
            ["task-received", "task-started", "task-retried", "task-received", "task-started", "task-succeeded"],
            ["task-received", "task-started", "task-revoked"],
        ])
    );
    let (received, succeeded) = (&seen["events"][0], &seen["events"][2]);
    assert_eq!((&received["name"], &received["args"]), (&json!("shop.add"), &json!("[2, 3]")), "{received}");
    assert_eq!(succeeded["result"], "5");
    assert!(succeeded["runtime"].as_f64().is_some_and(|runtime| (0.0..60.0).contains(&runtime)), "{succeeded}");
    assert!(received["hostname"].as_str().is_some_and(|node| node.starts_with("taskq@")), "{received}");
    let heartbeat = &seen["heartbeat"];
    assert_eq!((&heartbeat["sw_ident"], &heartbeat["freq"]), (&json!("rs-taskq"), &json!(2.0)), "{heartbeat}");
    assert_eq!(heartbeat["loadavg"].as_array().map(Vec::len), Some(3), "{heartbeat}");
    // Its log holds the failure that was asked for.
    worker.signal("TERM");
    worker.finish().expect_exit(0);
}

#[test]
fn our_tools_watch_the_events_of_both() {
    let Some(fixture) = Fixture::start() else { return };
    let queue = unique("shop");
    let (python, worker) = (fixture.celery_worker(), fixture.shop_worker(&queue));
    let shop = App::new(env!("CARGO_BIN_EXE_shop")).servers(&fixture.vhost.servers);
    let mut watching = shop.start(&["events", "--json"]);
    let mut sent = 0;
    watching.wait_for("tasks of both have succeeded", |watching| {
        // Workers tell of tasks once they have heard that somebody watches.
        sent += 1;
        fixture.call(&json!({ "task": "proj.add", "args": [sent, 1] }));
        fixture.call(&json!({ "task": "shop.add", "args": [sent, 1], "queue": queue }));
        let events: Vec<Value> = watching.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of = |node: &str, kind: &str| {
            let is_of = |event: &&Value| event["hostname"].as_str().is_some_and(|name| name.starts_with(node));
            events.iter().filter(is_of).any(|event| event["type"] == kind)
        };
        let all =
            ["celery@", "taskq@"].into_iter().all(|node| of(node, "task-succeeded") && of(node, "worker-heartbeat"));
        all.then_some(())
    });
    worker.drain();
    watching.wait_for("our worker is told to have ended", |watching| {
        let events = watching.stdout();
        let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_ours = |event: &Value| event["hostname"].as_str().is_some_and(|node| node.starts_with("taskq@"));
        events.any(|event| event["type"] == "worker-offline" && is_ours(&event)).then_some(())
    });
    watching.signal("INT");
    drop((watching, python));
}
