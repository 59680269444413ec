//! The time for which a consumer may hold a delivery: how much is asked for, and how much there is. Pure.
//!
//! A consumer timeout brings back what a consumer holds whose connection lives and which never settles: a delivery that
//! the program or its library has forgotten, or a program that hangs. Tasks that hang are bounded by their time limits,
//! workers that hang by their supervisor, and connections by heartbeats, so what is left to it are forgotten
//! deliveries. They are worth waiting a day for, and a task of some hours should not need copies of its message.
//!
//! So where a consumer can say its time (RabbitMQ since 4.3), a day is asked for, whatever the broker's own setting is.
//! Deliveries that grow older than half of it are [renewed](super::delivery_renewal) like everywhere.

use std::time::Duration;

/// The time that is asked for, at least.
const ASKED_MIN: Duration = Duration::from_secs(86_400);

/// The time that is asked for where no timeout is wanted.
const ASKED_FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// RabbitMQ's default, and that of the setting.
const BROKER_DEFAULT: Duration = Duration::from_secs(1800);

/// The time that a consumer asks for. `set`: the setting, `None` for no timeout.
pub(super) fn asked(set: Option<Duration>) -> Duration {
    set.map_or(ASKED_FOR_EVER, |set| set.max(ASKED_MIN))
}

/// The time within which a delivery has to be settled or renewed. `asks`: its consumer has asked for a time. A setting
/// below the default is meant as it stands: deliveries do not get older than that.
pub(super) fn within(set: Duration, asks: bool) -> Duration {
    if asks && set >= BROKER_DEFAULT { asked(Some(set)) } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_consumer_asks_it_has_a_day() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        for (set, asks, expected) in [
            (BROKER_DEFAULT, true, hours(24)),
            (BROKER_DEFAULT, false, BROKER_DEFAULT),
            (hours(2), true, hours(24)),
            (hours(2), false, hours(2)),
            (hours(48), true, hours(48)),
            (Duration::from_secs(2), true, Duration::from_secs(2)),
            (Duration::from_secs(2), false, Duration::from_secs(2)),
        ] {
            assert_eq!(within(set, asks), expected, "{set:?} {asks}");
            assert!(asked(Some(set)) >= within(set, true), "no delivery is used for longer than was asked for");
        }
        assert!(asked(None) > hours(24 * 300));
    }
}
