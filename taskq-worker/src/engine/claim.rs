//! Claims: of the copies of a message that may exist, one runs.
//!
//! A delivery that may be a copy first puts a claim on its run into Kv: a lease that its worker renews while it runs,
//! and that in the end says what the run came to. Whoever finds the claim finished does not run; it does again what
//! follows, which is harmless because ids and delays derive from the task. First deliveries make no claim and pay
//! nothing: they left a record, and that is looked at too.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use taskq::backend::kv::{from_json, to_json};
use taskq::backend::{BackendError, Put, ResultBackend, ResultBackendExt, SharedKv};
use taskq::internal::attempt::Verdict;
use taskq::message::{Envelope, Record};

use super::run::RunKey;

/// How long a lease lasts without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How often it is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How long it is remembered that a process is gone: longer than any lease that it may have left.
const GONE_FOR: Duration = LEASE.saturating_mul(2);

/// When a copy that found a live lease looks again: soon at first, since whoever holds the lease may have died a moment
/// ago and be reported any moment, later at leisure.
pub(super) fn look_again_after(envelope: &Envelope) -> Duration {
    Duration::from_secs(if envelope.moved { 10 } else { 1 })
}

/// How long a finished claim is kept if it is the only witness. Copies come late after long outages, long delays and
/// long waits in a queue.
const ALONE_FOR: Duration = Duration::from_secs(86_400);

/// How long it is kept if there is a record as well, which is looked at once the claim is gone.
const BESIDE_RECORD_FOR: Duration = Duration::from_secs(3600);

/// The value of a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lease {
    /// Who runs it: one worker process's own name; where it is supervised, the one by which its death is reported.
    owner: String,
    /// Which run of that worker; a worker does not take its own lease for free, and a run may claim more than once.
    nonce: u64,
    /// What it came to, once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verdict: Option<Verdict>,
}

/// A claim that this worker holds.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    key: String,
    lease: Lease,
    value: Bytes,
}

/// What a claim found.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The run is ours.
    Ours(Claim),
    /// It is over; this is what it came to.
    Finished(Verdict),
    /// A later attempt is known: what follows this run has long been published.
    Overtaken,
    /// Somebody is running it.
    Elsewhere,
}

impl Claim {
    /// A claim yet to be made.
    pub(super) fn new(run: &RunKey, owner: &str, nonce: u64) -> Self {
        let lease = Lease { owner: owner.to_owned(), nonce, verdict: None };
        let RunKey { id, generation, attempt, snoozes } = run;
        Self {
            // The id comes last: it may contain anything.
            key: format!("claim/{generation}.{attempt}.{snoozes}/{id}"),
            value: to_json(&lease),
            lease,
        }
    }

    /// Takes a lease that nobody has, or whose owner is dead. It alone is a claim for a run that is under way: there is no
    /// need for a look at the record.
    pub(super) async fn take(self, kv: &SharedKv) -> Result<Claimed, BackendError> {
        let there = match kv.compare_and_put(&self.key, None, self.value.clone(), Some(LEASE)).await? {
            Put::Done => return Ok(Claimed::Ours(self)),
            // It ran out between the comparison and the answer; whoever looks again will see.
            Put::Refused(None) => return Ok(Claimed::Elsewhere),
            // Made before: the answer to that was lost, or it was made while this run went on and is claimed once more.
            Put::Refused(Some(there)) if there == self.value => return Ok(Claimed::Ours(self)),
            Put::Refused(Some(there)) => there,
        };
        let lease = from_json::<Lease>(&self.key, &there)?;
        if let Some(verdict) = lease.verdict {
            return Ok(Claimed::Finished(verdict));
        }
        if !is_gone(kv, &lease.owner).await? {
            return Ok(Claimed::Elsewhere);
        }
        Ok(match kv.compare_and_put(&self.key, Some(there), self.value.clone(), Some(LEASE)).await? {
            Put::Done => Claimed::Ours(self),
            Put::Refused(_) => Claimed::Elsewhere,
        })
    }

    /// Makes the claim, and looks at the record that an unclaimed run may have left.
    pub(super) async fn make(
        self,
        kv: &SharedKv,
        results: &dyn ResultBackend,
        envelope: &Envelope,
        now: DateTime<Utc>,
    ) -> Result<Claimed, BackendError> {
        let claim = match self.take(kv).await? {
            Claimed::Ours(claim) => claim,
            other => return Ok(other),
        };
        let record = results.read_one(&envelope.id).await?;
        match record.and_then(|record| judge_record(&record, envelope, now)) {
            None => Ok(Claimed::Ours(claim)),
            Some(found) => {
                // Nothing is run under it, so nobody should wait for it.
                claim.give_up(kv).await?;
                Ok(found)
            }
        }
    }

    /// Renews the lease; false if it was lost.
    pub(super) async fn renew(&self, kv: &SharedKv) -> Result<bool, BackendError> {
        let put = kv.compare_and_put(&self.key, Some(self.value.clone()), self.value.clone(), Some(LEASE)).await?;
        Ok(put == Put::Done)
    }

    /// Takes a lease that ran out, or that the store lost, once more; false if somebody else has it.
    pub(super) async fn take_again(&self, kv: &SharedKv) -> Result<bool, BackendError> {
        match kv.compare_and_put(&self.key, None, self.value.clone(), Some(LEASE)).await? {
            Put::Done => Ok(true),
            Put::Refused(there) => Ok(there.is_some_and(|there| there == self.value)),
        }
    }

    /// Notes what the run came to; false if the lease was lost to somebody else, whose run counts then.
    pub(super) async fn finish(&self, kv: &SharedKv, verdict: &Verdict, recorded: bool) -> Result<bool, BackendError> {
        let kept_for = Some(if recorded { BESIDE_RECORD_FOR } else { ALONE_FOR });
        let finished = to_json(&Lease { verdict: Some(verdict.clone()), ..self.lease.clone() });
        let expected = Some(self.value.clone());
        match kv.compare_and_put(&self.key, expected, finished.clone(), kept_for).await? {
            Put::Done => Ok(true),
            // The lease ran out and nobody took it, or the store lost it: the run is still the only one.
            Put::Refused(None) => Ok(kv.compare_and_put(&self.key, None, finished, kept_for).await? == Put::Done),
            Put::Refused(Some(there)) => Ok(there == finished),
        }
    }

    /// Lets go of it, so that the next copy need not wait for the lease to run out.
    pub(super) async fn give_up(&self, kv: &SharedKv) -> Result<(), BackendError> {
        kv.delete(&self.key, Some(self.value.clone())).await?;
        Ok(())
    }
}

/// This process is dead, and all that was lost with it is written down: nobody waits for what it had claimed any more.
pub(super) async fn free_those_of(kv: &SharedKv, process: &str) -> Result<(), BackendError> {
    kv.put(&gone_key(process), Bytes::new(), Some(GONE_FOR)).await
}

/// Whether the leases of this process are free.
async fn is_gone(kv: &SharedKv, process: &str) -> Result<bool, BackendError> {
    Ok(kv.get(&gone_key(process)).await?.is_some())
}

fn gone_key(process: &str) -> String {
    format!("gone/{process}")
}

/// What the record that is stored says about the run of `envelope`; `None` if nothing.
fn judge_record(record: &Record, envelope: &Envelope, now: DateTime<Utc>) -> Option<Claimed> {
    if record.generation != envelope.generation {
        return (record.generation > envelope.generation).then_some(Claimed::Overtaken);
    }
    if record.state.is_terminal() {
        return Verdict::of_record(record, now).map(Claimed::Finished);
    }
    if record.attempt > envelope.attempt {
        return Some(Claimed::Overtaken);
    }
    if record.attempt == envelope.attempt {
        return Verdict::of_record(record, now).map(Claimed::Finished);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use taskq::TaskId;
    use taskq::backend::memory::MemoryBackend;
    use taskq::message::{Failure, Payload, TaskState};

    use super::*;

    struct Bench {
        backend: Arc<MemoryBackend>,
        kv: SharedKv,
    }

    impl Bench {
        fn new() -> Self {
            let backend = MemoryBackend::shared(&format!("memory:{}", TaskId::new()));
            Self { kv: Arc::clone(&backend) as SharedKv, backend }
        }

        async fn claim(&self, envelope: &Envelope, owner: &str) -> Claimed {
            let claim = Claim::new(&RunKey::of(envelope), owner, 0);
            claim.make(&self.kv, &*self.backend, envelope, Utc::now()).await.expect("memory does not fail")
        }

        async fn dies(&self, owner: &str) {
            free_those_of(&self.kv, owner).await.expect("memory does not fail");
        }
    }

    fn envelope(attempt: u32) -> Envelope {
        Envelope { attempt, ..Envelope::new(TaskId::new(), "t", Payload::default()) }
    }

    #[tokio::test]
    async fn one_of_two_copies_runs_and_the_other_learns_what_it_came_to() {
        let bench = Bench::new();
        let envelope = envelope(0);
        let Claimed::Ours(claim) = bench.claim(&envelope, "one").await else { panic!("the first claim wins") };
        assert!(matches!(bench.claim(&envelope, "two").await, Claimed::Elsewhere));
        assert!(claim.renew(&bench.kv).await.expect("memory"));
        let verdict = Verdict::Retry { delay_ms: 7, failure: Failure::new("a", "B", "c") };
        assert!(claim.finish(&bench.kv, &verdict, true).await.expect("memory"));
        assert!(claim.finish(&bench.kv, &verdict, true).await.expect("memory"), "finishing twice is finishing");
        let Claimed::Finished(found) = bench.claim(&envelope, "two").await else { panic!("it is finished") };
        assert_eq!(found, verdict);
        assert!(!claim.renew(&bench.kv).await.expect("memory"), "a finished claim is no lease");
    }

    #[tokio::test]
    async fn a_run_recognizes_its_own_claim() {
        let bench = Bench::new();
        let envelope = envelope(0);
        let Claimed::Ours(claim) = bench.claim(&envelope, "one").await else { panic!("free") };
        assert!(
            matches!(bench.claim(&envelope, "one").await, Claimed::Ours(_)),
            "as if the first answer had been lost"
        );
        assert!(claim.take_again(&bench.kv).await.expect("memory"), "the same");
        let again = |nonce| Claim::new(&RunKey::of(&envelope), "one", nonce).take(&bench.kv);
        assert!(matches!(again(0).await.expect("memory"), Claimed::Ours(_)));
        assert!(matches!(again(1).await.expect("memory"), Claimed::Elsewhere), "another run of the same worker");
    }

    #[tokio::test]
    async fn a_lease_that_was_lost_cannot_finish() {
        let bench = Bench::new();
        let envelope = envelope(0);
        let Claimed::Ours(late) = bench.claim(&envelope, "late").await else { panic!("free") };
        late.give_up(&bench.kv).await.expect("memory");
        let Claimed::Ours(heir) = bench.claim(&envelope, "heir").await else { panic!("free again") };
        assert!(!late.finish(&bench.kv, &Verdict::Succeed, true).await.expect("memory"));
        assert!(heir.finish(&bench.kv, &Verdict::Succeed, false).await.expect("memory"));
    }

    #[tokio::test]
    async fn the_lease_of_the_dead_is_free() {
        let bench = Bench::new();
        let envelope = envelope(0);
        let Claimed::Ours(late) = bench.claim(&envelope, "late").await else { panic!("free") };
        bench.dies("somebody else").await;
        assert!(matches!(bench.claim(&envelope, "heir").await, Claimed::Elsewhere));
        bench.dies("late").await;
        let Claimed::Ours(heir) = bench.claim(&envelope, "heir").await else { panic!("its owner is dead") };
        assert!(!late.renew(&bench.kv).await.expect("memory"), "whoever was thought dead has lost it");
        assert!(heir.finish(&bench.kv, &Verdict::Succeed, false).await.expect("memory"));
        bench.dies("heir").await;
        let after = bench.claim(&envelope, "third").await;
        assert!(matches!(after, Claimed::Finished(Verdict::Succeed)), "what is finished stays so");
    }

    #[tokio::test]
    async fn a_lease_that_ran_out_untaken_can_still_finish() {
        let bench = Bench::new();
        let envelope = envelope(0);
        let Claimed::Ours(claim) = bench.claim(&envelope, "slow").await else { panic!("free") };
        claim.give_up(&bench.kv).await.expect("memory");
        assert!(claim.finish(&bench.kv, &Verdict::Succeed, true).await.expect("memory"));
    }

    #[test]
    fn records_of_unclaimed_runs_count() {
        let now = Utc::now();
        let mine = envelope(1);
        let record = |attempt, generation, state: TaskState| Record {
            attempt,
            generation,
            ..Record::new(mine.id.clone(), state)
        };
        assert!(judge_record(&record(1, 0, TaskState::Started), &mine, now).is_none());
        assert!(judge_record(&record(0, 0, TaskState::Retry), &mine, now).is_none());
        assert!(matches!(
            judge_record(&record(1, 0, TaskState::Retry), &mine, now),
            Some(Claimed::Finished(Verdict::Retry { .. }))
        ));
        assert!(matches!(judge_record(&record(2, 0, TaskState::Started), &mine, now), Some(Claimed::Overtaken)));
        assert!(matches!(
            judge_record(&record(0, 0, TaskState::Success), &mine, now),
            Some(Claimed::Finished(Verdict::Succeed))
        ));
        assert!(matches!(judge_record(&record(0, 1, TaskState::Started), &mine, now), Some(Claimed::Overtaken)));
        let next_generation = Envelope { generation: 1, ..mine.clone() };
        assert!(judge_record(&record(1, 0, TaskState::Failure), &next_generation, now).is_none());
    }
}
