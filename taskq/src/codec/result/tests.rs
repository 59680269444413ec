//! Tests of the result codec.

use std::path::Path;

use chrono::TimeZone;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn id() -> TaskId {
    TaskId::parse("id").expect("it is short")
}

fn read(document: &str) -> Record {
    decode(&id(), document.as_bytes()).unwrap_or_else(|error| panic!("{document}: {error:?}"))
}

fn written(record: &Record) -> String {
    String::from_utf8(encode(record)).expect("JSON is UTF-8")
}

fn json(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).expect("it is JSON")
}

#[test]
fn documents_are_celerys() {
    let moment = Utc.timestamp_opt(1_795_226_686, 123_456_000).single().expect("it exists");
    let success =
        Record { value: Some(json("[1, 2]")), finished_at: Some(moment), ..Record::new(id(), TaskState::Success) };
    assert_eq!(
        written(&success),
        r#"{"status":"SUCCESS","result":[1, 2],"traceback":null,"children":[],"date_done":"2026-11-21T02:04:46.123456+00:00","task_id":"id"}"#
    );
    let failure = Record {
        failure: Some(Failure::new("my_crate.errors", "InvalidInput", "no such user")),
        traceback: Some("at src/lib.rs:1".to_owned()),
        finished_at: Some(moment),
        started_at: Some(moment),
        attempt: 3,
        generation: 1,
        task: Some("my_crate.welcome".to_owned()),
        worker: Some("w1@host".to_owned()),
        parent_id: Some(TaskId::parse("parent").expect("it is short")),
        group_id: Some("group".to_owned()),
        ..Record::new(id(), TaskState::Failure)
    };
    assert_eq!(
        written(&failure),
        concat!(
            r#"{"status":"FAILURE","generation":1,"result":{"exc_type":"InvalidInput","#,
            r#""exc_message":["no such user"],"exc_module":"my_crate.errors"},"traceback":"at src/lib.rs:1","#,
            r#""children":[],"date_done":"2026-11-21T02:04:46.123456+00:00","task_id":"id","parent_id":"parent","#,
            r#""group_id":"group","name":"my_crate.welcome","worker":"w1@host","retries":3,"#,
            r#""taskq":{"started":"2026-11-21T02:04:46.123456+00:00"}}"#
        )
    );
}

#[test]
fn a_failure_always_has_a_map() {
    for (state, exc_type) in
        [(TaskState::Failure, "Exception"), (TaskState::Retry, "Retry"), (TaskState::Revoked, "TaskRevokedError")]
    {
        let document: Value = serde_json::from_slice(&encode(&Record::new(id(), state))).expect("it is JSON");
        assert_eq!(document["result"]["exc_type"], exc_type);
    }
}

#[test]
fn what_others_leave_out_is_not_missed() {
    let record = read(r#"{"status": "SUCCESS"}"#);
    assert_eq!(record.value.expect("a success has a value").get(), "null");
    let record = read(
        r#"{"status":"STARTED","generation":null,"result":null,"traceback":null,"children":null,"date_done":null,
            "task_id":null,"parent_id":null,"group_id":null,"name":null,"worker":null,"retries":null,"taskq":null}"#,
    );
    assert_eq!(record.state, TaskState::Started);
    assert!(record.value.is_none() && record.failure.is_none() && record.finished_at.is_none());
    assert_eq!((record.attempt, record.generation), (0, 0));
}

#[test]
fn a_failure_may_stand_there_in_any_form() {
    for (result, exc_type, message) in [
        (r#"{"exc_type":"ValueError","exc_message":["bad",3]}"#, "ValueError", "bad, 3"),
        (r#"{"exc_type":"ValueError","exc_message":"bad"}"#, "ValueError", "bad"),
        (r#"{"exc_type":null,"exc_message":null}"#, "Exception", ""),
        (r#"{"exc_type":7}"#, "Exception", ""),
        (r#""it broke""#, "Exception", "it broke"),
        (r"[1,2]", "Exception", "[1,2]"),
        (r"null", "Exception", "no reason was recorded"),
        // Half a surrogate pair, a number that no f64 holds, Python's types, and floats that are no numbers.
        (r#"{"exc_type":"OSError","exc_message":["\udc80.txt"]}"#, "OSError", "\u{fffd}.txt"),
        (r"{1e999}", "", ""),
        (r"1e999", "Exception", "1e999"),
        (
            r#"{"exc_type":"E","exc_message":[1267650600228229401496703205376,{"__type__":"date","__value__":"2025-01-02"}]}"#,
            "E",
            "1267650600228229401496703205376, 2025-01-02",
        ),
        (r#"{"exc_type":"E","exc_message":[NaN,-Infinity]}"#, "E", "NaN, -Infinity"),
    ] {
        let document = format!(r#"{{"status":"FAILURE","result":{result}}}"#);
        if exc_type.is_empty() {
            assert!(decode(&id(), document.as_bytes()).is_err(), "{document}");
            continue;
        }
        let failure = read(&document).failure.expect("a failure has one");
        assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), (exc_type, message), "{document}");
    }
}

#[test]
fn names_of_types_and_modules_are_texts_and_nothing_else() {
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("a.b\u{0}", "__import__")]
    {
        let parts = serde_json::json!({ "exc_module": module, "exc_type": name, "exc_message": ["touch /tmp/x"] });
        let document = serde_json::json!({ "status": "FAILURE", "result": parts, "traceback": "x", "children": [] });
        let failure = read(&document.to_string()).failure.expect("a failure has one");
        assert_eq!(failure.to_string(), format!("{name}: touch /tmp/x"));
        // A type that is written beside a value is no more than a value.
        let typed = format!(r#"{{"status":"SUCCESS","result":{{"__type__":"{name}","__value__":["touch /tmp/x"]}}}}"#);
        assert!(read(&typed).value.expect("it is there").get().contains("__value__"), "{typed}");
    }
}

#[test]
fn one_odd_value_does_not_spoil_the_others() {
    let record = read(
        r#"{"status":"SUCCESS","generation":"x","result":5,"traceback":{"a":"\udc80"},"date_done":1795226686.5,
            "parent_id":"","group_id":7,"name":["a"],"worker":false,"retries":"2","taskq":[1],"tenant":"acme"}"#,
    );
    assert_eq!(record.value.expect("it is there").get(), "5");
    assert_eq!(record.attempt, 2);
    assert_eq!(record.traceback.as_deref(), Some(r#"{"a":"\ufffd"}"#));
    assert_eq!((record.finished_at, record.parent_id), (None, None));
}

#[test]
fn what_json_has_no_form_for_is_named() {
    let record = read(r#"{"status": "SUCCESS", "result": [NaN, "NaN", -Infinity]}"#);
    assert_eq!(record.value.expect("it is there").get(), r#"[null,"NaN",null]"#);
    assert!(record.value_fault.expect("it is named").contains("NaN is in it"));
    let record = read(r#"{"status": "SUCCESS", "result": "\udc80"}"#);
    assert!(record.value_fault.expect("it is named").contains("not Unicode"));
    let record = read(r#"{"status": "SUCCESS", "result": [null], "tenant": NaN}"#);
    assert_eq!(record.value_fault, None);
}

/// The types of Celery's JSON, as they are read everywhere; and what is beside them stays as it is written.
#[test]
fn pythons_types_are_read() {
    for (result, plain) in [
        (
            r#"{"__type__": "datetime", "__value__": "2025-01-02T03:04:05.678901+00:00"}"#,
            r#""2025-01-02T03:04:05.678901+00:00""#,
        ),
        (
            r#"{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}"#,
            r#""00000000-0000-0000-0000-000000000005""#,
        ),
        (
            r#"[{"__type__": "base64", "__value__": "//4="}, 1267650600228229401496703205376, 0.10]"#,
            "[[255,254],1267650600228229401496703205376,0.10]",
        ),
        (r#"{"a": {"__type__": "decimal", "__value__": "1.50"}}"#, r#"{"a":"1.50"}"#),
    ] {
        let record = read(&format!(r#"{{"status": "SUCCESS", "result": {result}, "task_id": "id"}}"#));
        assert_eq!((record.value.expect(result).get(), record.value_fault), (plain, None));
    }
}

/// The documents of Celery workers with another `result_serializer`, recorded.
#[test]
fn other_serializers_are_read_or_named() {
    let msgpack = b"\x84\xa6status\xa7SUCCESS\xa6result\xc4\x02\xff\x00\xa9traceback\xc0\xa7task_id\xa2id";
    #[cfg(feature = "msgpack")]
    {
        let record = decode(&id(), msgpack).expect("MessagePack is understood");
        assert_eq!((record.state, record.value.expect("bytes").get()), (TaskState::Success, "[255,0]"));
        let failed = b"\x82\xa6status\xa7FAILURE\xa6result\x82\xa8exc_type\xaaValueError\xabexc_message\x91\x07";
        let failure = decode(&id(), failed).expect("MessagePack is understood").failure;
        assert_eq!(failure.expect("it failed").to_string(), "ValueError: 7");
    }
    #[cfg(not(feature = "msgpack"))]
    assert!(decode(&id(), msgpack).expect_err("not understood").to_string().contains("feature `msgpack`"));
    let pickle = b"\x80\x04\x95\x2f\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x06status\x94\x8c\x07SUCCESS\x94u.";
    for (document, serializer) in [
        (&pickle[..], "pickle"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"children: []\ndate_done: '2026-11-21T02:04:46'\nresult: 5\nstatus: SUCCESS\n", "yaml"),
        (b"{children: [], result: 5, status: SUCCESS, task_id: id}\n", "yaml"),
    ] {
        let error = decode(&id(), document).expect_err(serializer).to_string();
        assert!(error.contains(&format!("`result_serializer = \"{serializer}\"`")), "{error}");
        assert!(error.contains("task id") && error.contains("\"json\""), "{error}");
    }
    for document in [&b"hello"[..], b"[1]", b"{\"result\":\"status: x\"}", b"\x82\x01", b""] {
        let error = decode(&id(), document).expect_err("it is no result").to_string();
        assert!(!error.contains("result_serializer"), "{error}");
    }
}

#[test]
fn times_without_an_offset_are_utc() {
    let moment = Utc.timestamp_opt(1_795_226_686, 500_000_000).single();
    for text in [
        "2026-11-21T02:04:46.5+00:00",
        "2026-11-21T02:04:46.500Z",
        "2026-11-21T03:04:46.500000000+01:00",
        "2026-11-21T02:04:46.500000",
        "2026-11-21 02:04:46.5",
    ] {
        let record = read(&format!(r#"{{"status":"SUCCESS","result":1,"date_done":"{text}"}}"#));
        assert_eq!(record.finished_at, moment, "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    for document in
        ["", "{", "[]", "5", "null", "{}", r#"{"status":null}"#, r#"{"status":5}"#, r#"{"status":"SUCCESS""#]
    {
        assert!(decode(&id(), document.as_bytes()).is_err(), "{document}");
    }
    assert!(decode(&id(), b"\x80\x04\x95").is_err());
}

/// Documents recorded from Celery itself.
#[test]
fn golden_documents_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/results");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder is part of the repository") {
        let path = entry.expect("it can be listed").path();
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).expect("it can be read")).expect("it is JSON");
        let key = golden["key"].as_str().expect("a golden file has a key");
        let id = TaskId::parse(key.strip_prefix("celery-task-meta-").expect("a result's key")).expect("an id");
        let document = golden["document"].as_str().expect("a golden file has a document");
        let record = decode(&id, document.as_bytes()).unwrap_or_else(|error| panic!("{path:?}: {error:?}"));
        let plain: Value = serde_json::from_str(document).expect("these have no odd literals");
        assert_eq!(plain["status"], record.state.as_str(), "{path:?}");
        assert_eq!(plain["task_id"], id.as_str(), "{path:?}");
        assert_eq!(record.finished_at.is_some(), record.state.is_terminal(), "{path:?}");
        assert_eq!(plain["traceback"].as_str(), record.traceback.as_deref(), "{path:?}");
        assert_eq!(plain["name"].as_str(), record.task.as_deref(), "{path:?}");
        assert_eq!(plain["worker"].as_str(), record.worker.as_deref(), "{path:?}");
        let stored = match (&record.value, &record.failure) {
            (Some(value), None) => serde_json::from_str(value.get()).expect("it is JSON"),
            (None, Some(failure)) => serde_json::to_value(failure).expect("failures are JSON"),
            both_or_none => panic!("{path:?}: {both_or_none:?}"),
        };
        assert_eq!(plain["result"], stored, "{path:?}");
        count += 1;
    }
    assert!(count > 0, "there are no golden files in {}", folder.display());
}

fn moment() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    proptest::option::of(
        (0..4_000_000_000_i64, 0..1_000_000_u32)
            .prop_map(|(seconds, micros)| Utc.timestamp_opt(seconds, micros * 1000).single().expect("UTC has no gaps")),
    )
}

fn state() -> impl Strategy<Value = TaskState> {
    "STARTED|PROGRESS|RETRY|SUCCESS|FAILURE|REVOKED|UPLOADING|\\PC{1,8}".prop_map(|name| TaskState::from(name.as_str()))
}

prop_compose! {
    fn record()(
        state in state(),
        result in (any::<i64>(), ".*").prop_map(|(number, text)| json!({ text: [number, null] }).to_string()),
        failure in (".+", proptest::collection::vec(".*", 0..3), proptest::option::of(".*")),
        traceback in proptest::option::of(".*"),
        (finished_at, started_at, retry_at) in (moment(), moment(), moment()),
        (attempt, generation) in any::<(u32, u32)>(),
        (task, worker, group_id) in (
            proptest::option::of(".*"), proptest::option::of(".*"), proptest::option::of(".*"),
        ),
        parent_id in proptest::option::of("[ -~]{1,255}"),
    ) -> Record {
        let failed = has_failure(&state);
        let failure = Failure {
            exc_type: failure.0,
            exc_message: failure.1.into_iter().map(Value::from).collect(),
            exc_module: failure.2,
        };
        Record {
            value: (!failed).then(|| json(&result)),
            failure: failed.then_some(failure),
            traceback, finished_at, started_at, retry_at, attempt, generation, task, worker, group_id,
            parent_id: parent_id.map(|id| TaskId::parse(&id).expect("it has 1 to 255 bytes")),
            ..Record::new(id(), state)
        }
    }
}

proptest! {
    #[test]
    fn records_survive(record in record()) {
        let read = decode(&record.id, &encode(&record)).expect("it was written by us");
        // Debug shows every field; raw values have no equality.
        prop_assert_eq!(format!("{read:?}"), format!("{record:?}"));
    }

    #[test]
    fn the_first_bytes_say_what_may_replace_it(record in record()) {
        let generation =
            if record.generation > 0 { format!("\"generation\":{},", record.generation) } else { String::new() };
        let status = serde_json::to_string(&record.state).expect("a text");
        let prefix = format!("{{\"status\":{status},{generation}\"result\":");
        prop_assert!(written(&record).starts_with(&prefix));
    }

    #[test]
    fn any_bytes_are_taken(document in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode(&id(), &document);
    }
}
