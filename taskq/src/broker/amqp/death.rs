//! The reason why the broker itself moved a message to the dead queue, from the headers that it added. Pure.

use lapin::types::FieldTable;
use serde_json::Value;

use super::delay_ladder;
use super::value::from_value;
use crate::broker::{NO_QUEUE, NOT_DELAYED};

/// The reason and the queue, from the message's headers and routing key; `None` if the broker did not move it.
///
/// The last death counts: a delayed message has died on each level of the ladder on which it waited.
pub(super) fn of(headers: &FieldTable, key: &str) -> Option<(String, String)> {
    let noted = |name: &str| headers.inner().get(name).map(from_value);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let last = noted("x-death").and_then(|deaths| {
        let last = deaths.get(0)?;
        Some((text(&last["reason"])?, text(&last["queue"])?))
    });
    let first = || Some((text(&noted("x-first-death-reason")?)?, text(&noted("x-first-death-queue")?)?));
    let (reason, queue) = last.or_else(first)?;
    if !delay_ladder::is_ladder(&queue) {
        return Some((reason, queue));
    }
    match delay_ladder::queue_of(key) {
        // On the ladder a message only dies from one level to the next, so this one had reached the end of it.
        Some(queue) => Some((NO_QUEUE.to_owned(), queue.to_owned())),
        None => Some((NOT_DELAYED.to_owned(), queue)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lapin::types::AMQPValue;

    use super::*;

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    /// Deaths in RabbitMQ's form, the last one first.
    fn headers(deaths: &[(&str, &str)]) -> FieldTable {
        let mut headers = FieldTable::default();
        let Some((reason, queue)) = deaths.last() else { return headers };
        headers.insert("x-first-death-reason".into(), text(reason));
        headers.insert("x-first-death-queue".into(), text(queue));
        let noted = deaths.iter().map(|(reason, queue)| {
            let mut death = FieldTable::default();
            death.insert("reason".into(), text(reason));
            death.insert("queue".into(), text(queue));
            AMQPValue::FieldTable(death)
        });
        headers.insert("x-death".into(), AMQPValue::FieldArray(noted.collect::<Vec<_>>().into()));
        headers
    }

    #[test]
    fn the_last_death_counts_and_the_ladder_is_none() {
        let (_, ladder) = delay_ladder::route(Duration::from_secs(3), "eu.mail");
        for (deaths, key, expected) in [
            (&[][..], "mail", None),
            (&[("expired", "mail")], "mail", Some(("expired", "mail"))),
            (&[("delivery_limit", "mail"), ("expired", "taskq.delay.4")], "mail", Some(("delivery_limit", "mail"))),
            (&[("expired", "taskq.delay.1"), ("expired", "taskq.delay.4")], &*ladder, Some((NO_QUEUE, "eu.mail"))),
            (&[("expired", "taskq.delay.late"), ("expired", "taskq.delay.1")], &ladder, Some((NO_QUEUE, "eu.mail"))),
            (&[("expired", "taskq.delay.1")], "taskq.delay.1", Some((NOT_DELAYED, "taskq.delay.1"))),
            (&[("expired", "taskq.delay.late")], "taskq.delay.late", Some((NOT_DELAYED, "taskq.delay.late"))),
            (&[("expired", "taskq.delay.28")], "mail", Some(("expired", "taskq.delay.28"))),
        ] {
            let death = of(&headers(deaths), key);
            let death = death.as_ref().map(|(reason, queue)| (reason.as_str(), queue.as_str()));
            assert_eq!(death, expected, "{deaths:?}");
        }
        let mut old = headers(&[("rejected", "mail")]);
        old.insert("x-death".into(), text("what is this?"));
        assert_eq!(of(&old, "mail"), Some(("rejected".to_owned(), "mail".to_owned())));
    }
}
