//! Which task a dead process is put down to: a pure decision.
//!
//! Every task that was running in a process that died is a suspect, and nothing else is. A suspect runs again; lost
//! twice, it runs in quarantine, where no neighbour can be to blame; lost there, it is dead. Where the process was
//! killed by a signal from outside, which may have been the kernel for want of memory and may have been anybody else,
//! that takes two. A message that merely waited in the prefetch buffer was not running, and is never charged.
//!
//! The number of processes that a poison task can take: its first two losses, and one or two in quarantine, make
//! four. A report may come after its task has begun to run again. After the *first* loss that is easy, since a first
//! delivery makes no claim. Later runs hold a lease in Kv, and the lease of a dead process is free only to a worker
//! that has read of its death, or when it runs out (after half a minute by default). So as long as the supervisors of
//! the dead live to report within that, a judgement is at most one loss late, which makes five. [`LOSSES_MAX`] bounds
//! what retries between the losses may add.
//!
//! The broker's count of returns knows nothing of guilt: it counts drains and lost connections as well, and
//! bystanders come back as often as culprits. So it can send a task to quarantine, which harms nobody, and ends only
//! what came back from quarantine. A quarantine process holds nothing but the task that it runs, and puts that into
//! its queue anew when it is interrupted, so there a return is a death (or a lost connection). Where there is no Kv
//! at all the count is all there is, and then three returns and two make the same five.

use super::losses::Lost;

/// The number of losses from which a task is not run beside others any more.
const SUSPECT_AFTER: usize = 2;

/// The number of losses as the marked culprit from which a task is dead.
const CULPRIT_MAX: usize = 3;

/// The number of losses in all from which a task that was killed in quarantine is dead.
const LOSSES_BEFORE_KILLED: usize = 4;

/// The number of losses from which a task is dead, in quarantine or not.
const LOSSES_MAX: usize = 5;

/// The evidence about a task that was delivered again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// The processes that died while they ran it.
    pub(crate) losses: &'a [Lost],
    /// The number of times that the broker had it back from this queue, where that is counted.
    pub(crate) returns: Option<u32>,
    /// Whether this process is the quarantine, in which tasks run alone.
    pub(crate) quarantine: bool,
    /// Whether losses can be kept at all.
    pub(crate) has_kv: bool,
}

/// The judgement about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Runs like any other task.
    Run,
    /// Runs in quarantine, where nothing else runs.
    Quarantine,
    /// Runs no more.
    Dead,
}

/// The number of returns that make a suspect, and that make a dead task in quarantine. Where losses are kept, they
/// speak first, and only a store that keeps losing them lets it come to this.
fn returns_max(has_kv: bool, quarantine: bool) -> u32 {
    match (has_kv, quarantine) {
        (false, false) => 3,
        (false, true) => 2,
        (true, false) => 20,
        (true, true) => 5,
    }
}

/// Decides what becomes of a task that was delivered again.
pub(crate) fn judge(evidence: Evidence<'_>) -> Judgement {
    let Evidence { losses, returns, quarantine, has_kv } = evidence;
    let comes_back = returns.is_some_and(|returns| returns >= returns_max(has_kv, quarantine));
    let culprit = losses.iter().filter(|lost| lost.culprit).count();
    let crashed_alone = losses.iter().any(|lost| lost.alone && !lost.killed);
    let killed_alone = losses.iter().filter(|lost| lost.alone && lost.killed).count();
    if crashed_alone
        || killed_alone >= 2
        || (killed_alone == 1 && losses.len() >= LOSSES_BEFORE_KILLED)
        || culprit >= CULPRIT_MAX
        || losses.len() >= LOSSES_MAX
        || (quarantine && comes_back)
    {
        Judgement::Dead
    } else if losses.len() >= SUSPECT_AFTER || comes_back || quarantine {
        Judgement::Quarantine
    } else {
        Judgement::Run
    }
}

/// Describes how the task died, for its failure: the last death that was put down to it, and the number of deaths.
pub(crate) fn describe(evidence: Evidence<'_>) -> String {
    let Evidence { losses, returns, .. } = evidence;
    let Some(last) = losses.iter().max_by_key(|lost| (lost.alone, lost.culprit, lost.at_ms)) else {
        return format!("the broker had it back {} times, and nobody lived to say why", returns.unwrap_or_default());
    };
    let after = last.at_ms.saturating_sub(last.since_ms) as f64 / 1000.0;
    let how = match (last.alone, last.culprit) {
        (true, _) => "it was the only task there",
        (false, true) => "it was the task that crashed",
        (false, false) => "it was among the tasks that ran there",
    };
    let count = match losses.len() {
        1 => "one process was".to_owned(),
        more => format!("{more} processes were"),
    };
    format!("{} on {}, {after:.1} s after it began; {how}; {count} lost with it", last.cause, last.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(n: u64) -> Lost {
        Lost {
            process: format!("web-1/{n}/0"),
            host: "web-1".into(),
            cause: "signal 9 (SIGKILL)".into(),
            culprit: false,
            alone: false,
            killed: true,
            since_ms: n * 1000,
            at_ms: n * 1000 + 3200,
        }
    }

    fn culprit(n: u64) -> Lost {
        Lost { culprit: true, ..lost(n) }
    }

    fn alone(n: u64) -> Lost {
        Lost { alone: true, killed: false, ..lost(n) }
    }

    fn killed_alone(n: u64) -> Lost {
        Lost { alone: true, ..lost(n) }
    }

    fn evidence(losses: &[Lost]) -> Evidence<'_> {
        Evidence { losses, returns: None, quarantine: false, has_kv: true }
    }

    #[test]
    fn losses_and_what_they_lead_to() {
        let cases = [
            ("never lost", vec![], Judgement::Run),
            ("lost once, maybe beside a culprit", vec![lost(1)], Judgement::Run),
            ("crashed once", vec![culprit(1)], Judgement::Run),
            ("lost twice", vec![lost(1), lost(2)], Judgement::Quarantine),
            ("crashed twice", vec![culprit(1), culprit(2)], Judgement::Quarantine),
            ("lost alone", vec![lost(1), lost(2), alone(3)], Judgement::Dead),
            ("lost alone, and the rest of the report is late", vec![alone(3)], Judgement::Dead),
            ("killed alone, maybe by somebody", vec![lost(1), lost(2), killed_alone(3)], Judgement::Quarantine),
            ("killed alone twice", vec![lost(1), lost(2), killed_alone(3), killed_alone(4)], Judgement::Dead),
            ("killed alone after many others", vec![lost(1), lost(2), lost(3), killed_alone(4)], Judgement::Dead),
            ("crashed three times", vec![culprit(1), culprit(2), culprit(3)], Judgement::Dead),
            ("crashed twice among others", vec![culprit(1), culprit(2), lost(3), lost(4)], Judgement::Quarantine),
            ("lost five times", (1..=5).map(lost).collect(), Judgement::Dead),
        ];
        for (what, losses, expected) in cases {
            assert_eq!(judge(evidence(&losses)), expected, "{what}");
        }
    }

    #[test]
    fn returns_make_suspects_and_only_alone_end_anything() {
        let judged = |returns, quarantine, has_kv| judge(Evidence { losses: &[], returns, quarantine, has_kv });
        assert_eq!(judged(Some(19), false, true), Judgement::Run, "a bystander of many deploys");
        assert_eq!(judged(Some(1_000), false, true), Judgement::Quarantine, "a bystander of a crash loop is not dead");
        assert_eq!(judged(Some(0), true, true), Judgement::Quarantine);
        assert_eq!(judged(Some(5), true, true), Judgement::Dead);
        assert_eq!(judged(Some(2), false, false), Judgement::Run);
        assert_eq!(judged(Some(1_000), false, false), Judgement::Quarantine);
        assert_eq!(judged(Some(2), true, false), Judgement::Dead);
        assert_eq!(judged(None, true, false), Judgement::Quarantine, "a queue that does not count accuses nobody");
    }

    /// Plays a task that ends every process it runs in, by a kill or by itself, with reports that come up to one loss
    /// late, and with returns alone; counts the deaths.
    fn deaths(late: usize, has_kv: bool, killed: bool) -> usize {
        let (mut losses, mut returns_home, mut returns_alone) = (Vec::new(), 0, 0);
        let mut is_alone = false;
        for death in 1.. {
            let known = if has_kv { &losses[..losses.len().saturating_sub(late)] } else { &[] };
            let returns = Some(if is_alone { returns_alone } else { returns_home });
            // A first delivery is not looked into.
            let judged = judge(Evidence { losses: known, returns, quarantine: is_alone, has_kv });
            match judged {
                Judgement::Dead => return losses.len(),
                Judgement::Quarantine => is_alone = true,
                Judgement::Run => {}
            }
            losses.push(Lost { alone: is_alone, killed, ..lost(death) });
            if is_alone {
                returns_alone += 1;
            } else {
                returns_home += 1;
            }
        }
        unreachable!("a poison task ends")
    }

    #[test]
    fn a_poison_task_takes_five_processes_at_most() {
        assert_eq!((deaths(0, true, false), deaths(1, true, false)), (3, 5));
        assert_eq!((deaths(0, true, true), deaths(1, true, true)), (4, 5));
        assert_eq!(deaths(0, false, true), 5);
    }

    #[test]
    fn the_failure_says_how_it_died() {
        let losses = [lost(1), lost(2), alone(3)];
        assert_eq!(
            describe(evidence(&losses)),
            "signal 9 (SIGKILL) on web-1, 3.2 s after it began; it was the only task there; 3 processes were lost with it"
        );
        assert_eq!(
            describe(Evidence { returns: Some(5), ..evidence(&[]) }),
            "the broker had it back 5 times, and nobody lived to say why"
        );
    }
}
