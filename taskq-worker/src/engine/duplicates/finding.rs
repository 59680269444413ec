//! The judgement about a delivery that may be a duplicate: a pure decision.

use std::time::Duration;

use taskq::internal::attempt::Verdict;
use taskq::message::Envelope;

use super::super::claims::{Claim, Claimed, look_again_after};
use super::super::quarantine::{self, Evidence, Judgement, Losses};
use super::super::supervision::Role;

/// The broker's hints that a delivery may be a duplicate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryHints {
    /// Whether the broker may have delivered the message before.
    pub(crate) redelivered: bool,
    /// The number of times that the message came back, where that is counted.
    pub(crate) returns: Option<u32>,
    /// Whether the message comes from a quarantine queue.
    pub(crate) from_quarantine: bool,
}

/// Everything that was read about a delivery that may be a duplicate.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) hints: DeliveryHints,
    pub(crate) role: Role,
    /// Whether there is a Kv store, which keeps claims and losses.
    pub(crate) has_kv: bool,
    /// The result of claiming the run; `None` without a Kv store.
    pub(crate) claimed: Option<Claimed>,
    /// The processes that died while they ran the task.
    pub(crate) losses: Losses,
}

/// The finding about a delivery that may be a duplicate: what the execution does with it.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The run begins, under this claim if there is one.
    Run {
        /// The claim.
        claim: Option<Claim>,
        /// The reason why a suspect runs here and not in quarantine.
        not_quarantined: Option<String>,
    },
    /// The run is over, and what follows it has long been published: the delivery is acknowledged.
    Overtaken,
    /// The run is over: what follows its verdict is published again, and the delivery is acknowledged.
    Finished(Verdict),
    /// The run goes on elsewhere: the message comes back after this long.
    LookAgain(Duration),
    /// The task goes to the quarantine queue `queue`.
    Quarantine {
        /// The claim, which is given up.
        claim: Option<Claim>,
        /// The quarantine queue.
        queue: String,
        /// The evidence, in words.
        why: String,
    },
    /// The task is dead, because processes died while they ran it.
    WorkerLost {
        /// The claim, which is finished with the task's end.
        claim: Option<Claim>,
        /// The deaths, in words.
        how: String,
    },
}

/// Judges the delivery of `envelope`, which came from `queue`.
pub(crate) fn judge(facts: Facts, envelope: &Envelope, queue: &str) -> Finding {
    let Facts { hints, role, has_kv, claimed, losses } = facts;
    let claim = match claimed {
        None => None,
        Some(Claimed::Ours(claim)) => Some(claim),
        Some(Claimed::Overtaken) => return Finding::Overtaken,
        Some(Claimed::Finished(verdict)) => return Finding::Finished(verdict),
        Some(Claimed::Elsewhere) => return Finding::LookAgain(look_again_after(envelope)),
    };
    let evidence = Evidence {
        losses: &losses.losses,
        // Without a supervisor there is no quarantine, and returns by themselves prove nothing.
        returns: hints.returns.filter(|_| role != Role::Unsupervised),
        quarantine: role.is_quarantine(),
        has_kv,
    };
    let not_quarantined = match quarantine::judge(evidence) {
        Judgement::Dead => return Finding::WorkerLost { claim, how: quarantine::describe(evidence) },
        Judgement::Run => None,
        // It runs alone here.
        Judgement::Quarantine if role.is_quarantine() => None,
        Judgement::Quarantine => match quarantine::place(queue, role, hints.from_quarantine) {
            Ok(place) => {
                let why = match evidence.losses.len() {
                    0 => format!("it came back unfinished {} times", hints.returns.unwrap_or_default()),
                    count => format!("{count} processes have died while they ran it"),
                };
                return Finding::Quarantine { claim, queue: place, why };
            }
            Err(why) => Some(why),
        },
    };
    Finding::Run { claim, not_quarantined }
}

#[cfg(test)]
mod tests {
    use taskq::TaskId;
    use taskq::message::Payload;

    use super::*;

    fn facts(returns: Option<u32>, role: Role, claimed: Option<Claimed>) -> Facts {
        let hints = DeliveryHints { redelivered: true, returns, from_quarantine: role.is_quarantine() };
        Facts { hints, role, has_kv: claimed.is_some(), claimed, losses: Losses::default() }
    }

    fn judged(facts: Facts) -> Finding {
        let envelope = Envelope::new(TaskId::new(), "t", Payload::default());
        judge(facts, &envelope, "mail")
    }

    #[test]
    fn what_the_claim_found_comes_first() {
        let after = |claimed| judged(facts(Some(1_000), Role::Ordinary, Some(claimed)));
        assert!(matches!(after(Claimed::Overtaken), Finding::Overtaken));
        assert!(matches!(after(Claimed::Finished(Verdict::Succeed)), Finding::Finished(Verdict::Succeed)));
        let Finding::LookAgain(delay) = after(Claimed::Elsewhere) else { panic!("it goes on elsewhere") };
        assert_eq!(delay, Duration::from_secs(1), "soon, since its holder may have died a moment ago");
    }

    #[test]
    fn returns_send_to_quarantine_where_there_is_one() {
        let Finding::Quarantine { queue, why, .. } = judged(facts(Some(3), Role::Ordinary, None)) else {
            panic!("three returns without a Kv store")
        };
        assert_eq!((queue.as_str(), why.as_str()), ("mail.quarantine", "it came back unfinished 3 times"));
        for (returns, role) in [(Some(2), Role::Ordinary), (None, Role::Ordinary), (Some(99), Role::Unsupervised)] {
            let found = judged(facts(returns, role, None));
            assert!(matches!(found, Finding::Run { not_quarantined: None, .. }), "{returns:?} {role:?}: {found:?}");
        }
        let found = judged(facts(Some(1), Role::Quarantine, None));
        assert!(matches!(found, Finding::Run { not_quarantined: None, .. }), "it runs alone here: {found:?}");
        let found = judged(facts(Some(2), Role::Quarantine, None));
        assert!(matches!(found, Finding::WorkerLost { .. }), "it came back from quarantine twice: {found:?}");
    }

    #[test]
    fn a_suspect_from_a_quarantine_queue_that_an_ordinary_worker_consumes_runs_there() {
        let mut facts = facts(Some(3), Role::Ordinary, None);
        facts.hints.from_quarantine = true;
        let Finding::Run { not_quarantined: Some(why), .. } = judged(facts) else {
            panic!("it would go round for ever")
        };
        assert!(why.contains("consumes from the quarantine queue itself"), "{why}");
    }
}
