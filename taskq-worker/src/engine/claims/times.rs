//! How long leases and marks last.

use std::time::Duration;

/// The times of claims, which all derive from one: the length of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseTimes {
    /// The time for which a lease holds without being renewed.
    pub(crate) lease: Duration,
    /// The time between two renewals.
    pub(crate) renew_every: Duration,
    /// The time for which it is remembered that a process is gone: longer than any lease that it may have left.
    pub(crate) gone_for: Duration,
}

impl LeaseTimes {
    /// The times for leases that hold for `lease`, the setting `claim_lease`.
    pub(crate) fn of(lease: Duration) -> Self {
        Self { lease, renew_every: lease / 3, gone_for: lease.saturating_mul(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_a_lost_renewal_and_the_mark_of_a_dead_process_survives_its_leases() {
        for lease in [Duration::from_secs(1), Duration::from_secs(30)] {
            let times = LeaseTimes::of(lease);
            assert!(times.renew_every * 2 < times.lease, "one renewal may fail");
            assert!(times.gone_for > times.lease, "a lease that is found has its owner's mark still");
        }
        assert_eq!(LeaseTimes::of(Duration::from_secs(30)).renew_every, Duration::from_secs(10));
    }
}
