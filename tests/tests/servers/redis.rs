//! Tests that only a real Redis allows: outages, passwords, documents of other writers.
//!
//! Each test has a Redis of its own, without persistence: a restart empties it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use taskq::backend::redis::RedisBackend;
use taskq::backend::{
    BackendError, BackendOptions, Kv, KvExt, ResultBackend, ResultBackendExt, SharedKv, SharedResults, Written,
};
use taskq::conformance::{kv, results};
use taskq::message::Json;
use taskq::{Record, TaskId, TaskState};
use taskq_tests::harness::{PrivateRedis, free_port, repository};

const PATIENCE: Duration = Duration::from_secs(60);

async fn backend(server: &PrivateRedis) -> RedisBackend {
    RedisBackend::connect(&server.url(), options()).await.expect("it is up")
}

/// A connection that knows nothing of us.
async fn raw(server: &PrivateRedis) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("the URL is right");
    client.get_multiplexed_async_connection().await.expect("it is up")
}

fn options() -> BackendOptions {
    BackendOptions::default().with(|options| options.timeout = Duration::from_secs(5))
}

fn success(id: &TaskId, value: u32) -> Record {
    Record::new(id.clone(), TaskState::Success).with(|record| record.value = Some(json(&value.to_string())))
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).expect("it is JSON")
}

fn value(record: &Record) -> &str {
    record.value.as_ref().map(|value| value.get()).unwrap_or_default()
}

fn key(id: &TaskId) -> String {
    format!("celery-task-meta-{id}")
}

/// Writes until it succeeds, as a settler does.
async fn write_stubbornly(backend: &RedisBackend, records: &[Record]) -> Vec<Written> {
    let start = Instant::now();
    loop {
        match backend.write(records).await {
            Ok(written) => return written,
            Err(error) => assert!(start.elapsed() < PATIENCE, "still failing: {error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_survive_a_restart() {
    let Some(mut server) = PrivateRedis::start(None) else { return };
    let options = options().with(|options| options.timeout = Duration::from_secs(1));
    let backend = RedisBackend::connect(&server.url(), options).await.expect("it is up");
    for round in 0..3_u32 {
        // Records of an earlier round are written again after the restart.
        let ids: Vec<TaskId> = (0..20).map(|_| TaskId::new()).collect();
        let mut watches = Vec::new();
        for id in ids.iter().chain(&ids) {
            watches.push((id.clone(), backend.changes(id).await.expect("Redis is up")));
        }
        server.kill();
        let error = backend.read(&ids).await.expect_err("Redis is down");
        assert!(matches!(error, BackendError::Away { .. }), "{error:?}");
        let error = backend.changes(&TaskId::new()).await.map(drop).expect_err("Redis is down");
        assert!(matches!(error, BackendError::Away { .. }), "{error:?}");
        server.up();
        let records: Vec<Record> = ids.iter().map(|id| success(id, round)).collect();
        let written = write_stubbornly(&backend, &records).await;
        // A write whose answer did not come in time is made again, and finds its own record.
        assert!(written.iter().all(|written| matches!(written, Written::Stored | Written::Kept)), "{written:?}");
        for (id, mut changes) in watches {
            // What was caught up with is told once more when its announcement arrives, and that may be late.
            let awaited = async {
                loop {
                    let record =
                        changes.next().await.expect("the stream goes on").expect("our own records can be read");
                    assert_eq!(record.id, id);
                    if value(&record) == round.to_string() {
                        break;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, awaited).await.expect("the record reaches its watcher");
        }
    }
}

/// A record whose document has more than `bytes` bytes.
fn large(id: &TaskId, bytes: usize) -> Record {
    Record::new(id.clone(), TaskState::Success)
        .with(|record| record.value = Some(json(&format!("\"{}\"", "x".repeat(bytes)))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_never_be_stored_holds_up_no_other() {
    let Some(server) = PrivateRedis::start(None) else { return };
    server.set("proto-max-bulk-len", "1048576").await;
    let mut raw = raw(&server).await;
    let user = "ACL SETUSER app on >pw ~* &* +@all -config";
    redis::cmd("ACL").arg(user.split(' ').skip(1).collect::<Vec<_>>()).exec_async(&mut raw).await.expect("Redis 6");
    let ids: Vec<TaskId> = (0..4).map(|_| TaskId::new()).collect();
    let records = [success(&ids[0], 1), large(&ids[1], 2_000_000), success(&ids[2], 2), success(&ids[3], 3)];
    // Somebody else's value.
    redis::cmd("SADD").arg(key(&ids[3])).arg("a").exec_async(&mut raw).await.expect("Redis is up");

    let told = (server.url(), "2000");
    // Nobody tells this one the limit, so the connection breaks; the record is found by trying it alone.
    let tries = (format!("redis://app:pw@127.0.0.1:{}/0", server.port), "sending it failed 3 times");
    for (url, text) in [told, tries] {
        let backend = RedisBackend::connect(&url, options()).await.expect("it is up");
        let written = write_stubbornly(&backend, &records).await;
        let [one, Written::Refused { why: size }, other, Written::Refused { why: kind }] = &written[..] else {
            panic!("two can be stored, and two cannot: {written:?}")
        };
        assert!([one, other].into_iter().all(|written| matches!(written, Written::Stored | Written::Kept)));
        assert!(size.contains(text) && kind.contains("another kind"), "{size}; {kind}");
        assert!(backend.read_one(&ids[0]).await.expect("it is up").is_some());
        assert!(backend.read_one(&ids[1]).await.expect("it is up").is_none());
        let stored = backend.write(&[success(&ids[1], 4)]).await.expect("it is up");
        assert_eq!(stored, [Written::Stored], "another record of that task is stored");
        backend.forget(&ids[..3]).await.expect("it is up");
    }
    let backend = backend(&server).await;
    let error = backend.put("leases/a", vec![0; 2_000_000].into(), None).await.expect_err("it is too large");
    assert!(error.is_permanent(), "{error:?}");
    assert!(matches!(error, BackendError::TooLarge { size: 2_000_000, limit: 1_048_576, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_nobody_listened_is_caught_up_with() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let id = TaskId::new();
    let mut changes = backend.changes(&id).await.expect("Redis is up");
    // Stored and never published: only reading finds it.
    let document = r#"{"status": "SUCCESS", "result": 7, "task_id": "x"}"#;
    redis::cmd("SET").arg(key(&id)).arg(document).exec_async(&mut raw).await.expect("Redis is up");
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").exec_async(&mut raw).await.expect("Redis is up");
    let record = tokio::time::timeout(PATIENCE, changes.next()).await.expect("it is found in time");
    assert_eq!(value(&record.expect("the stream goes on").expect("it can be read")), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_fails_and_comes_back() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let options = options().with(|options| options.timeout = Duration::from_millis(300));
    let backend = RedisBackend::connect(&server.url(), options.clone()).await.expect("it is up");
    let id = TaskId::new();
    let watched = TaskId::new();
    let mut changes = backend.changes(&watched).await.expect("it is up");
    server.signal("STOP");
    for error in [
        backend.write(&[success(&id, 1)]).await.map(drop).expect_err("nobody answers"),
        backend.read_one(&id).await.map(drop).expect_err("nobody answers"),
        backend.get("key").await.map(drop).expect_err("nobody answers"),
        backend.changes(&id).await.map(drop).expect_err("nobody answers"),
        backend.scan("key").await.map(drop).expect_err("nobody answers"),
        backend.info().await.map(drop).expect_err("nobody answers"),
    ] {
        assert!(matches!(error, BackendError::Away { .. }), "{error:?}");
    }
    let error = RedisBackend::connect(&server.url(), options).await.expect_err("nobody answers");
    assert!(error.to_string().contains("no answer in time"), "{error}");
    server.signal("CONT");
    write_stubbornly(&backend, &[success(&watched, 2)]).await;
    let record = tokio::time::timeout(PATIENCE, changes.next()).await.expect("it comes in time");
    assert_eq!(value(&record.expect("the stream goes on").expect("it can be read")), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_mend_and_no_password() {
    let Some(server) = PrivateRedis::start(Some("s3cret")) else { return };
    let at = format!("127.0.0.1:{}", server.port);
    let nobody = format!("127.0.0.1:{}", free_port());
    let web = TcpListener::bind(("127.0.0.1", free_port())).expect("the port is free");
    let not_redis = web.local_addr().expect("it has one").to_string();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            use std::io::Write;
            // The caller may have gone.
            let _ = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    // With more time than a handshake has: a Redis that awaits the end of a line says nothing to one.
    for (url, texts) in [
        (format!("redis://{at}/0"), ["refused the connection", "redis://:password@host"]),
        (format!("redis://{at}/3"), ["refused the connection", "redis://:password@host"]),
        (format!("redis://:wr0ng@{at}/0"), ["refused the connection", "the password is wrong"]),
        (format!("redis://anna:wr0ng@{at}/0"), ["redis://anna:***@", "the password is wrong"]),
        (format!("redis://:s3cret@{at}/99"), ["redis://:***@", "no such database"]),
        (format!("redis://:s3cret@{nobody}/0"), ["no result backend answers at redis://:***@", "start redis-server"]),
        (format!("redis://:s3cret@{not_redis}/0"), ["no result backend answers", "is not Redis"]),
        ("redis://:s3cret@nowhere.invalid/0".to_owned(), ["no result backend answers", "check host"]),
        (format!("redis://:s3cret@{at}/zero"), ["cannot be used", "redis://user:password@host:6379/0"]),
        (format!("rediss://:s3cret@{at}/0"), ["no result backend answers", "does not speak TLS"]),
        ("redis+unix:///nowhere.sock?pass=s3cret".to_owned(), ["no result backend answers", "start redis-server"]),
    ] {
        let error = RedisBackend::connect(&url, BackendOptions::default()).await.expect_err("it cannot work");
        let text = error.to_string();
        for part in texts {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        assert!(!format!("{error:?}{text}").contains("s3cret") && !text.contains("wr0ng"), "{error:?}");
        assert!(text.lines().count() == 1, "{text}");
    }
    let backend = backend(&server).await;
    assert!(!format!("{backend:?}").contains("s3cret"), "{backend:?}");
    backend.put("key", "value".into(), None).await.expect("the password is right");
}

#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_loaded_again() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let records: Vec<Record> = (0..10).map(|number| success(&TaskId::new(), number)).collect();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.expect("Redis is up");
    let written = backend.write(&records).await.expect("the scripts are loaded again");
    assert_eq!(written, vec![Written::Stored; 10]);
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut raw).await.expect("Redis is up");
    assert_eq!(backend.put_json_if_absent("key", &1, None).await.expect("the scripts are loaded again"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_other_writers_are_respected() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let long = "x".repeat(1000);
    let cases = [
        (r#"{"status": "SUCCESS", "result": 5}"#.to_owned(), 0, Written::Kept),
        (r#"{"status": "REVOKED", "result": {"exc_type": "TaskRevokedError"}}"#.to_owned(), 0, Written::Kept),
        (r#"{"status": "SUCCESS", "result": 5}"#.to_owned(), 1, Written::Stored),
        (r#"{"status": "STARTED", "result": {"pid": 1, "hostname": "w1@vm"}}"#.to_owned(), 0, Written::Stored),
        // Keys in another order, and far from the beginning.
        (r#"{"result":5,"status":"FAILURE"}"#.to_owned(), 0, Written::Kept),
        (format!(r#"{{"result":"{long}","status":"SUCCESS","generation":3}}"#), 2, Written::Kept),
        (format!(r#"{{"result":"{long}","status":"SUCCESS","generation":3}}"#), 4, Written::Stored),
        (format!(r#"{{"status":"{long}","result":1}}"#), 0, Written::Stored),
        (r#"{"status":"MY_STATE_2","generation":2,"result":1}"#.to_owned(), 1, Written::Kept),
        (r#"{"status": "SUCCESS", "name": "a", "generation": 2}"#.to_owned(), 1, Written::Kept),
        // Not a result at all: there is nothing to keep.
        ("garbage".to_owned(), 0, Written::Stored),
        ("[]".to_owned(), 0, Written::Stored),
        (r#"{"status":null}"#.to_owned(), 0, Written::Stored),
        (String::new(), 0, Written::Stored),
    ];
    for (document, generation, expected) in cases {
        let id = TaskId::new();
        redis::cmd("SET").arg(key(&id)).arg(&document).exec_async(&mut raw).await.expect("Redis is up");
        let record = success(&id, 1).with(|record| record.generation = generation);
        let written = backend.write(&[record]).await.expect("Redis is up");
        assert_eq!(written, [expected], "generation {generation} over {document}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_stored_and_published_as_celery_does_it() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let mut raw = raw(&server).await;
    let client = redis::Client::open(server.url()).expect("the URL is right");
    for (ttl, ttl_seconds) in [(Some(Duration::from_secs(86_400)), 86_390..=86_400), (None, -1..=-1)] {
        let options = options().with(|options| options.result_ttl = ttl);
        let backend = RedisBackend::connect(&server.url(), options).await.expect("it is up");
        let id = TaskId::new();
        let mut listener = client.get_async_pubsub().await.expect("Redis is up");
        listener.subscribe(key(&id)).await.expect("Redis is up");
        backend.write(&[success(&id, 5)]).await.expect("Redis is up");
        let published = tokio::time::timeout(PATIENCE, listener.on_message().next()).await.expect("it is published");
        let published = published.expect("the connection stands").get_payload_bytes().to_vec();
        let stored: Vec<u8> = redis::cmd("GET").arg(key(&id)).query_async(&mut raw).await.expect("Redis is up");
        assert_eq!(stored, published);
        let left: i64 = redis::cmd("TTL").arg(key(&id)).query_async(&mut raw).await.expect("Redis is up");
        assert!(ttl_seconds.contains(&left), "{left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_watchers_share_one_connection_and_leave_nothing_behind() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let ids: Vec<TaskId> = (0..100).map(|_| TaskId::new()).collect();
    let watches = join_all(ids.iter().chain(&ids).map(|id| backend.changes(id))).await;
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query_async(&mut raw).await.expect("Redis is up");
    assert_eq!(clients.lines().count(), 1, "{clients}");
    assert!(clients.contains(" sub=100 "), "{clients}");
    drop(watches);
    // A caller that gives up before the answer leaves nothing either.
    for id in &ids {
        drop(tokio::time::timeout(Duration::ZERO, backend.changes(id)).await);
    }
    let start = Instant::now();
    loop {
        let channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut raw).await.expect("Redis is up");
        if channels.is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "still subscribed: {channels:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(backend);
    let start = Instant::now();
    loop {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut raw).await.expect("Redis is up");
        if clients.lines().count() == 1 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "a dropped backend is still connected: {clients}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_lost_is_said() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let lines = backend.info().await.expect("Redis is up");
    assert!(lines[0].starts_with("Redis ") || lines[0].starts_with("Valkey "), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("do not survive a restart")), "{lines:?}");
    for (setting, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "volatile-lru"), ("appendonly", "yes")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(&mut raw).await.expect("Redis is up");
    }
    let lines = backend.info().await.expect("Redis is up");
    assert!(lines.iter().any(|line| line.contains("volatile-lru")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("do not survive")), "{lines:?}");
    // A user who may do what is needed, and not ask about the server.
    let user = ["SETUSER", "modest", "on", ">s3cret", "~*", "&*", "+@all", "-config", "-info"];
    redis::cmd("ACL").arg(&user).exec_async(&mut raw).await.expect("Redis is up");
    let url = format!("redis://modest:s3cret@127.0.0.1:{}/0", server.port);
    let modest = RedisBackend::connect(&url, options()).await.expect("it needs neither");
    let lines = modest.info().await.expect("refusals are answers");
    assert!(lines.iter().any(|line| line.contains("INFO is forbidden")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_publish_stores_results_and_is_told_of_it() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let mut raw = raw(&server).await;
    let user = ["SETUSER", "mute", "on", ">s3cret", "~*", "resetchannels", "+@all"];
    redis::cmd("ACL").arg(&user).exec_async(&mut raw).await.expect("Redis is up");
    let url = format!("redis://mute:s3cret@127.0.0.1:{}/0", server.port);
    let mute = RedisBackend::connect(&url, options()).await.expect("it may connect");
    let retry = Record::new(TaskId::new(), TaskState::Retry);
    let written = mute.write(&[retry.clone(), success(&TaskId::new(), 1)]).await.expect("announcing is not storing");
    assert_eq!(written, [Written::Stored, Written::Stored]);
    let written = mute.write(&[success(&retry.id, 2)]).await.expect("announcing is not storing");
    assert_eq!(written, [Written::Stored], "over a record that is not terminal, too");
    let lines = mute.info().await.expect("it may ask");
    let remedy = "ACL SETUSER mute &celery-task-meta-* +publish";
    assert!(lines.iter().any(|line| line.ends_with(remedy)), "{lines:?}");
    let grant = ["SETUSER", "mute", "&celery-task-meta-*", "+publish"];
    redis::cmd("ACL").arg(&grant).exec_async(&mut raw).await.expect("the remedy is a command");
    let lines = mute.info().await.expect("it may ask");
    assert!(!lines.iter().any(|line| line.contains("publish")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_guide_names_are_enough() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let mut raw = raw(&server).await;
    let guide = std::fs::read_to_string(repository().join("docs/deploying.md")).expect("the guide exists");
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER ")).expect("it names the rights");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    redis::cmd("ACL").arg(&words).exec_async(&mut raw).await.expect("the line is a command");
    let url = format!("redis://app:PASSWORD@127.0.0.1:{}/0", server.port);
    let backend = Arc::new(RedisBackend::connect(&url, options()).await.expect("it may connect"));
    results::run_all(|| async { Arc::clone(&backend) as SharedResults }).await;
    kv::run_all(|| async { Arc::clone(&backend) as SharedKv }).await;
}

/// Prints how fast batches are written, beside plain pipelines of `SET` and `PUBLISH` on the same server.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_written() {
    const RECORDS: u32 = 20_000;
    const BATCH: usize = 64;
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..3 {
        let records: Vec<Record> = (0..RECORDS).map(|number| success(&TaskId::new(), number)).collect();
        let start = Instant::now();
        for batch in records.chunks(BATCH) {
            backend.write(batch).await.expect("Redis is up");
        }
        fastest[0] = fastest[0].min(start.elapsed());
        let last = records.last().expect("there are some");
        let read = backend.read_one(&last.id).await.expect("Redis is up").expect("it was written");
        assert_eq!(value(&read), value(last));

        let records: Vec<Record> = (0..RECORDS).map(|number| success(&TaskId::new(), number)).collect();
        let start = Instant::now();
        for batch in records.chunks(BATCH) {
            let mut pipeline = redis::Pipeline::new();
            for record in batch {
                let (key, document) = (key(&record.id), taskq::internal::codec::result::encode(record));
                pipeline.cmd("SET").arg(&key).arg(&document).arg("EX").arg(86_400).ignore();
                pipeline.cmd("PUBLISH").arg(&key).arg(&document).ignore();
            }
            pipeline.exec_async(&mut raw).await.expect("Redis is up");
        }
        fastest[1] = fastest[1].min(start.elapsed());
    }
    let [ours, plain] = fastest.map(|time| f64::from(RECORDS) / time.as_secs_f64());
    println!("records/s in batches of {BATCH}: {ours:.0}; plain SET + PUBLISH: {plain:.0}; ratio {:.2}", ours / plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_error_at_once() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let pickle = &b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."[..];
    for (document, reason) in [(pickle, "`result_serializer = \"pickle\"`"), (b"hello", "no JSON"), (b"{}", "`status`")]
    {
        // It may come while it is waited for, or be there already.
        let id = TaskId::new();
        let mut changes = backend.changes(&id).await.expect("Redis is up");
        let come = async {
            redis::cmd("SET").arg(key(&id)).arg(document).exec_async(&mut raw).await.expect("Redis is up");
            redis::cmd("PUBLISH").arg(key(&id)).arg(document).exec_async(&mut raw).await.expect("Redis is up");
        };
        let (waited, ()) = tokio::join!(backend.wait(&id, PATIENCE), come);
        let change = tokio::time::timeout(PATIENCE, changes.next()).await.expect("it is passed on");
        for error in [
            waited.map(drop).expect_err("it cannot be read"),
            change.expect("the stream goes on").map(drop).expect_err("it cannot be read"),
            backend.wait(&id, PATIENCE).await.map(drop).expect_err("it cannot be read"),
            backend.watch(&id).await.map(drop).expect_err("it cannot be read"),
            backend.read_one(&id).await.map(drop).expect_err("it cannot be read"),
        ] {
            assert!(matches!(error, BackendError::UnreadableResult { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(id.as_str()) && text.contains(reason), "{text}");
        }
        assert!(backend.read_known(&id).await.expect("it counts as none").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_published_and_never_stored_is_not_believed() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let backend = backend(&server).await;
    let mut raw = raw(&server).await;
    let id = TaskId::new();
    let mut changes = backend.changes(&id).await.expect("it is up");
    let document = |state: &str, result: &str| {
        format!(r#"{{"status": "{state}", "result": {result}, "task_id": "{id}", "traceback": null, "children": []}}"#)
    };
    for forged in [
        document("SUCCESS", "1"),
        document("FAILURE", r#"{"exc_type": "X", "exc_message": ["no"]}"#),
        document("REVOKED", "null"),
        "no document".to_owned(),
    ] {
        redis::cmd("PUBLISH").arg(key(&id)).arg(forged).exec_async(&mut raw).await.expect("Redis is up");
    }
    // Progress ends nothing, so it is passed on as it comes; and it shows that what came before it was looked at.
    let progress = document("PROGRESS", r#"{"current": 1, "total": 2, "note": ""}"#);
    redis::cmd("PUBLISH").arg(key(&id)).arg(progress).exec_async(&mut raw).await.expect("Redis is up");
    let next = changes.next().await.expect("the stream goes on").expect("it can be read");
    assert_eq!(next.state, TaskState::Progress);
    // What is stored is believed, whatever was published with it.
    backend.write(&[success(&id, 2)]).await.expect("Redis is up");
    redis::cmd("PUBLISH").arg(key(&id)).arg(document("SUCCESS", "3")).exec_async(&mut raw).await.expect("Redis is up");
    for _ in 0..2 {
        let next = changes.next().await.expect("the stream goes on").expect("it can be read");
        assert_eq!((&next.state, value(&next)), (&TaskState::Success, "2"));
    }
    println!("4 forged results: none believed");
}

/// The line of the guide that makes this user, in words, with a password.
fn user_of_the_guide(user: &str) -> Vec<String> {
    let guide = std::fs::read_to_string(repository().join("docs/deploying.md")).expect("the guide exists");
    let start = format!("ACL SETUSER {user} ");
    let line = guide.lines().find(|line| line.starts_with(&start)).expect("the guide has the line");
    line.split(' ').skip(1).map(|word| word.replace("PASSWORD", "s3cret")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_guide_may_do_what_they_need_and_no_more() {
    let Some(server) = PrivateRedis::start(None) else { return };
    let mut raw = raw(&server).await;
    for user in ["app", "watcher"] {
        redis::cmd("ACL").arg(user_of_the_guide(user)).exec_async(&mut raw).await.expect("Redis 7 takes it");
    }
    let connect = async |user: &str| {
        let url = format!("redis://{user}:s3cret@127.0.0.1:{}/0", server.port);
        RedisBackend::connect(&url, options()).await.expect("it may connect")
    };
    let (app, watcher) = (connect("app").await, connect("watcher").await);
    let id = TaskId::new();
    let mut changes = watcher.changes(&id).await.expect("it may subscribe");
    app.write(&[success(&id, 7)]).await.expect("it may write");
    app.put("leases/a", b"x".to_vec().into(), None).await.expect("it may write");
    let record = tokio::time::timeout(PATIENCE, changes.next()).await.expect("it is told");
    assert_eq!(value(&record.expect("the stream goes on").expect("it can be read")), "7");
    watcher.write(&[success(&TaskId::new(), 8)]).await.expect_err("it may not write");
    watcher.get("leases/a").await.expect_err("it may not read what is not a result");
    let mut published = redis::Client::open(format!("redis://watcher:s3cret@127.0.0.1:{}/0", server.port))
        .expect("the URL is right")
        .get_multiplexed_async_connection()
        .await
        .expect("it may connect");
    redis::cmd("PUBLISH").arg(key(&id)).arg("x").exec_async(&mut published).await.expect_err("it may not publish");
}
