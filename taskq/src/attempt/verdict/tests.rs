//! Tables of attempts' ends and their meaning.

use super::*;
use crate::message::{Payload, TaskId};

const POLICY: RetryPolicy = RetryPolicy::DEFAULT;

fn envelope(attempt: u32) -> Envelope {
    Envelope { attempt, ..Envelope::new(TaskId::new(), "shop.buy", Payload::default()) }
}

fn failure() -> Failure {
    Failure::new("shop", "NoStock", "none left")
}

fn verdict(outcome: Outcome, attempt: u32) -> Verdict {
    conclude(outcome, &POLICY, &envelope(attempt), Duration::ZERO).verdict
}

fn failed(directive: Directive) -> Outcome {
    Outcome::Failed(TaskError::new(directive, failure()))
}

#[test]
fn ends_and_their_verdicts() {
    let five = Duration::from_secs(5);
    let dead = Verdict::Fail { reason: Reason::Failed, failure: failure() };
    assert_eq!(verdict(Outcome::Done(serde_json::value::to_raw_value(&5).expect("a number")), 0), Verdict::Succeed);
    assert_eq!(verdict(failed(Directive::RetryIn(five)), 2), Verdict::Retry { delay_ms: 5000, failure: failure() });
    assert_eq!(verdict(failed(Directive::RetryIn(five)), 3), dead);
    assert_eq!(verdict(failed(Directive::Permanent), 0), dead);
    assert_eq!(verdict(failed(Directive::Snooze(five)), 3), Verdict::Snooze { delay_ms: 5000, put_back: false });
    assert_eq!(verdict(failed(Directive::Cancel), 0), Verdict::Revoke { failure: failure() });
    assert_eq!(verdict(Outcome::Stopped(Stop::Interrupted, None), 0), Verdict::GiveBack);
    assert!(matches!(verdict(Outcome::Panicked(failure(), None), 0), Verdict::Retry { .. }));
}

#[test]
fn limits_are_celerys_exceptions() {
    let Verdict::Fail { failure, .. } = verdict(Outcome::Stopped(Stop::TimeLimit, Some(Duration::from_secs(30))), 0)
    else {
        panic!("a hard limit is final")
    };
    assert_eq!((failure.exc_type.as_str(), failure.message().as_str()), ("TimeLimitExceeded", "30.0"));
    let soft = Outcome::SoftLimit(TaskError::permanent("stopped half-way"));
    let Verdict::Fail { failure, .. } = verdict(soft, 0) else { panic!("it asked for no retry") };
    assert_eq!(failure.to_string(), "SoftTimeLimitExceeded: stopped half-way");
}

/// As in Celery, the soft limit only asks. A task that has a result all the same has done its work.
#[test]
fn a_result_after_the_soft_limit_is_a_success() {
    let value = || Ok(Ok(serde_json::value::to_raw_value(&5).expect("a number")));
    for soft_limit_over in [false, true] {
        assert_eq!(verdict(Outcome::of(value(), soft_limit_over), 0), Verdict::Succeed);
        let failed = Outcome::of(Ok(Err(TaskError::permanent("half-way"))), soft_limit_over);
        let Verdict::Fail { failure, .. } = verdict(failed, 0) else { panic!("it asked for no retry") };
        assert_eq!(failure.exc_type == "SoftTimeLimitExceeded", soft_limit_over, "{failure}");
    }
}

#[test]
fn a_retry_is_the_same_task_one_attempt_on() {
    let now = Utc::now();
    let envelope = Envelope { resent: true, snoozes: 2, ..envelope(1) };
    let retry = Verdict::Retry { delay_ms: 1500, failure: failure() };
    let (next, delay) = retry.next_message(&envelope, now).expect("a retry follows");
    assert_eq!((next.attempt, next.snoozes, next.resent, delay), (2, 0, false, Duration::from_millis(1500)));
    assert_eq!((&next.id, &next.payload), (&envelope.id, &envelope.payload));
    assert_eq!(next.eta, Some(now + TimeDelta::milliseconds(1500)));
    let record = retry.record(&envelope, now).expect("a retry is recorded");
    assert_eq!((record.state.clone(), record.retry_at, record.attempt), (TaskState::Retry, next.eta, 1));
    // A worker that finds the record later waits for the rest of the delay, and never for less than nothing.
    assert_eq!(
        Verdict::of_record(&record, now + TimeDelta::milliseconds(500)),
        Some(Verdict::Retry { delay_ms: 1000, failure: failure() })
    );
    assert_eq!(
        Verdict::of_record(&record, now + TimeDelta::hours(1)),
        Some(Verdict::Retry { delay_ms: 0, failure: failure() })
    );
}

#[test]
fn a_snooze_is_the_same_attempt_and_leaves_no_record() {
    let now = Utc::now();
    let snooze = Verdict::Snooze { delay_ms: 10, put_back: false };
    let (next, _) = snooze.next_message(&envelope(1), now).expect("it comes again");
    assert_eq!((next.attempt, next.snoozes, next.delay_served, next.put_back), (1, 1, true, None));
    assert!(snooze.record(&envelope(1), now).is_none());
    let year = Duration::from_secs(366 * 86_400);
    let snooze = Verdict::Snooze { delay_ms: millis(year), put_back: false };
    let (next, _) = snooze.next_message(&envelope(1), now).expect("it comes again");
    assert!(!next.delay_served, "brokers cut such a delay");
}

#[test]
fn arguments_that_do_not_fit_are_put_back_within_the_grace() {
    let grace = Duration::from_secs(600);
    let unfit = || ArgumentError::TooMany { task: "shop.buy", takes: 1, given: 2 };
    let concluded = |envelope: &Envelope| conclude(Outcome::BadArguments(unfit()), &POLICY, envelope, grace).verdict;
    let mut envelope = envelope(2);
    let mut rounds = 0;
    let dead = loop {
        let verdict = concluded(&envelope);
        let Verdict::Snooze { delay_ms, put_back: true } = verdict else { break verdict };
        let (next, delay) = verdict.next_message(&envelope, Utc::now()).expect("it comes again");
        assert_eq!((delay, next.attempt), (Duration::from_millis(delay_ms), 2), "the attempt is not spent");
        assert!(next.put_back > envelope.put_back, "{:?}", next.put_back);
        envelope = next;
        rounds += 1;
        // A build that can run it begins from nothing.
        let (after, _) = Verdict::Retry { delay_ms: 1, failure: failure() }
            .next_message(&envelope, Utc::now())
            .expect("a retry follows");
        assert_eq!(after.put_back, None);
    };
    assert!(rounds > 3 && envelope.put_back >= Some(grace), "{rounds} rounds, {:?}", envelope.put_back);
    let Verdict::Fail { reason, failure } = dead else { panic!("nobody could run it: {dead:?}") };
    assert_eq!((reason, failure.exc_type.as_str()), (Reason::Arguments, "TypeError"));
    // No other build would take these.
    for error in [
        ArgumentError::Twice { task: "shop.buy", parameter: "item" },
        ArgumentError::Mismatch {
            task: "shop.buy",
            parameter: "count",
            type_name: "u32",
            got: "\"two\"".to_owned(),
            why: "invalid type".to_owned(),
        },
    ] {
        let first = Envelope { put_back: None, ..envelope.clone() };
        let verdict = conclude(Outcome::BadArguments(error), &POLICY, &first, grace).verdict;
        assert!(matches!(verdict, Verdict::Fail { reason: Reason::Arguments, .. }), "{verdict:?}");
    }
}

#[test]
fn a_snooze_that_an_older_program_kept_is_read() {
    let old = serde_json::from_str::<Verdict>(r#"{"Snooze":{"delay_ms":5}}"#).expect("it can be read");
    assert_eq!(old, Verdict::Snooze { delay_ms: 5, put_back: false });
}

#[test]
fn terminal_verdicts_say_when_and_are_found_again() {
    let now = Utc::now();
    for verdict in [
        Verdict::Succeed,
        Verdict::Fail { reason: Reason::Failed, failure: failure() },
        Verdict::Revoke { failure: failure() },
    ] {
        let record = verdict.record(&envelope(0), now).expect("terminal states are recorded");
        assert!(record.state.is_terminal());
        assert_eq!(record.finished_at, Some(now));
        assert_eq!(Verdict::of_record(&record, now), Some(verdict));
    }
    assert_eq!(Verdict::of_record(&Record::new(TaskId::new(), TaskState::Started), now), None);
}

#[test]
fn an_earlier_run_is_read_from_its_record_by_generation_attempt_and_state() {
    let now = Utc::now();
    let envelope = Envelope { generation: 1, ..envelope(1) };
    let seen = |generation, attempt, state: TaskState| {
        let record = Record { attempt, generation, ..Record::new(envelope.id.clone(), state) };
        EarlierRun::of(&record, &envelope, now)
    };
    let finished = |verdict| Some(EarlierRun::Finished(verdict));
    let unexplained = || Failure::new("taskq", "TaskError", "the record does not say why");
    let failed = || Verdict::Fail { reason: Reason::Failed, failure: unexplained() };
    for (what, found, expected) in [
        ("it is running, or its worker died", seen(1, 1, TaskState::Started), None),
        ("the attempt before", seen(1, 0, TaskState::Retry), None),
        (
            "its own retry",
            seen(1, 1, TaskState::Retry),
            finished(Verdict::Retry { delay_ms: 0, failure: unexplained() }),
        ),
        ("its own end", seen(1, 1, TaskState::Failure), finished(failed())),
        ("the task's end in an earlier attempt", seen(1, 0, TaskState::Success), finished(Verdict::Succeed)),
        ("a later attempt", seen(1, 2, TaskState::Started), Some(EarlierRun::Overtaken)),
        (
            "the end of a later attempt, whose own message follows it up",
            seen(1, 2, TaskState::Failure),
            Some(EarlierRun::Overtaken),
        ),
        ("an earlier generation", seen(0, 1, TaskState::Failure), None),
        ("a later generation", seen(2, 0, TaskState::Started), Some(EarlierRun::Overtaken)),
    ] {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_recorded_failure_has_the_reason_that_it_had() {
    let now = Utc::now();
    for verdict in [
        Verdict::unknown_task("shop.add"),
        Verdict::worker_lost("signal 9 (SIGKILL)"),
        verdict(Outcome::BadBody("no JSON".to_owned()), 0),
        Verdict::Fail { reason: Reason::Failed, failure: failure() },
    ] {
        let record = verdict.record(&envelope(0), now).expect("an end is recorded");
        assert_eq!(Verdict::of_record(&record, now), Some(verdict));
    }
}

#[test]
fn what_a_process_died_of_is_celerys_exception_and_has_a_reason_of_its_own() {
    let verdict = Verdict::worker_lost("signal 9 (SIGKILL) on web-1");
    let Verdict::Fail { reason, failure } = &verdict else { panic!("it is final") };
    assert_eq!(reason.as_str(), "worker-lost");
    assert_eq!(failure.to_string(), "WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) on web-1");
    assert_eq!(failure.exc_module.as_deref(), Some("billiard.exceptions"));
}

#[test]
fn the_retry_of_a_quarantined_task_goes_to_its_origin_queue() {
    let quarantined = Envelope { moved: true, origin_queue: Some("orders".into()), returns: 2, ..envelope(0) };
    let retry = Verdict::Retry { delay_ms: 1, failure: failure() };
    let (next, _) = retry.next_message(&quarantined, Utc::now()).expect("a retry follows");
    assert_eq!((next.origin_queue, next.moved, next.returns), (None, false, 0));
}
