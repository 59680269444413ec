//! What the attribute says, as the registry has it.

use std::time::Duration;

use taskq::definition::{AckMode, Backoff, Parameter, RateLimit, Registry, Schedule, TaskOptions};
use taskq::task;

#[task]
async fn plain() {}

#[task(
    queue = "mail",
    priority = 7,
    retries = 5,
    backoff = "1s..5m",
    retry_if = always,
    soft_time_limit = "20s",
    time_limit = "1m 30s",
    expires = "1h",
    rate_limit = "10/m",
    ignore_result,
    ack = "early",
    cron = "0 9 * * MON-FRI",
    tz = "Europe/Berlin",
)]
async fn everything(_list: std::collections::HashMap<String, Vec<(i64, Option<u8>)>>) -> Result<(), String> {
    Ok(())
}

#[task(every = "30s", backoff = "2s", ack = "late", ignore_result = false)]
async fn periodic() {}

fn always(_: &String) -> bool {
    true
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(*plain().parts().task_options, TaskOptions::DEFAULT);
    let registry = Registry::collect().expect("all names differ");
    assert_eq!(registry.get(plain::NAME).expect("it is registered").options, TaskOptions::DEFAULT);
}

#[test]
fn all_options_arrive_in_the_call_and_in_the_registry() {
    let expected = TaskOptions {
        queue: Some("mail"),
        priority: Some(7),
        retries: Some(5),
        backoff: Some(Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) }),
        soft_time_limit: Some(Duration::from_secs(20)),
        time_limit: Some(Duration::from_secs(90)),
        expires: Some(Duration::from_secs(3600)),
        rate_limit: Some(RateLimit { count: 10, per: Duration::from_secs(60) }),
        ignore_result: true,
        ack: AckMode::Early,
        schedule: Some(Schedule::Cron { line: "0 9 * * MON-FRI", tz: "Europe/Berlin" }),
    };
    assert_eq!(*everything(std::collections::HashMap::new()).parts().task_options, expected);
    let registry = Registry::collect().expect("all names differ");
    let definition = registry.get(everything::NAME).expect("it is registered");
    assert_eq!(definition.options, expected);
    assert_eq!(definition.result, "Result<(), String>");
    assert_eq!(
        definition.parameters,
        [Parameter { name: "_list", type_name: "std::collections::HashMap<String, Vec<(i64, Option<u8>)>>" }]
    );
}

#[test]
fn an_interval_is_a_schedule() {
    let options = periodic().parts().task_options;
    assert_eq!(options.schedule, Some(Schedule::Every(Duration::from_secs(30))));
    assert_eq!(options.backoff, Some(Backoff { min: Duration::from_secs(2), max: Duration::from_secs(600) }));
    assert_eq!((options.ack, options.ignore_result), (AckMode::Late, false));
}
