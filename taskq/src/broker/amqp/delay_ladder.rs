//! The delay ladder, by which delayed messages wait in the broker and nowhere else.
//!
//! There are 28 levels. Level `L` is a queue whose messages expire after 100 ms × 2^L and then go one level down, and
//! an exchange that decides, by one digit of the routing key, whether a message waits here or skips the level. The key
//! is the delay in units of 100 ms, as 28 binary digits from the top, followed by the name of the destination queue.
//! All messages in one queue wait equally long, so none blocks another.
//!
//! ```text
//! taskq.delay.27  --1-->  [27: waits 155 days]  --.
//!        | 0                                       v
//!        '----------------------------------->  taskq.delay.26  ...  taskq.delay.0 --> taskq.delay.delivery --> queue
//! ```
//!
//! The last exchange routes by patterns of exactly 28 words and then the name of the queue. A pattern that allowed any
//! number of words there would give the messages of `eu.mail` to `mail` as well. A message that cannot leave a level
//! would block all that come after it. So a message that no pattern matches goes to the exchange's alternate: a queue
//! where it waits a little, from there to an exchange with the same patterns, and only if there is still no queue for
//! it to the dead queue. The reason is that a starting broker lets queues work before it has loaded all of its patterns
//! (seen with RabbitMQ 3.10), and messages that leave the ladder just then do have a queue.
//!
//! ```text
//! taskq.delay.delivery  --no queue-->  [late: waits 10 s]  -->  taskq.delay.late.delivery  --no queue-->  taskq.dead
//! ```
//!
//! What is sent to a level's queue by that queue's name, by mistake, carries the name as its key. No pattern fits it,
//! and RabbitMQ stops dead-lettering a queue when 32 of its messages cannot go on: all delays with that digit would
//! stay there. So the exchange below has a binding of exactly that key, to the dead queue. An alternate exchange would
//! say the same, but an exchange that exists cannot be given one, and an older program could not declare it any more.

use std::fmt::Write as _;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::arguments::{quorum_before, text};

/// The number of levels, and of digits in a key.
pub(super) const LEVELS: u32 = 28;

/// The delay of the lowest level in milliseconds, which is also the resolution of delays.
const UNIT_MS: u64 = 100;

/// The longest delay in units. A longer one would need a 29th digit, which every pattern would take for the queue's
/// name.
const UNITS_MAX: u32 = (1 << LEVELS) - 1;

/// The exchange at the end of the ladder.
pub(super) const DELIVERY_EXCHANGE: &str = "taskq.delay.delivery";

/// The exchange, and the queue, of messages that reached the end of the ladder and found no queue.
pub(super) const LATE: &str = "taskq.delay.late";

/// The exchange that tries to route them once more.
pub(super) const LATE_DELIVERY_EXCHANGE: &str = "taskq.delay.late.delivery";

/// The time for which they wait before that, in milliseconds.
const LATE_MS: i64 = 10_000;

/// The name of a level's exchange and of its queue.
pub(super) fn level_name(level: u32) -> String {
    format!("taskq.delay.{level}")
}

/// Whether a queue is one of the ladder's.
pub(super) fn is_ladder(queue: &str) -> bool {
    let level = queue.strip_prefix("taskq.delay.").and_then(|level| level.parse().ok());
    queue == LATE || level.is_some_and(|level: u32| level < LEVELS)
}

/// The destination of a message with this routing key, if the key is one of the ladder's.
pub(super) fn queue_of(key: &str) -> Option<&str> {
    let (digits, queue) = key.split_at_checked(2 * LEVELS as usize)?;
    let are_digits = digits.as_bytes().chunks(2).all(|pair| matches!(pair, b"0." | b"1."));
    (are_digits && !queue.is_empty()).then_some(queue)
}

/// The exchange to which messages go from `level`.
pub(super) fn below(level: u32) -> String {
    if level == 0 { DELIVERY_EXCHANGE.to_owned() } else { level_name(level - 1) }
}

/// The pattern of messages that wait on `level`: a one in its place.
pub(super) fn waits(level: u32) -> String {
    digit(level, '1')
}

/// The key of messages that are in `level` by mistake: they leave it by the exchange [`below`] it.
pub(super) fn strays(level: u32) -> String {
    level_name(level)
}

/// The pattern of messages that skip `level`: a zero in its place.
pub(super) fn passes(level: u32) -> String {
    digit(level, '0')
}

fn digit(level: u32, digit: char) -> String {
    format!("{}{digit}.#", "*.".repeat((LEVELS - 1 - level) as usize))
}

/// The pattern of messages for `queue` at the end of the ladder.
pub(super) fn arrives(queue: &str) -> String {
    format!("{}{queue}", "*.".repeat(LEVELS as usize))
}

/// The arguments of a level's queue.
pub(super) fn level_arguments(level: u32) -> FieldTable {
    let ttl = i64::try_from(UNIT_MS << level).expect("28 levels of 100 ms are far below 2^63");
    waiting_arguments(ttl, &below(level))
}

/// The arguments of the queue for messages that found no queue.
pub(super) fn late_arguments() -> FieldTable {
    waiting_arguments(LATE_MS, LATE_DELIVERY_EXCHANGE)
}

/// The arguments of a queue whose messages wait for `ttl_ms` and then go to the exchange `next`.
fn waiting_arguments(ttl_ms: i64, next: &str) -> FieldTable {
    let mut arguments = quorum_before(next);
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl_ms));
    arguments
}

/// The arguments of an exchange that passes unroutable messages to an alternate.
pub(super) fn or_else(alternate: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("alternate-exchange".into(), text(alternate));
    arguments
}

/// The exchange and the routing key that make a message arrive in `queue` after `delay`, rounded up to 100 ms. A delay
/// beyond the ladder's 310 days is cut to them, and a worker that receives the message early sends it round again.
pub(super) fn route(delay: Duration, queue: &str) -> (String, String) {
    let units = units(delay);
    // Entering at the highest level that is needed gives the same path as from the top.
    (level_name(units.ilog2()), key(units, queue))
}

fn units(delay: Duration) -> u32 {
    let units = delay.as_nanos().div_ceil(u128::from(UNIT_MS) * 1_000_000);
    u32::try_from(units).unwrap_or(UNITS_MAX).clamp(1, UNITS_MAX)
}

fn key(units: u32, queue: &str) -> String {
    let mut key = String::with_capacity(2 * LEVELS as usize + queue.len());
    for level in (0..LEVELS).rev() {
        write!(key, "{}.", units >> level & 1).expect("writing into a string cannot fail");
    }
    key + queue
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule by which a topic exchange matches a key against a pattern.
    fn fits(pattern: &[&str], key: &[&str]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&"#", rest)) => (0..=key.len()).any(|from| fits(rest, &key[from..])),
            Some((&word, rest)) => {
                key.split_first().is_some_and(|(first, others)| (word == "*" || word == *first) && fits(rest, others))
            }
        }
    }

    fn matches(pattern: &str, key: &str) -> bool {
        fits(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
    }

    /// Follows the ladder as the broker would, and returns the total delay in milliseconds.
    fn walk(exchange: &str, key: &str) -> u64 {
        let mut level: u32 = exchange.rsplit('.').next().and_then(|level| level.parse().ok()).expect("a level's name");
        let mut waited = 0;
        loop {
            assert_ne!(matches(&waits(level), key), matches(&passes(level), key), "level {level}, key {key}");
            if matches(&waits(level), key) {
                waited += UNIT_MS << level;
            }
            match level.checked_sub(1) {
                Some(next) => level = next,
                None => return waited,
            }
        }
    }

    #[test]
    fn routes_are_as_drawn() {
        let (exchange, key) = route(Duration::from_millis(501), "mail");
        assert_eq!(exchange, "taskq.delay.2");
        assert_eq!(key, format!("{}1.1.0.mail", "0.".repeat(25)));
        assert_eq!((queue_of(&key), queue_of("mail"), queue_of(&key[2..])), (Some("mail"), None, None));
        assert!(is_ladder(&level_name(27)) && is_ladder(LATE));
        assert!(!is_ladder("taskq.delay.28") && !is_ladder(DELIVERY_EXCHANGE));
        assert_eq!(route(Duration::from_millis(1), "q").0, "taskq.delay.0");
        assert_eq!(route(Duration::MAX, "q"), ("taskq.delay.27".to_owned(), format!("{}q", "1.".repeat(28))));
        assert_eq!(waits(27), "1.#");
        assert_eq!(passes(26), "*.0.#");
        assert_eq!(waits(0), format!("{}1.#", "*.".repeat(27)));
        assert_eq!((below(1).as_str(), below(0).as_str()), ("taskq.delay.0", "taskq.delay.delivery"));
    }

    #[test]
    fn the_ladder_is_as_high_as_is_said() {
        let longest = Duration::from_millis(u64::from(UNITS_MAX) * UNIT_MS);
        assert!(longest >= crate::message::Envelope::DELAY_MAX, "{longest:?}");
    }

    #[test]
    fn the_longest_name_leaves_room() {
        let (_, key) = route(Duration::MAX, &"q".repeat(190));
        assert!(key.len() <= 255 && arrives(&"q".repeat(190)).len() <= 255);
    }

    #[test]
    fn a_message_that_is_in_a_level_by_mistake_fits_its_own_binding_and_nothing_else() {
        for level in 0..LEVELS {
            let key = strays(level);
            if let Some(next) = level.checked_sub(1) {
                assert!(!matches(&waits(next), &key) && !matches(&passes(next), &key), "{key} on level {next}");
            }
            assert_eq!(queue_of(&key), None);
            let (_, delayed) = route(Duration::from_secs(1), &key);
            assert!(!matches(&key, &delayed), "{delayed}");
        }
    }

    proptest! {
        #[test]
        fn never_early_and_less_than_a_unit_late(ms in 1..26_843_545_500_u64, queue in "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}") {
            let (exchange, key) = route(Duration::from_millis(ms), &queue);
            prop_assert_eq!(key.split('.').count(), 28 + queue.split('.').count());
            let waited = walk(&exchange, &key);
            prop_assert!(waited >= ms && waited < ms + UNIT_MS, "asked {}, waited {}", ms, waited);
        }

        #[test]
        fn a_message_arrives_in_its_queue_and_in_no_other(
            queue in "[ab01]{1,2}(\\.[ab01]{1,2}){0,3}", other in "[ab01]{1,2}(\\.[ab01]{1,2}){0,3}", ms in 1..100_000_u64,
        ) {
            let (_, key) = route(Duration::from_millis(ms), &queue);
            prop_assert!(matches(&arrives(&queue), &key));
            prop_assert_eq!(matches(&arrives(&other), &key), other == queue);
        }
    }
}
