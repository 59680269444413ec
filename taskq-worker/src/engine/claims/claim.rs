//! One claim: a lease on a run, taken, renewed, finished or given up.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use taskq::backend::kv::{Versioned, first_version, from_versioned_json, to_json};
use taskq::backend::{BackendError, Put, ResultBackendExt, SharedKv, SharedResults};
use taskq::internal::attempt::{EarlierRun, Verdict};
use taskq::internal::clock::Clock;
use taskq::message::{Envelope, RunKey};

use super::gone::is_gone;
use super::times::LeaseTimes;

/// The time after which a duplicate that found a live lease looks again: soon at first, since the holder may have
/// died a moment ago and be reported any moment, later at leisure.
pub(crate) fn look_again_after(envelope: &Envelope) -> Duration {
    Duration::from_secs(if envelope.moved { 10 } else { 1 })
}

/// The time for which a finished claim is kept if it is the only witness. Duplicates come late after long outages, long
/// delays and long waits in a queue.
const ALONE_FOR: Duration = Duration::from_secs(86_400);

/// The time for which a finished claim is kept if there is a record as well, which is looked at once the claim is gone.
const BESIDE_RECORD_FOR: Duration = Duration::from_secs(3600);

/// The version of [`Lease`] that this release writes, and the newest that it reads. Absent in a stored lease, it is 1.
const LEASE_VERSION: u32 = 1;

/// The stored value of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lease {
    #[serde(default = "first_version")]
    v: u32,
    /// The process that runs the task, by a name that no other process ever has; where it is supervised, the name by
    /// which its death is reported.
    owner: String,
    /// The run of that worker. A worker does not take a lease of its own for free, and a run may claim more than once.
    nonce: u64,
    /// The meaning of the run's end, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

/// A claim that this worker holds.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    key: String,
    lease: Lease,
    value: Bytes,
}

/// The result of an attempt to claim a run.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The run is this worker's.
    Ours(Claim),
    /// The run is over, with this meaning.
    Finished(Verdict),
    /// A later attempt is known: what follows this run has long been published.
    Overtaken,
    /// Another run holds a live lease.
    Elsewhere,
}

/// The claims of one worker process. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    kv: SharedKv,
    results: SharedResults,
    owner: Arc<str>,
    times: LeaseTimes,
    clock: Clock,
}

impl Claim {
    fn new(run: &RunKey, owner: &str, nonce: u64) -> Self {
        let lease = Lease { v: LEASE_VERSION, owner: owner.to_owned(), nonce, verdict: None };
        let RunKey { id, generation, attempt, snoozes } = run;
        Self {
            // The id comes last: it may contain anything.
            key: format!("claim/{generation}.{attempt}.{snoozes}/{id}"),
            value: to_json(&lease),
            lease,
        }
    }
}

impl Claims {
    /// Claims in the name of the process `owner`, in these stores.
    pub(crate) fn new(kv: SharedKv, results: SharedResults, owner: &str, times: LeaseTimes, clock: Clock) -> Self {
        Self { kv, results, owner: owner.into(), times, clock }
    }

    /// The time between two renewals of a lease.
    pub(crate) fn renew_every(&self) -> Duration {
        self.times.renew_every
    }

    /// Takes a lease that nobody has, or whose owner is dead. For a run that is under way it is a claim by itself:
    /// there is no need to look at the record.
    pub(crate) async fn take(&self, run: &RunKey, nonce: u64) -> Result<Claimed, BackendError> {
        let claim = Claim::new(run, &self.owner, nonce);
        let (kv, lease_for) = (&self.kv, Some(self.times.lease));
        let there = match kv.compare_and_put(&claim.key, None, claim.value.clone(), lease_for).await? {
            Put::Done => return Ok(Claimed::Ours(claim)),
            // The lease ran out between the comparison and the answer; the next look will see.
            Put::Refused(None) => return Ok(Claimed::Elsewhere),
            // Made before: the answer to that was lost, or it was made while this run went on and is claimed once more.
            Put::Refused(Some(there)) if there == claim.value => return Ok(Claimed::Ours(claim)),
            Put::Refused(Some(there)) => there,
        };
        let lease = match from_versioned_json::<Lease>(&claim.key, &there, LEASE_VERSION)? {
            Versioned::Known(lease) => lease,
            Versioned::Newer(version) => {
                tracing::warn!(
                    key = claim.key,
                    version,
                    "a newer release of taskq has claimed this task; it is left to workers of that release"
                );
                return Ok(Claimed::Elsewhere);
            }
        };
        if let Some(verdict) = lease.verdict {
            return Ok(Claimed::Finished(verdict));
        }
        if !is_gone(kv, &lease.owner).await? {
            return Ok(Claimed::Elsewhere);
        }
        Ok(match kv.compare_and_put(&claim.key, Some(there), claim.value.clone(), lease_for).await? {
            Put::Done => Claimed::Ours(claim),
            Put::Refused(_) => Claimed::Elsewhere,
        })
    }

    /// Takes the lease, and looks at the record that an unclaimed run may have left.
    pub(crate) async fn make(&self, envelope: &Envelope, nonce: u64) -> Result<Claimed, BackendError> {
        let claim = match self.take(&envelope.run_key(), nonce).await? {
            Claimed::Ours(claim) => claim,
            other => return Ok(other),
        };
        let record = self.results.read_known(&envelope.id).await?;
        let found = match record.and_then(|record| EarlierRun::of(&record, envelope, self.clock.now())) {
            None => return Ok(Claimed::Ours(claim)),
            Some(EarlierRun::Overtaken) => Claimed::Overtaken,
            Some(EarlierRun::Finished(verdict)) => Claimed::Finished(verdict),
        };
        // Nothing is run under this lease, so nobody should wait for it.
        self.give_up(&claim).await?;
        Ok(found)
    }

    /// Renews a lease. Returns `false` if it was lost.
    pub(crate) async fn renew(&self, claim: &Claim) -> Result<bool, BackendError> {
        let value = || claim.value.clone();
        let put = self.kv.compare_and_put(&claim.key, Some(value()), value(), Some(self.times.lease)).await?;
        Ok(put == Put::Done)
    }

    /// Takes a lease that ran out, or that the store lost, once more. Returns `false` if another run has it.
    pub(crate) async fn take_again(&self, claim: &Claim) -> Result<bool, BackendError> {
        match self.kv.compare_and_put(&claim.key, None, claim.value.clone(), Some(self.times.lease)).await? {
            Put::Done => Ok(true),
            Put::Refused(there) => Ok(there.is_some_and(|there| there == claim.value)),
        }
    }

    /// Notes the meaning of the run's end. Returns `false` if the lease was lost to another run, which counts then.
    /// `recorded`: there is a record as well.
    pub(crate) async fn finish(&self, claim: &Claim, verdict: &Verdict, recorded: bool) -> Result<bool, BackendError> {
        let kept_for = Some(if recorded { BESIDE_RECORD_FOR } else { ALONE_FOR });
        let finished = to_json(&Lease { verdict: Some(verdict.clone()), ..claim.lease.clone() });
        let expected = Some(claim.value.clone());
        match self.kv.compare_and_put(&claim.key, expected, finished.clone(), kept_for).await? {
            Put::Done => Ok(true),
            // The lease ran out and nobody took it, or the store lost it: this run is still the only one.
            Put::Refused(None) => Ok(self.kv.compare_and_put(&claim.key, None, finished, kept_for).await? == Put::Done),
            Put::Refused(Some(there)) => Ok(there == finished),
        }
    }

    /// Gives a lease up, so that the next copy need not wait until it runs out.
    pub(crate) async fn give_up(&self, claim: &Claim) -> Result<(), BackendError> {
        self.kv.delete(&claim.key, Some(claim.value.clone())).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;
    use taskq::backend::memory::MemoryBackend;
    use taskq::message::{Failure, Payload};

    use super::super::mark_gone;
    use super::*;

    /// A store, and the workers that make claims in it.
    struct Store {
        backend: Arc<MemoryBackend>,
        kv: SharedKv,
    }

    impl Store {
        fn new() -> Self {
            let backend = MemoryBackend::shared(&format!("memory:{}", TaskId::new()));
            Self { kv: Arc::clone(&backend) as SharedKv, backend }
        }

        fn of(&self, owner: &str) -> Claims {
            let times = LeaseTimes::of(Duration::from_secs(30));
            Claims::new(Arc::clone(&self.kv), Arc::clone(&self.backend) as _, owner, times, Clock::system())
        }

        async fn claim(&self, envelope: &Envelope, owner: &str) -> Claimed {
            self.of(owner).make(envelope, 0).await.expect("memory does not fail")
        }

        async fn dies(&self, owner: &str) {
            mark_gone(&self.kv, owner, Duration::from_secs(60)).await.expect("memory does not fail");
        }
    }

    fn envelope(attempt: u32) -> Envelope {
        Envelope::new(TaskId::new(), "t", Payload::default()).with(|envelope| envelope.attempt = attempt)
    }

    #[tokio::test]
    async fn one_of_two_copies_runs_and_the_other_learns_what_it_came_to() {
        let (store, envelope) = (Store::new(), envelope(0));
        let one = store.of("one");
        let Claimed::Ours(claim) = store.claim(&envelope, "one").await else { panic!("the first claim wins") };
        assert!(matches!(store.claim(&envelope, "two").await, Claimed::Elsewhere));
        assert!(one.renew(&claim).await.expect("memory"));
        let verdict = Verdict::Retry { delay_ms: 7, failure: Failure::new("a", "B", "c") };
        assert!(one.finish(&claim, &verdict, true).await.expect("memory"));
        assert!(one.finish(&claim, &verdict, true).await.expect("memory"), "finishing twice is finishing");
        let Claimed::Finished(found) = store.claim(&envelope, "two").await else { panic!("it is finished") };
        assert_eq!(found, verdict);
        assert!(!one.renew(&claim).await.expect("memory"), "a finished claim is no lease");
    }

    #[tokio::test]
    async fn a_run_recognizes_its_own_claim() {
        let (store, envelope) = (Store::new(), envelope(0));
        let one = store.of("one");
        let Claimed::Ours(claim) = store.claim(&envelope, "one").await else { panic!("free") };
        assert!(
            matches!(store.claim(&envelope, "one").await, Claimed::Ours(_)),
            "as if the first answer had been lost"
        );
        assert!(one.take_again(&claim).await.expect("memory"));
        let key = envelope.run_key();
        assert!(matches!(one.take(&key, 0).await.expect("memory"), Claimed::Ours(_)));
        assert!(matches!(one.take(&key, 1).await.expect("memory"), Claimed::Elsewhere), "another run of this worker");
    }

    #[tokio::test]
    async fn a_lease_that_was_lost_cannot_finish() {
        let (store, envelope) = (Store::new(), envelope(0));
        let (late, heir) = (store.of("late"), store.of("heir"));
        let Claimed::Ours(lost) = store.claim(&envelope, "late").await else { panic!("free") };
        late.give_up(&lost).await.expect("memory");
        let Claimed::Ours(claim) = store.claim(&envelope, "heir").await else { panic!("free again") };
        assert!(!late.finish(&lost, &Verdict::Succeed, true).await.expect("memory"));
        assert!(heir.finish(&claim, &Verdict::Succeed, false).await.expect("memory"));
    }

    #[tokio::test]
    async fn the_lease_of_the_dead_is_free() {
        let (store, envelope) = (Store::new(), envelope(0));
        let (late, heir) = (store.of("late"), store.of("heir"));
        let Claimed::Ours(lost) = store.claim(&envelope, "late").await else { panic!("free") };
        store.dies("another").await;
        assert!(matches!(store.claim(&envelope, "heir").await, Claimed::Elsewhere));
        store.dies("late").await;
        let Claimed::Ours(claim) = store.claim(&envelope, "heir").await else { panic!("its owner is dead") };
        assert!(!late.renew(&lost).await.expect("memory"), "a process that was taken for dead has lost it");
        assert!(heir.finish(&claim, &Verdict::Succeed, false).await.expect("memory"));
        store.dies("heir").await;
        let after = store.claim(&envelope, "third").await;
        assert!(matches!(after, Claimed::Finished(Verdict::Succeed)), "what is finished stays so");
    }

    #[tokio::test]
    async fn a_lease_that_ran_out_untaken_can_still_finish() {
        let (store, envelope) = (Store::new(), envelope(0));
        let slow = store.of("slow");
        let Claimed::Ours(claim) = store.claim(&envelope, "slow").await else { panic!("free") };
        slow.give_up(&claim).await.expect("memory");
        assert!(slow.finish(&claim, &Verdict::Succeed, true).await.expect("memory"));
    }

    #[tokio::test]
    async fn a_claim_of_a_newer_release_is_left_to_it() {
        let (store, envelope) = (Store::new(), envelope(0));
        let Claim { key, .. } = Claim::new(&envelope.run_key(), "old", 0);
        let newer = Bytes::from_static(br#"{"v":2,"holder":{"unknown":"shape"}}"#);
        store.kv.put(&key, newer.clone(), None).await.expect("memory");
        assert!(matches!(store.claim(&envelope, "old").await, Claimed::Elsewhere));
        assert_eq!(store.kv.get(&key).await.expect("memory"), Some(newer), "it is not touched");
    }
}
