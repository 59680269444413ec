//! The age of a delivery: a pure decision about its renewal.

use std::time::Duration;

use tokio::time::Instant;

/// The age of a run's delivery, and the copies that were asked for to renew it.
#[derive(Debug, Default)]
pub(super) struct DeliveryAge {
    /// The time of the first look at the delivery.
    since: Option<Instant>,
    /// The time at which a copy was last asked for that has not arrived.
    asked: Option<Instant>,
    /// Whether the delivery is a copy, or will soon be: then it is not among those that count against the prefetch.
    renewed: bool,
}

impl DeliveryAge {
    /// Whether a copy is to be asked for at `now`, where the broker wants deliveries settled `within` some time.
    /// Notes that it was asked for.
    ///
    /// The time begins with the first look, a little late, so that short runs pay for no clock. A copy that does not
    /// arrive is asked for again before the time is over: three times, or once if the message had been waiting before
    /// it was taken.
    pub(super) fn is_due(&mut self, now: Instant, within: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        let waited = self.asked.is_none_or(|asked| now.duration_since(asked) >= within / 8);
        let due = waited && now.duration_since(since) >= within / 2;
        if due {
            (self.asked, self.renewed) = (Some(now), true);
        }
        due
    }

    /// Begins anew for another delivery, which is a copy if `renewed`.
    pub(super) fn restart(&mut self, renewed: bool) {
        *self = Self { renewed, ..Self::default() };
    }

    /// Whether the delivery is a copy, or will soon be.
    pub(super) fn is_renewed(&self) -> bool {
        self.renewed
    }

    /// Whether a copy may be on its way.
    pub(super) fn expects_copy(&self) -> bool {
        self.asked.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(80);

    #[test]
    fn a_copy_is_due_at_half_of_the_time_and_again_if_it_does_not_arrive() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut age = DeliveryAge::default();
        let mut due = Vec::new();
        for second in 0..=80 {
            if age.is_due(at(second), WITHIN) {
                due.push(second);
            }
        }
        assert_eq!(due, [40, 50, 60, 70, 80]);
        assert!(age.is_renewed() && age.expects_copy(), "a copy was asked for");
        age.restart(true);
        assert!(age.is_renewed() && !age.expects_copy(), "it has arrived");
        assert!(!age.is_due(at(81), WITHIN));
        assert!(!age.is_due(at(120), WITHIN));
        assert!(age.is_due(at(121), WITHIN), "half of the time after the copy was first looked at");
        age.restart(false);
        assert!(!age.is_renewed() && !age.expects_copy(), "the message came back to its queue, and from there");
    }
}
