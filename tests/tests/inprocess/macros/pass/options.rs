//! The options of the attribute, as the registry has them.

use std::time::Duration;

use taskq::definition::{AckMode, Backoff, Parameter, Registry, ScheduleAttribute, TaskOptions};
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
    let mut expected = TaskOptions::DEFAULT;
    expected.queue = Some("mail");
    expected.priority = Some(7);
    expected.retries = Some(5);
    expected.backoff = Some(Backoff::new(Duration::from_secs(1), Duration::from_secs(300)));
    expected.soft_time_limit = Some(Duration::from_secs(20));
    expected.time_limit = Some(Duration::from_secs(90));
    expected.expires = Some(Duration::from_secs(3600));
    expected.ignore_result = true;
    expected.ack = AckMode::Early;
    expected.schedule = Some(ScheduleAttribute::Cron { line: "0 9 * * MON-FRI", tz: "Europe/Berlin" });
    assert_eq!(*everything(std::collections::HashMap::new()).parts().task_options, expected);
    let registry = Registry::collect().expect("all names differ");
    let definition = registry.get(everything::NAME).expect("it is registered");
    assert_eq!(definition.options, expected);
    assert_eq!(definition.result, "Result<(), String>");
    assert_eq!(
        definition.parameters,
        [Parameter::new("_list", "std::collections::HashMap<String, Vec<(i64, Option<u8>)>>")]
    );
}

#[test]
fn an_interval_is_a_schedule() {
    let options = periodic().parts().task_options;
    assert_eq!(options.schedule, Some(ScheduleAttribute::Every(Duration::from_secs(30))));
    assert_eq!(options.backoff, Some(Backoff::new(Duration::from_secs(2), Duration::from_secs(600))));
    assert_eq!((options.ack, options.ignore_result), (AckMode::Late, false));
}
