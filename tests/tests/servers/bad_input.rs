//! Bad input: each message that no worker can run ends in the dead set with a reason, and the worker goes on.

use std::collections::BTreeMap;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use taskq::broker::DEAD_QUEUE;
use taskq::{Error, Handle, TaskId};
use taskq_tests::harness::{BOUND, Health, PrivateRedis, ServerFixture, Servers, unique};
use taskq_tests::tasks;

/// The worker's program.
const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// A channel that does what it is told, past everything of ours.
async fn raw(fixture: &ServerFixture) -> Channel {
    let url = &fixture.vhost.servers.amqp;
    let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
    let channel = connection.create_channel().await.expect("the connection is open");
    // The connection closes when it is dropped; it may last as long as the test.
    std::mem::forget(connection);
    channel
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
        let Value::Object(changes) = changes else { panic!("no map of changes: {changes}") };
        map.extend(changes);
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

/// These headers, and one that leaves no room in a frame for those that a worker adds.
fn filling(mut headers: Value) -> Value {
    headers["baggage"] = "x".repeat(129_300).into();
    headers
}

/// Messages for which there is no room beside the headers that a worker adds, as [`unusable`].
fn filling_a_frame() -> Vec<(Stranger, &'static str, &'static str)> {
    const GOOD: &str = "[[2, 3], {}, {}]";
    vec![
        (
            Stranger::headers(
                "a retry that fits no frame",
                filling(json!({ "task": "shop.fail_retried" })),
                "[[\"no\"], {}, {}]",
            ),
            "unsendable",
            "fit into a frame",
        ),
        (
            Stranger::headers(
                "a failure that fits no frame",
                filling(json!({ "task": "shop.fail" })),
                "[[\"no\"], {}, {}]",
            ),
            "failed",
            "no",
        ),
        (
            Stranger::headers("an eta that fits no frame", filling(json!({ "eta": "2126-11-26T08:00:00" })), GOOD),
            "unsendable",
            "fit into a frame",
        ),
        (
            Stranger::headers("unknown and fits no frame", filling(json!({ "task": "nobody.knows" })), GOOD),
            "unsendable",
            "fit into a frame",
        ),
        (
            Stranger::headers("unreadable and fits no frame", filling(json!({})), "7"),
            "decode",
            "not a list of arguments",
        ),
    ]
}

/// Messages whose headers say one thing and whose bodies another, as [`unusable`].
fn disagreeing() -> Vec<(Stranger, &'static str, &'static str)> {
    const GOOD: &str = "[[2, 3], {}, {}]";
    const FORM: &str = "not a list of arguments";
    vec![
        (
            Stranger::body("another task in the body", "{\"task\": \"shop.fail\", \"id\": \"x\", \"args\": [2, 3]}"),
            "decode",
            FORM,
        ),
        (Stranger::body("JSON as msgpack", GOOD).content(Some("application/x-msgpack"), "binary"), "decode", ""),
        (Stranger::body("msgpack as JSON", vec![0x93, 0x92, 2, 3, 0x80, 0x80]), "decode", FORM),
    ]
}

/// Messages that no worker can run: each with the reason and a part of the text that it has to end with.
fn unusable() -> Vec<(Stranger, &'static str, &'static str)> {
    const GOOD: &str = "[[2, 3], {}, {}]";
    let form = "not a list of arguments";
    let deep = |inner: &str| format!("[[{}{inner}{}], {{}}, {{}}]", "[".repeat(100_000), "]".repeat(100_000));
    let echo = || json!({ "task": "shop.echo" });
    vec![
        (Stranger::headers("unknown task", json!({ "task": "nobody.knows" }), GOOD), "unknown-task", "nobody.knows"),
        (Stranger::body("too many", "[[1, 2, 3], {}, {}]"), "arguments", "takes 2 arguments but 3 were given"),
        (Stranger::body("too few", "[[1], {}, {}]"), "arguments", "missing the argument `y: i64`"),
        (
            Stranger::body("wrong type", "[[1, \"two\"], {}, {}]"),
            "arguments",
            "takes `y: i64`, and got a text of 3 characters: expected i64",
        ),
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
        (Stranger::headers("no number", echo(), "[[NaN], {}, {}]"), "arguments", "`value: Value`, and got NaN"),
        (Stranger::headers("half a pair", echo(), r#"[["\ud83d"], {}, {}]"#), "arguments", "not Unicode"),
        (Stranger::headers("a large integer", echo(), "[[18446744073709551616], {}, {}]"), "arguments", "64 bits"),
        (Stranger::headers("nothing", echo(), "[[], {}, {}]"), "arguments", "missing the argument `value: Value`"),
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

/// Messages that look odd and are to be understood: each with the result.
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
        (
            Stranger::headers(
                "headers that tell of another call",
                json!({ "argsrepr": "(\"no\",)", "kwargsrepr": "{}", "shadow": "shop.fail", "origin": "nobody", "lang": "rs" }),
                "[[2, 3], {}, {}]",
            ),
            json!(5),
        ),
        (Stranger::body("null named arguments", "[[2, 3], null, {}]"), json!(5)),
        (Stranger::body("null embed", "[[2, 3], {}, null]"), json!(5)),
        (Stranger::body("empty chain", "[[2, 3], {}, {\"chain\": [], \"callbacks\": null}]"), json!(5)),
        (Stranger::body("by name", "[[], {\"y\": 3, \"x\": 2}, {}]"), json!(5)),
        (Stranger::headers("unicode", echo(), r#"[["\u00e4\ud83d\ude00"], {}, {}]"#), json!("ä😀")),
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
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let queue = unique("strangers");
    let worker = fixture.worker_of(&fixture.app().env("TASKQ_UNKNOWN_TASK_GRACE", "2s"), &[&queue]);
    let processes = worker.children();
    let channel = raw(&fixture).await;
    let (mut unusable, odd) = (unusable(), odd());
    unusable.extend(disagreeing());
    unusable.extend(filling_a_frame());
    for stranger in unusable.iter().map(|(stranger, ..)| stranger).chain(odd.iter().map(|(stranger, _)| stranger)) {
        stranger.send(&channel, &queue).await;
    }
    for (stranger, expected) in &odd {
        let handle: Handle<Value> = fixture.client.handle(stranger.id().expect("it has one"));
        let result = handle.get_timeout(BOUND).await;
        assert_eq!(result.as_ref().ok(), Some(expected), "{}: {result:?}", stranger.case);
    }
    let dead = fixture.dead_by_case(unusable.len()).await;
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
        let outcome = fixture.client.handle::<Value>(id).get_timeout(BOUND).await;
        let Err(Error::Failed { failure, .. }) = outcome else { panic!("{case} ends in FAILURE, not {outcome:?}") };
        assert!(failure.message().contains(text), "{case}: {failure}");
        assert!(failure.message().len() < 100_000, "{case}: {} bytes of error", failure.message().len());
    }
    let about = tasks::about().queue(queue.clone()).send(&fixture.client).await.expect("it is accepted");
    let about = about.get_timeout(BOUND).await.expect("the worker goes on");
    assert_eq!(json!([about["pid"]]), json!(processes), "the same process as before");
    worker.drain();
    assert_eq!(fixture.client.broker().stats(&queue).await.expect("it exists").ready, 0);
    println!(
        "{} messages that cannot be run: all in the dead set, with the reason; {} odd ones: run",
        unusable.len(),
        odd.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_redis_does_not_take_ends_its_task_and_holds_up_no_other() {
    let (Some(mut servers), Some(redis)) = (Servers::from_env(), PrivateRedis::start(None)) else { return };
    servers.redis = redis.url();
    redis.set("proto-max-bulk-len", "1048576").await;
    let Some(fixture) = ServerFixture::over(&servers, SHOP).await else { return };
    let queue = unique("large");
    let worker = fixture.worker(&[&queue]);

    let large = Value::from("x".repeat(2_000_000));
    let result = tasks::echo(large.clone()).queue(queue.clone()).send(&fixture.client).await.expect("it is accepted");
    let error = tasks::fail("y".repeat(2_000_000)).queue(queue.clone()).send(&fixture.client).await.expect("accepted");
    let mut others = Vec::new();
    for x in 0..100 {
        others.push(tasks::add(x, 1).queue(queue.clone()).send(&fixture.client).await.expect("it is accepted"));
    }
    for (x, other) in (0..).zip(others) {
        assert_eq!(other.get_timeout(BOUND).await.expect("it is stored"), x + 1);
    }
    let Err(Error::Failed { failure, .. }) = result.get_timeout(BOUND).await else { panic!("it cannot be stored") };
    let text = failure.message();
    assert!(text.contains("2000") && text.contains("Redis takes 1048576"), "the size and the limit: {text}");
    let Err(Error::Failed { failure, .. }) = error.get_timeout(BOUND).await else { panic!("it fails") };
    let text = failure.message();
    assert!(text.ends_with("(2000000 bytes in all)") && text.len() < 100_000, "{} bytes", text.len());

    let mut letters = Vec::new();
    while letters.len() < 2 {
        letters = fixture.client.dead().list(usize::MAX).await.expect("the dead set can be read");
    }
    let reasons: BTreeMap<_, _> =
        letters.iter().map(|dead| (dead.task.as_deref().unwrap_or_default(), &*dead.letter.reason)).collect();
    assert_eq!(reasons, BTreeMap::from([("shop.echo", "result"), ("shop.fail", "failed")]));
    worker.drain();
    assert_eq!(fixture.client.broker().stats(&queue).await.expect("it exists").ready, 0, "nothing comes back");
    println!("a result of 2000000 bytes under a limit of 1048576: FAILURE; 100 others: stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_set_that_takes_nothing_is_waited_for_and_holds_up_no_other() {
    let Some(fixture) = ServerFixture::start(SHOP).await else { return };
    let (queue, health) = (unique("full"), Health::new());
    let channel = raw(&fixture).await;
    // As an operator's policy may make it. Deleting the queue would delete what is being sent to it.
    let room_for = |messages: u32| {
        let definition = format!("{{\"max-length\":{messages},\"overflow\":\"reject-publish\"}}");
        fixture.vhost.set_policy("room", "^taskq\\.dead$", &definition);
    };
    room_for(0);
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(DEAD_QUEUE.into(), durable, FieldTable::default()).await.expect("nobody has declared it yet");
    let command = ["worker", "-c", "8", "-Q", &queue, "-l", "warn", "--health", &health.address()];
    let mut worker = fixture.app().start(&command);
    worker.wait_until_ready();

    let failed = tasks::fail("no".to_owned()).queue(queue.clone()).send(&fixture.client).await.expect("accepted");
    failed.get_timeout(BOUND).await.expect_err("its caller is told, whatever becomes of the dead letter");
    health.wait_until_red_of(
        "cannot settle 1 task: publishing what follows a task fails (the broker refused the message",
    );
    for x in 0..50 {
        let other = tasks::add(x, 1).queue(queue.clone()).send(&fixture.client).await.expect("it is accepted");
        assert_eq!(other.get_timeout(BOUND).await.expect("it is not held up"), x + 1);
    }
    room_for(10);
    health.wait_until_green();
    let dead = fixture.client.dead().list(10).await.expect("it has room");
    assert_eq!(dead.iter().filter_map(|entry| entry.task.as_deref()).collect::<Vec<_>>(), ["shop.fail"]);
    worker.drain();
    println!("1 task waited for the dead set, 50 others went on; dead letters lost: 0");
}
