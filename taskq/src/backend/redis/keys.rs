//! Redis keys and their TTLs.

use std::time::Duration;

use crate::message::TaskId;

/// Celery's prefix of the keys of results, and of the channels on which their changes are published.
const RESULT: &str = "celery-task-meta-";

/// The pattern of all channels on which changes of results are published, as ACLs take it.
pub(super) const CHANNELS: &str = "celery-task-meta-*";

/// The prefix of all keys that are not Celery's.
const OWN: &str = "taskq:";

/// The key of a task's result document, and the channel of its changes.
pub(super) fn result(id: &TaskId) -> String {
    format!("{RESULT}{id}")
}

/// The task whose changes are published on `channel`.
pub(super) fn task_of(channel: &str) -> Option<TaskId> {
    TaskId::parse(channel.strip_prefix(RESULT)?).ok()
}

/// The Redis key of the Kv key `key`.
pub(super) fn fact(key: &str) -> String {
    format!("{OWN}{key}")
}

/// The Kv key of the Redis key `stored`.
pub(super) fn fact_of(stored: &str) -> Option<&str> {
    stored.strip_prefix(OWN)
}

/// The pattern that matches the Redis keys of all Kv keys with the prefix `prefix`.
pub(super) fn facts_pattern(prefix: &str) -> String {
    let mut pattern = String::from(OWN);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

/// A TTL in the form that the scripts and `PX` take: milliseconds, at least 1. `None` stays `None`.
pub(super) fn ttl_ms(ttl: Option<Duration>) -> Option<u64> {
    // Redis rejects times beyond the range of its clock; three hundred years are as good as no TTL.
    const FOR_EVER_MS: u128 = 300 * 365 * 86_400 * 1000;
    let ttl_ms = ttl?.as_millis();
    (ttl_ms < FOR_EVER_MS).then(|| u64::try_from(ttl_ms.max(1)).expect("it is below three hundred years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_name_their_task() {
        let id = TaskId::parse("7476cf9a").expect("it is short");
        assert_eq!(result(&id), "celery-task-meta-7476cf9a");
        assert_eq!(task_of(&result(&id)), Some(id));
        assert_eq!(task_of("celery-task-meta-"), None);
        assert_eq!(task_of("other"), None);
    }

    #[test]
    fn facts_have_a_prefix() {
        assert_eq!(fact("lease/1"), "taskq:lease/1");
        assert_eq!(fact_of("taskq:lease/1"), Some("lease/1"));
        assert_eq!(fact_of("lease/1"), None);
    }

    #[test]
    fn patterns_match_only_the_prefix_itself() {
        assert_eq!(facts_pattern("lease/"), "taskq:lease/*");
        assert_eq!(facts_pattern("a*b?[c-d]^\\é"), "taskq:a\\*b\\?\\[c\\-d\\]\\^\\\\é*");
    }

    #[test]
    fn times_to_live_are_never_zero() {
        assert_eq!(ttl_ms(None), None);
        assert_eq!(ttl_ms(Some(Duration::ZERO)), Some(1));
        assert_eq!(ttl_ms(Some(Duration::from_micros(1500))), Some(1));
        assert_eq!(ttl_ms(Some(Duration::from_secs(86_400))), Some(86_400_000));
        assert_eq!(ttl_ms(Some(Duration::MAX)), None);
    }
}
