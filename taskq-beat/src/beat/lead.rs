//! One term of a leader.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use taskq::backend::BackendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::desk::Desk;
use super::fire::Firer;
use super::news::{self, Update};
use super::tidy;
use super::{Beat, BeatStatus};
use crate::leader::{Lease, with_cause};
use crate::store::{Changes, Saved};

/// So many entries are fired at once.
const JOBS_MAX: usize = 64;

/// The clock is looked at so often, even if nothing is due for long.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// A clock that differs by more than this from what a monotonic one says was moved.
const MOVED_BY: TimeDelta = TimeDelta::seconds(2);

/// The two clocks, side by side.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    mono: Instant,
    wall: DateTime<Utc>,
}

impl Clocks {
    /// By how much the clock was moved since it was looked at last, if it was.
    fn moved(&mut self, mono: Instant, wall: DateTime<Utc>) -> Option<TimeDelta> {
        let passed = TimeDelta::from_std(mono.saturating_duration_since(self.mono)).unwrap_or(TimeDelta::MAX);
        let by = (wall - self.wall) - passed;
        *self = Self { mono, wall };
        (by.abs() > MOVED_BY).then_some(by)
    }
}

/// How long to wait for something at `next`.
fn wait(next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    let until = next.map_or(LOOK_AT_CLOCK_EVERY, |next| (next - now).to_std().unwrap_or_default());
    until.min(LOOK_AT_CLOCK_EVERY)
}

/// Fires what is due, until the lease is lost or the beat is stopped. What has been begun is finished.
pub(super) async fn lead(beat: &Beat, lease: &Arc<Lease>, mut stop: watch::Receiver<bool>) {
    // Whatever is in here ends with this term.
    let mut beside = JoinSet::new();
    let keeper = Arc::clone(lease);
    beside.spawn(async move { keeper.keep().await });
    match load(beat).await {
        Ok((desk, seen)) => {
            tracing::info!(node = beat.node, entries = desk.len(), term = lease.term(), "beat: this one leads");
            let (tell, told) = mpsc::channel(1);
            beside.spawn(news::listen(beat.store.clone(), seen, tell));
            beside.spawn(tidy::tidy(beat.store.clone(), Arc::clone(lease), beat.client.clock().clone()));
            fire(beat, lease, desk, told, &mut stop).await;
        }
        Err(error) => {
            tracing::warn!(error = with_cause(&error), "beat: the entries cannot be read; another beat may lead");
        }
    }
    if let Err(error) = lease.release().await {
        tracing::warn!(error = with_cause(&error), "beat: the lease could not be given back; it ends by itself");
    }
}

/// What the store knows. Changes are read first: what comes after is heard of later, perhaps twice.
async fn load(beat: &Beat) -> Result<(Desk, Changes), BackendError> {
    let seen = beat.store.changes().await?;
    let at_run_time = beat.store.at_run_time().await?;
    let facts = beat.store.all_facts().await?;
    let now = beat.client.clock().now();
    let known = loop {
        let (known, there) = beat.store.known().await?;
        let next = known.with(beat.entries(), now);
        if next == known && there.is_some() {
            break next;
        }
        let gone = known.missing_in(&beat.entries);
        if let Saved::Done(_) = beat.store.save_known(there.as_ref(), &next).await? {
            if !gone.is_empty() {
                let entries = gone.join(", ");
                tracing::warn!(
                    entries,
                    "beat: the beat that led before had entries that this one has not; it does not send them. All beats that share a store need the same"
                );
            }
            break next;
        }
    };
    Ok((Desk::new(Arc::clone(&beat.entries), at_run_time, facts, &known, now), seen))
}

async fn fire(
    beat: &Beat,
    lease: &Arc<Lease>,
    mut desk: Desk,
    mut told: mpsc::Receiver<Update>,
    stop: &mut watch::Receiver<bool>,
) {
    let clock = beat.client.clock();
    let firer = Firer {
        client: beat.client.clone(),
        registry: beat.registry.clone(),
        store: beat.store.clone(),
        lease: Arc::clone(lease),
        node: beat.node.clone(),
        counts: Arc::clone(&beat.counts),
    };
    let mut jobs = FuturesUnordered::new();
    let mut clocks = Clocks { mono: Instant::now(), wall: clock.now() };
    loop {
        let now = clock.now();
        if let Some(by) = clocks.moved(Instant::now(), now) {
            tracing::warn!(seconds = by.num_seconds(), "beat: the clock was moved, or this process stood still");
            desk.look_at_all(now);
        }
        let ends = *stop.borrow() || lease.is_lost();
        if ends && jobs.is_empty() {
            return;
        }
        let is_trusted = !ends && lease.is_trusted();
        while is_trusted
            && jobs.len() < JOBS_MAX
            && let Some(job) = desk.begin(now)
        {
            jobs.push(firer.run(job));
        }
        beat.status.send_if_modified(|status| {
            let new = BeatStatus { leads: true, entries: desk.len() };
            std::mem::replace(status, new) != new
        });
        // Without trust, or with all hands full, time alone is no reason to go on at once.
        let may_begin = is_trusted && jobs.len() < JOBS_MAX;
        let wait = if may_begin { wait(desk.next(), now) } else { Duration::from_millis(100) };
        tokio::select! {
            Some(done) = jobs.next(), if !jobs.is_empty() => desk.end(done, clock.now()),
            Some(update) = told.recv() => match update {
                Update::Of(said) => {
                    for (name, at_run_time) in said {
                        desk.change(&name, &at_run_time, clock.now());
                    }
                }
                Update::All(said) => desk.change_all(said, clock.now()),
            },
            () = tokio::time::sleep(wait) => {}
            _ = stop.wait_for(|is_asked| *is_asked), if !ends => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_moved_is_noticed_and_one_that_goes_is_not() {
        let (mono, wall) = (Instant::now(), DateTime::from_timestamp(1000, 0).expect("a moment"));
        let mut clocks = Clocks { mono, wall };
        for (mono_ms, wall_ms, expected) in [
            (1000, 1000, None),
            (2000, 1500, None),
            // Adjusted slowly.
            (3000, 4000, None),
            (4000, 3_605_000, Some(3600)),
            (5000, 6000, Some(-3600)),
        ] {
            let moved = clocks.moved(mono + Duration::from_millis(mono_ms), wall + TimeDelta::milliseconds(wall_ms));
            assert_eq!(moved.map(|by| by.num_seconds()), expected, "{wall_ms}");
        }
    }

    #[test]
    fn waits_are_bounded() {
        let now = DateTime::from_timestamp(1000, 0).expect("a moment");
        let second = Duration::from_secs(1);
        assert_eq!(wait(None, now), second);
        assert_eq!(wait(Some(now + TimeDelta::days(9)), now), second);
        assert_eq!(wait(Some(now + TimeDelta::milliseconds(5)), now), Duration::from_millis(5));
        assert_eq!(wait(Some(now - TimeDelta::days(9)), now), Duration::ZERO);
    }
}
