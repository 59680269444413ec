//! Settings from files, variables and code, and the errors of those that cannot be used.

use std::time::Duration;

use super::values::DEFAULT_URL;
use super::*;
use crate::broker::QueueKind;

fn from_toml(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::default();
    settings.apply_toml(text, &Origin::File("taskq.toml".into())).map_err(|error| error.to_string())?;
    Ok(settings)
}

#[test]
fn a_group_of_beats_has_a_short_plain_name() {
    let mut settings = Settings::default();
    for (name, expected) in [("billing", Some("billing")), ("a.b-c_1", Some("a.b-c_1")), ("", None)] {
        settings.set("beat_group", name, Origin::Code).expect(name);
        assert_eq!(settings.beat_group(), expected);
    }
    for name in ["a/b", "two words", "longer-than-twenty-bytes"] {
        settings.set("beat_group", name, Origin::Code).expect_err(name);
    }
}

#[test]
fn a_file_is_read_whole() {
    let settings = from_toml(
        "broker_url = \"amqp://h\"\nstrict = true\nmax_message_bytes = 1_000\nresult_ttl = \"0s\"\n\
         [queues.mail]\nkind = \"classic\"\nmax_priority = 9\n[interop]\nqueues = [\"py\"]\n",
    )
    .expect("every key is known");
    assert_eq!((settings.broker_url(), settings.result_url()), ("amqp://h", None));
    assert_eq!((settings.strict, settings.max_message_bytes, settings.result_ttl), (true, 1000, None));
    assert_eq!(settings.queues["mail"], QueueSettings { kind: QueueKind::Classic, max_priority: Some(9) });
    assert_eq!(settings.interop, ["py"]);
}

#[test]
fn a_broker_may_wait_for_ever() {
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    let cases = [("\"none\"", None), ("\"0\"", None), ("\"0s\"", None), ("0", None), ("\"1h\"", minutes(60))];
    for (value, expected) in cases {
        let settings = from_toml(&format!("consumer_timeout = {value}")).expect(value);
        assert_eq!(settings.consumer_timeout, expected, "{value}");
    }
    assert_eq!(Settings::default().consumer_timeout, minutes(30));
    let error = from_toml("consumer_timeout = \"never\"").expect_err("it is written `none`");
    assert!(error.contains("or \"none\", not \"never\""), "{error}");
}

#[test]
fn schedules_are_kept_for_others_to_read() {
    let text = "[schedule.nightly]\ntask = \"x\"\nonce = 2030-01-31T08:00:00Z\nargs = [1, 2.5, true, [\"a\"]]\n";
    let settings = from_toml(text).expect("it is not looked into");
    let expected = serde_json::json!({
        "nightly": { "task": "x", "once": "2030-01-31T08:00:00Z", "args": [1, 2.5, true, ["a"]] }
    });
    assert_eq!(serde_json::Value::Object(settings.schedule.clone()), expected);
    assert_eq!(settings.schedule_origin().to_string(), "taskq.toml");
    assert_eq!(Settings::default().schedule_origin(), Origin::Default);
}

#[test]
fn mistakes_name_the_key_and_the_mend() {
    for (text, expected) in [
        ("brokerurl = \"x\"", "did you mean `broker_url`?"),
        ("broker_url = [1]", "`broker_url` takes a URL"),
        ("publish_timeout = \"soon\"", "`publish_timeout` takes a length of time such as \"30s\", not \"soon\""),
        ("strict = \"perhaps\"", "`strict` takes true or false"),
        ("claim_lease = \"10ms\"", "`claim_lease` takes a length of time such as \"30s\", of at least a second"),
        ("queues = 3", "write [queues]"),
        ("[queues.mail]\nkind = \"lazy\"", "takes \"quorum\" or \"classic\""),
        ("[queues.mail]\nmax_priority = 9", "needs a classic queue"),
        ("[queues.mail]\nmax_prio = 9", "did you mean `max_priority`?"),
        ("[interop]\nqueues = \"celery\"", "takes a list"),
        ("default_queue = \"taskq.dead\"", "which does not begin with `taskq.` or `amq.`, not \"taskq.dead\""),
        ("default_queue = \"eu.*\"", "without `*` and `#`"),
        ("[queues.\"taskq.delay.3\"]\nkind = \"classic\"", "`queues`: \"taskq.delay.3\" cannot be a queue name: names"),
        ("[interop]\nqueues = [\"celery\", \"taskq.dead\"]", "`interop.queues`: \"taskq.dead\" cannot be a queue name"),
        ("schedule = 3", "write [schedule.NAME]"),
        ("[schedule.x]\nkwargs = { share = nan }", "`schedule` holds a number that JSON does not have: NaN"),
        ("strict = ", "taskq.toml: TOML parse error at line 1, column 10: "),
        ("strict = true\nbroker_url = \"amqp://u:secret@h\nx = 1", "TOML parse error at line 2, column "),
        ("broker_url = amqp://u:secret@h", "TOML parse error at line 1, column "),
        ("\"amqp://secret@h\" = 1", "unknown setting `amqp://***@h`"),
        ("default_queue = \"amqp://secret@*\"", "not \"amqp://***\""),
        ("strict = \"redis://:secret@h\"", "not \"redis://:***@h\""),
        ("broker_url = \"se cret\\u0000\"", "control characters and without spaces around it, not \"***"),
        ("[queues.mail]\nkind = \"amqp://secret@h\"", "not amqp://***@h"),
        ("broker_url = \"sqlite:/x.db\\n\"", "`broker_url` takes a URL, without control characters"),
        ("result_url = \" redis://h\"", "`result_url` takes a URL, without control characters and without spaces"),
        ("beat_store = \"redis://u:secret@h\\t\"", "not \"redis://u:***@h\\t\""),
        ("default_queue = \"mail\\n\"", "or `amq.`, not \"mail\\n\""),
        ("default_queue = \" mail\"", "`default_queue` takes a queue's name"),
    ] {
        let error = from_toml(text).expect_err(text);
        assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let settings = from_toml(
        "broker_url = \"amqp://secret@h\"\nresult_url = \"redis://:secret@h\"\nbeat_store = \"redis://:secret@b\"\n\
         [schedule.nightly]\nargs = [\"secret\"]\n",
    );
    let shown = format!("{:?}", settings.expect("every key is known"));
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("\"amqp://***@h\"") && shown.contains("nightly"), "{shown}");
    let builder = crate::Client::builder().broker("amqp://secret@h").results("redis://:secret@h");
    let shown = format!("{builder:?}");
    assert!(!shown.contains("secret") && shown.contains("redis://:***@h"), "{shown}");
}

#[test]
fn variables_override_the_file_and_are_remembered() {
    let mut settings = from_toml("default_queue = \"file\"").expect("known");
    let variables = [("TASKQ_DEFAULT_QUEUE", "env"), ("TASKQ_TEST_X", "1"), ("PATH", "/")];
    settings
        .apply_variables(variables.into_iter().map(|(name, value)| (name.into(), value.into())))
        .expect("only the first is ours");
    assert_eq!(settings.default_queue, "env");
    let report = settings.report();
    let setting = report.iter().find(|setting| setting.key == "default_queue").expect("it is a key");
    assert_eq!(setting.origin, Origin::Variable("TASKQ_DEFAULT_QUEUE".to_owned()));
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_unicode_matters_only_where_it_is_ours() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let wild = |text: &[u8]| OsString::from_vec(text.to_owned());
    let mut settings = Settings::default();
    let others = [("BAD", &b"\xa3"[..]), ("TASKQ_TEST_X", b"\xa3"), ("PATH", b"/\xff:/bin")];
    let others = others.map(|(name, value)| (name.into(), wild(value)));
    let nameless = (wild(b"TASKQ_BROKER_URL\xa3"), wild(b"sqlite:x.db"));
    settings.apply_variables(others.into_iter().chain([nameless])).expect("none of them is ours");
    assert_eq!(settings, Settings::default());
    for (key, variable) in [("broker_url", "TASKQ_BROKER_URL"), ("get_timeout", "TASKQ_GET_TIMEOUT")] {
        let error = settings.apply_variables([(variable.into(), wild(b"amqp://u:secret\xa3@h"))].into_iter());
        let error = error.expect_err("it cannot be read").to_string();
        assert!(error.starts_with(&format!("{variable}: `{key}` takes ")) && error.contains("not Unicode"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn an_embedded_broker_keeps_the_results_too() {
    for (text, broker, results) in [
        ("", DEFAULT_URL, Some(DEFAULT_URL)),
        ("broker_url = \"sqlite:jobs.db\"", "sqlite:jobs.db", Some("sqlite:jobs.db")),
        ("broker_url = \"memory:x\"", "memory:x", Some("memory:x")),
        ("broker_url = \"memory:x\"\nresult_url = \"none\"", "memory:x", None),
        ("result_url = \"redis://h\"", DEFAULT_URL, Some("redis://h")),
        ("broker_url = \"amqp://h\"", "amqp://h", None),
    ] {
        let settings = from_toml(text).expect("every key is known");
        assert_eq!((settings.broker_url(), settings.result_url()), (broker, results), "{text}");
    }
}

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    let path = std::env::temp_dir().join(format!("taskq-secret-{}", uuid::Uuid::now_v7()));
    let here = path.to_str().expect("it is text").to_owned();
    let apply = |content: &str, variables: &[(&str, &str)]| {
        std::fs::write(&path, content).expect("the temporary folder can be written");
        let mut settings = from_toml("broker_url = \"amqp://file\"\nresult_url = \"redis://file\"").expect("known");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.replace("HERE", &here).into()));
        settings.apply_variables(variables).map(|()| settings).map_err(|error| error.to_string())
    };
    let url = "amqp://u:secret@h";
    let settings = apply(&format!("{url}\n"), &[("TASKQ_BROKER_URL_FILE", "HERE"), ("TASKQ_RESULT_URL_FILE", "")]);
    let settings = settings.expect("it is a URL");
    assert_eq!((settings.broker_url(), settings.result_url()), (url, Some("redis://file")));
    let report = settings.report();
    let origin = report.iter().find(|setting| setting.key == "broker_url").expect("it is a key").origin.to_string();
    assert_eq!(origin, format!("TASKQ_BROKER_URL_FILE={here}"));
    let settings = apply(url, &[("TASKQ_BROKER_URL", ""), ("TASKQ_BROKER_URL_FILE", "HERE")]).expect("one is empty");
    assert_eq!(settings.broker_url(), url);
    let settings =
        apply(url, &[("TASKQ_BROKER_URL", "amqp://v"), ("TASKQ_BROKER_URL_FILE", "")]).expect("one is empty");
    assert_eq!(settings.broker_url(), "amqp://v");
    apply("x", &[("TASKQ_DEFAULT_QUEUE_FILE", "HERE")]).expect("a setting that is no secret has no such variable");
    for (content, variables, expected) in [
        ("amqp://secret@h\n\n", &[("TASKQ_BROKER_URL_FILE", "HERE")][..], "`broker_url` takes a URL, without control"),
        ("\n", &[("TASKQ_BROKER_URL_FILE", "HERE")], "the file is empty; name a file with the value of `broker_url`"),
        ("", &[("TASKQ_RESULT_URL_FILE", "/no/such")], "TASKQ_RESULT_URL_FILE=/no/such: cannot be read: No such file"),
        ("", &[("TASKQ_BEAT_STORE_FILE", "/")], "TASKQ_BEAT_STORE_FILE=/: this is a folder; name a file"),
        ("secret", &[("TASKQ_SIGNING_KEY_FILE", "HERE")], "`signing_key` takes "),
        ("secret", &[("TASKQ_VERIFY_KEYS_FILE", "HERE")], "`verify_keys` takes "),
        ("secret", &[("TASKQ_SEALING_KEYS_FILE", "HERE")], "`sealing_keys` takes "),
        (
            "amqp://h",
            &[("TASKQ_BROKER_URL_FILE", "HERE"), ("TASKQ_BROKER_URL", "amqp://secret@h")],
            "TASKQ_BROKER_URL_FILE: TASKQ_BROKER_URL is set as well, and they may differ; remove one of the two",
        ),
    ] {
        let error = apply(content, variables).expect_err(content);
        assert!(error.contains(expected) && !error.contains("secret@") && !error.contains("\"secret"), "{error}");
    }
    drop(std::fs::remove_file(path));
}
