//! Events for those who watch, in the words of Celery's workers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use taskq::internal::attempt::Verdict;
use taskq::internal::clock::Clock;
use taskq::message::{Envelope, Failure, shortened};
use taskq::remote::Event;

use super::{Moment, Observer, Subject};
use crate::remote::{EventBuffer, signed};

/// The longest text of a value in an event, in bytes, as Celery has it.
const VALUE_BYTES_MAX: usize = 1024;

/// The observer that makes events.
#[derive(Debug)]
pub(crate) struct EventMaker {
    pub(crate) buffer: Arc<EventBuffer>,
    /// The node in whose name they are told.
    pub(crate) node: Arc<str>,
    pub(crate) clock: Clock,
}

impl Observer for EventMaker {
    fn observe(&self, moment: &Moment<'_>) {
        if !self.buffer.is_wanted() {
            return;
        }
        let event = match moment {
            Moment::Received { subject, envelope } => received(*subject, envelope),
            Moment::Began { subject } => about("task-started", *subject),
            Moment::Concluded { subject, verdict, value, traceback, took } => {
                match concluded(*subject, verdict, *value, *traceback, *took) {
                    Some(event) => event,
                    None => return,
                }
            }
            Moment::NotRun { subject, verdict } => match concluded(*subject, verdict, None, None, None) {
                Some(event) => event,
                None => return,
            },
            _ => return,
        };
        self.buffer.add(signed(event, &self.node, self.clock.now()));
    }
}

fn about(kind: &str, subject: Subject<'_>) -> Event {
    Event::new(kind).with("uuid", subject.id.as_str())
}

fn received(subject: Subject<'_>, envelope: &Envelope) -> Event {
    let (args, kwargs) = arguments(envelope);
    let id = |id: Option<&taskq::TaskId>| id.map_or(Value::Null, |id| id.as_str().into());
    let time = |time: Option<chrono::DateTime<chrono::Utc>>| time.map_or(Value::Null, |time| time.to_rfc3339().into());
    about("task-received", subject)
        .with("name", subject.task)
        .with("args", args)
        .with("kwargs", kwargs)
        .with("root_id", id(envelope.root_id.as_ref().or(Some(subject.id))))
        .with("parent_id", id(envelope.parent_id.as_ref()))
        .with("retries", subject.attempt)
        .with("eta", time(envelope.eta))
        .with("expires", time(envelope.expires))
}

/// The arguments as texts: those of the sender, if it gave some, otherwise JSON where that is no effort.
fn arguments(envelope: &Envelope) -> (String, String) {
    if let (Some(args), Some(kwargs)) = (envelope.headers.text("argsrepr"), envelope.headers.text("kwargsrepr")) {
        return (args.to_owned(), kwargs.to_owned());
    }
    let payload = &envelope.payload;
    let is_plain = payload.content_type == "application/json" && payload.compression.is_none();
    let parts = (is_plain && payload.body.len() <= 4 * VALUE_BYTES_MAX)
        .then(|| serde_json::from_slice::<(&RawValue, &RawValue, &RawValue)>(&payload.body).ok())
        .flatten();
    match parts {
        Some((args, kwargs, _)) => (text(args.get()), text(kwargs.get())),
        None => ("(…)".to_owned(), "{…}".to_owned()),
    }
}

fn text(value: &str) -> String {
    shortened(value.to_owned(), VALUE_BYTES_MAX)
}

fn concluded(
    subject: Subject<'_>,
    verdict: &Verdict,
    value: Option<&RawValue>,
    traceback: Option<&str>,
    took: Option<Duration>,
) -> Option<Event> {
    let failed = |kind, failure: &Failure| {
        let traceback = traceback.map_or_else(|| failure.to_string(), |place| format!("{failure}\n{place}"));
        about(kind, subject).with("exception", text(&failure.to_string())).with("traceback", traceback)
    };
    Some(match verdict {
        Verdict::Succeed => about("task-succeeded", subject)
            .with("result", value.map_or_else(|| "null".to_owned(), |value| text(value.get())))
            .with("runtime", took.unwrap_or_default().as_secs_f64()),
        Verdict::Retry { failure, .. } => failed("task-retried", failure),
        Verdict::Fail { failure, .. } => failed("task-failed", failure),
        Verdict::Revoke { failure } => {
            let word = failure.message();
            about("task-revoked", subject)
                .with("terminated", word == "terminated")
                .with("signum", Value::Null)
                .with("expired", word == "expired")
        }
        Verdict::Snooze { .. } | Verdict::GiveBack => return None,
    })
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;
    use taskq::message::Payload;

    use super::*;

    fn made(moment: &Moment<'_>, wanted: bool) -> Option<Event> {
        let (buffer, mut events) = EventBuffer::new(wanted);
        let maker = EventMaker { buffer, node: "w@here".into(), clock: Clock::system() };
        maker.observe(moment);
        events.next()
    }

    #[test]
    fn each_moment_has_the_words_that_celery_has() {
        let id = TaskId::parse("7").expect("it is an id");
        let subject = Subject { task: "shop.add", id: &id, attempt: 1 };
        let body = bytes::Bytes::from_static(b"[[2, 3], {\"z\": 4}, {}]");
        let payload = Payload { content_type: "application/json".into(), body, ..Payload::default() };
        let envelope = Envelope::new(id.clone(), "shop.add", payload);
        let event = made(&Moment::Received { subject, envelope: &envelope }, true).expect("it is wanted");
        assert_eq!(
            (event.kind.as_str(), event.text("uuid"), event.text("hostname")),
            ("task-received", Some("7"), Some("w@here"))
        );
        assert_eq!((event.text("args"), event.text("kwargs")), (Some("[2, 3]"), Some("{\"z\": 4}")));
        assert_eq!((&event.fields["retries"], &event.fields["eta"]), (&Value::from(1), &Value::Null));
        assert!(made(&Moment::Received { subject, envelope: &envelope }, false).is_none());

        let failure = Failure::new("builtins", "ValueError", "no");
        for (verdict, kind, field) in [
            (Verdict::Succeed, "task-succeeded", "runtime"),
            (Verdict::Retry { delay_ms: 1, failure: failure.clone() }, "task-retried", "exception"),
            (Verdict::Fail { reason: taskq::internal::attempt::Reason::Failed, failure }, "task-failed", "traceback"),
            (Verdict::revoked(true), "task-revoked", "terminated"),
            (Verdict::expired(), "task-revoked", "expired"),
        ] {
            let moment = Moment::Concluded { subject, verdict: &verdict, value: None, traceback: None, took: None };
            let event = made(&moment, true).expect("it is wanted");
            assert_eq!(event.kind, kind);
            assert!(event.fields.contains_key(field), "{event:?}");
            if kind == "task-revoked" {
                assert_eq!(event.fields[field], true);
            }
        }
        let verdict = Verdict::GiveBack;
        let moment = Moment::Concluded { subject, verdict: &verdict, value: None, traceback: None, took: None };
        assert!(made(&moment, true).is_none());
    }
}
