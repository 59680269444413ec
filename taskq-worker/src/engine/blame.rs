//! Which task a dead process is put down to: a pure decision.
//!
//! Whatever was running in a process that died is a suspect, and nothing else is. A suspect runs again; lost twice, it
//! runs alone, where no neighbour can be to blame; lost then, it is dead. Where somebody killed the process, which may have
//! been the kernel for want of memory and may have been anybody else, that takes two. What merely waited in the prefetch
//! buffer was not running, and is never charged.
//!
//! How many processes a poison task can take: its first two losses, and one or two while it is alone, make four. A report may
//! come after its task has begun to run again. After the *first* loss that is easy, since a first delivery makes no claim.
//! Later runs hold a lease in Kv, and the lease of a dead process is free only to somebody who has read of its death, or
//! when it runs out after half a minute. So as long as the supervisors of the dead live to report within that, a verdict is
//! at most one loss late, which makes five. [`LOSSES_MAX`] bounds what retries between the losses may add.
//!
//! The broker's count of returns knows nothing of guilt: it counts drains and lost connections as well, and bystanders
//! come back as often as culprits. So it can send a task to run alone, which harms nobody, and ends only what came back
//! from running alone. A worker for suspects holds nothing but the one that it runs, and puts that into its queue anew when
//! it is interrupted, so there a return is a death (or a lost connection). Where there is no Kv at all the count is all
//! there is, and then three returns and two make the same five.

use super::losses::Lost;

/// A task that was lost this often is not run beside others any more.
const SUSPECT_AFTER: usize = 2;

/// A task that was the one to crash this often is dead.
const CULPRIT_MAX: usize = 3;

/// A task that was killed alone is dead after so many losses in all.
const LOSSES_BEFORE_KILLED: usize = 4;

/// A task that was lost this often is dead, alone or not.
const LOSSES_MAX: usize = 5;

/// What is known of a task that comes again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// The processes that died while they ran it.
    pub(super) losses: &'a [Lost],
    /// How often the broker had it back from this queue, where it counts that.
    pub(super) returns: Option<u32>,
    /// Whether this is a queue whose tasks run alone.
    pub(super) alone: bool,
    /// Whether losses can be kept at all.
    pub(super) has_kv: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It runs like any other.
    Run,
    /// It runs in a process where nothing else does.
    RunAlone,
    /// It runs no more.
    Dead,
}

/// How many returns make a suspect, and how many from running alone make a dead task. Where losses are kept, they speak
/// first, and only a store that keeps losing them lets it come to this.
fn returns_max(has_kv: bool, alone: bool) -> u32 {
    match (has_kv, alone) {
        (false, false) => 3,
        (false, true) => 2,
        (true, false) => 20,
        (true, true) => 5,
    }
}

/// Decides what becomes of a task that comes again.
pub(super) fn judge(evidence: Evidence<'_>) -> Judgement {
    let Evidence { losses, returns, alone, has_kv } = evidence;
    let comes_back = returns.is_some_and(|returns| returns >= returns_max(has_kv, alone));
    let culprit = losses.iter().filter(|lost| lost.culprit).count();
    let crashed_alone = losses.iter().any(|lost| lost.alone && !lost.killed);
    let killed_alone = losses.iter().filter(|lost| lost.alone && lost.killed).count();
    if crashed_alone
        || killed_alone >= 2
        || (killed_alone == 1 && losses.len() >= LOSSES_BEFORE_KILLED)
        || culprit >= CULPRIT_MAX
        || losses.len() >= LOSSES_MAX
        || (alone && comes_back)
    {
        Judgement::Dead
    } else if losses.len() >= SUSPECT_AFTER || comes_back || alone {
        Judgement::RunAlone
    } else {
        Judgement::Run
    }
}

/// How the task died, for its failure: the last death that was put down to it, and how many there were.
pub(super) fn describe(evidence: Evidence<'_>) -> String {
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
        Evidence { losses, returns: None, alone: false, has_kv: true }
    }

    #[test]
    fn losses_and_what_they_lead_to() {
        let cases = [
            ("never lost", vec![], Judgement::Run),
            ("lost once, maybe beside a culprit", vec![lost(1)], Judgement::Run),
            ("crashed once", vec![culprit(1)], Judgement::Run),
            ("lost twice", vec![lost(1), lost(2)], Judgement::RunAlone),
            ("crashed twice", vec![culprit(1), culprit(2)], Judgement::RunAlone),
            ("lost alone", vec![lost(1), lost(2), alone(3)], Judgement::Dead),
            ("lost alone, and the rest of the report is late", vec![alone(3)], Judgement::Dead),
            ("killed alone, maybe by somebody", vec![lost(1), lost(2), killed_alone(3)], Judgement::RunAlone),
            ("killed alone twice", vec![lost(1), lost(2), killed_alone(3), killed_alone(4)], Judgement::Dead),
            ("killed alone after many others", vec![lost(1), lost(2), lost(3), killed_alone(4)], Judgement::Dead),
            ("crashed three times", vec![culprit(1), culprit(2), culprit(3)], Judgement::Dead),
            ("crashed twice among others", vec![culprit(1), culprit(2), lost(3), lost(4)], Judgement::RunAlone),
            ("lost five times", (1..=5).map(lost).collect(), Judgement::Dead),
        ];
        for (what, losses, expected) in cases {
            assert_eq!(judge(evidence(&losses)), expected, "{what}");
        }
    }

    #[test]
    fn returns_make_suspects_and_only_alone_end_anything() {
        let judged = |returns, alone, has_kv| judge(Evidence { losses: &[], returns, alone, has_kv });
        assert_eq!(judged(Some(19), false, true), Judgement::Run, "a bystander of many deploys");
        assert_eq!(judged(Some(1_000), false, true), Judgement::RunAlone, "a bystander of a crash loop is not dead");
        assert_eq!(judged(Some(0), true, true), Judgement::RunAlone);
        assert_eq!(judged(Some(5), true, true), Judgement::Dead);
        assert_eq!(judged(Some(2), false, false), Judgement::Run);
        assert_eq!(judged(Some(1_000), false, false), Judgement::RunAlone);
        assert_eq!(judged(Some(2), true, false), Judgement::Dead);
        assert_eq!(judged(None, true, false), Judgement::RunAlone, "a queue that does not count accuses nobody");
    }

    /// Plays a task that ends every process it runs in, as by somebody who kills it or by itself, with reports that come up
    /// to one loss late, and with returns alone; counts the deaths.
    fn deaths(late: usize, has_kv: bool, killed: bool) -> usize {
        let (mut losses, mut returns_home, mut returns_alone) = (Vec::new(), 0, 0);
        let mut is_alone = false;
        for death in 1.. {
            let known = if has_kv { &losses[..losses.len().saturating_sub(late)] } else { &[] };
            let returns = Some(if is_alone { returns_alone } else { returns_home });
            // A first delivery is not looked into.
            let judged = judge(Evidence { losses: known, returns, alone: is_alone, has_kv });
            match judged {
                Judgement::Dead => return losses.len(),
                Judgement::RunAlone => is_alone = true,
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
