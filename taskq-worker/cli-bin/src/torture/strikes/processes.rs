//! Faults of processes.

use std::sync::Arc;
use std::time::Duration;

use taskq::BoxError;
use tokio::time::Instant;

use super::StrikeContext;
use super::context::MOMENT_BOUND;
use crate::torture::catalog::Fault;
use crate::torture::fleet::FleetMember;
use crate::torture::ledger::{Affected, now_ms};
use crate::torture::processes::{is_alive, signal};
use crate::torture::tasks::CRASH_AT_START;
use crate::torture::timeline::Timeline;

/// The time in milliseconds, after a worker was told to stop, from which on it must begin nothing. A signal takes its
/// time, and two processes read the clock.
const STILL_MS: u64 = 100;

/// How long the children of a killed supervisor may survive it.
const ORPHAN_BOUND: Duration = Duration::from_secs(30);

/// The exit code of a worker that has given up starting its processes.
const GAVE_UP: i32 = 9;

/// Kills a process that is running a task.
pub(super) async fn kill(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let Some((victim, member)) = busy_process(context).await else {
        return Err("no process of the workers ran anything for half a minute".into());
    };
    // The children of a supervisor die with it.
    let affected_pids = if member.pid() == Some(victim) { member.family() } else { vec![victim] };
    context.struck(Fault::Kill, Affected::Processes(affected_pids.clone()))?;
    signal(victim, "KILL")?;
    gone(context, &affected_pids).await?;
    context.over(Fault::Kill)
}

/// Waits for a random process of the workers, supervisors included, that is running a body itself or in a child.
async fn busy_process(context: &mut StrikeContext<'_>) -> Option<(u32, Arc<FleetMember>)> {
    let mut dice = context.dice.clone();
    let found = context
        .until(MOMENT_BOUND, |context| {
            let member = dice.pick(&context.fleet.members()).cloned()?;
            let family = member.family();
            let victim = *dice.pick(&family)?;
            let touched = if member.pid() == Some(victim) { family } else { vec![victim] };
            let busy = context.look(|timeline| touched.iter().any(|pid| timeline.running(*pid) > 0));
            busy.then_some((victim, member))
        })
        .await;
    context.dice = dice;
    found
}

/// Waits for a random worker that is running a task.
async fn busy_member(context: &mut StrikeContext<'_>) -> Result<Arc<FleetMember>, BoxError> {
    let mut dice = context.dice.clone();
    let found = context
        .until(MOMENT_BOUND, |context| {
            let member = dice.pick(&context.fleet.members()).cloned()?;
            let busy = context.look(|timeline| member.family().iter().any(|pid| timeline.running(*pid) > 0));
            busy.then_some(member)
        })
        .await;
    context.dice = dice;
    found.ok_or_else(|| "no worker ran anything for half a minute".into())
}

/// Kills all processes of a worker at once.
pub(super) async fn kill_group(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let (family, starts) = (member.family(), member.starts());
    context.struck(Fault::KillGroup, Affected::Processes(family.clone()))?;
    for pid in &family {
        // The children may have ended with their parent.
        drop(signal(*pid, "KILL"));
    }
    gone(context, &family).await?;
    context.over(Fault::KillGroup)?;
    let begun = Instant::now();
    started_again(&member, starts).await?;
    context.figure("consumes_again_after_ms", begun.elapsed().as_millis() as u64)
}

/// Kills a supervisor, and checks that its children end.
pub(super) async fn kill_parent(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let (family, starts) = (member.family(), member.starts());
    let Some(parent) = family.first() else { return Err("the worker has no process".into()) };
    context.struck(Fault::KillParent, Affected::Processes(family.clone()))?;
    signal(*parent, "KILL")?;
    let begun = Instant::now();
    gone(context, &family).await?;
    context.figure("children_gone_after_ms", begun.elapsed().as_millis() as u64)?;
    context.over(Fault::KillParent)?;
    started_again(&member, starts).await
}

/// Waits until none of these processes is left.
async fn gone(context: &StrikeContext<'_>, family: &[u32]) -> Result<(), BoxError> {
    let alive = |pid: &u32| is_alive(*pid);
    let all = context.until(ORPHAN_BOUND, |_| (!family.iter().any(alive)).then_some(())).await;
    if all.is_none() {
        let left: Vec<u32> = family.iter().copied().filter(|pid| is_alive(*pid)).collect();
        context.wrong(format!("the processes {left:?} survive their supervisor"))?;
        for pid in left {
            drop(signal(pid, "KILL"));
        }
    }
    Ok(())
}

async fn started_again(member: &FleetMember, starts: u32) -> Result<(), BoxError> {
    let begun = Instant::now();
    while member.starts() == starts {
        if begun.elapsed() > MOMENT_BOUND {
            return Err("a worker that was killed was not started again".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    member.until_ready().await
}

/// Stops a worker's processes with SIGSTOP for longer than a lease, and continues them.
pub(super) async fn pause(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let family = member.family();
    context.struck(Fault::Pause, Affected::Processes(family.clone()))?;
    // Parents first, so that none sees its children fall silent.
    for pid in &family {
        signal(*pid, "STOP")?;
    }
    tokio::time::sleep(context.hold()).await;
    for pid in family.iter().rev() {
        // The process may have been replaced meanwhile.
        drop(signal(*pid, "CONT"));
    }
    context.over(Fault::Pause)
}

/// Drains a busy worker: nothing may begin any more, everything that had begun must end, and a new worker is started.
pub(super) async fn drain(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let family = member.family();
    let running = context.look(|timeline| family.iter().map(|pid| timeline.running(*pid)).sum::<usize>());
    let told = context.struck(Fault::Drain, Affected::Nobody)?;
    let begun = Instant::now();
    let code = member.retire(&["TERM"]).await?;
    context.figure("drained_after_ms", begun.elapsed().as_millis() as u64)?;
    context.figure("running_when_drained", running as u64)?;
    expect_code(context, "a drained worker", code, 0)?;
    nothing_began_late(context, &family, told)?;
    context.over(Fault::Drain)?;
    context.fleet.add().await.map(drop)
}

fn expect_code(context: &StrikeContext<'_>, what: &str, code: Option<i32>, wanted: i32) -> Result<(), BoxError> {
    match code {
        Some(code) if code == wanted => Ok(()),
        Some(code) => context.wrong(format!("{what} ended with code {code} in place of {wanted}")),
        None => context.wrong(format!("{what} was ended by a signal")),
    }
}

fn nothing_began_late(context: &StrikeContext<'_>, family: &[u32], told: u64) -> Result<(), BoxError> {
    let last = context.look(|timeline| family.iter().filter_map(|pid| timeline.last_began(*pid)).max());
    let late = last.unwrap_or(0).saturating_sub(told);
    context.figure("last_begin_after_signal_ms", late)?;
    if late > STILL_MS {
        context.wrong(format!("a worker began a task {late} ms after it was told to stop"))?;
    }
    Ok(())
}

/// Drains a worker whose tasks outlast the grace: they are told to stop, stopped, given back, and run by another
/// worker.
pub(super) async fn grace(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let family = member.family();
    // These runs are cut off, and begin again in another worker.
    let told = context.struck(Fault::Grace, Affected::Processes(family.clone()))?;
    let code = member.retire(&["TERM"]).await?;
    // If every task ended within the grace, there was nothing to interrupt.
    if context.look(Timeline::last_told) >= told {
        expect_code(context, "a worker that gave tasks back", code, INTERRUPTED)?;
    }
    nothing_began_late(context, &family, told)?;
    context.over(Fault::Grace)?;
    context.fleet.add().await.map(drop)
}

/// The exit code of a worker that was stopped before its tasks had ended.
const INTERRUPTED: i32 = 8;

/// Sends TERM, TERM, INT; the third signal must end the worker at once.
pub(super) async fn three_signals(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let family = member.family();
    context.struck(Fault::ThreeSignals, Affected::Processes(family.clone()))?;
    let begun = Instant::now();
    // A worker that has drained between two signals has ended as it should.
    let ended = match member.retire(&["TERM", "TERM", "INT"]).await {
        Ok(ended) => ended,
        Err(_) => member.until_gone().await?,
    };
    context.figure("ended_after_three_signals_ms", begun.elapsed().as_millis() as u64)?;
    if !matches!(ended, Some(0 | INTERRUPTED)) {
        expect_code(context, "a worker with three signals", ended, INTERRUPTED)?;
    }
    gone(context, &family).await?;
    context.over(Fault::ThreeSignals)?;
    context.fleet.add().await.map(drop)
}

/// Starts a new worker, then drains the oldest.
pub(super) async fn replace(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let told = context.struck(Fault::Replace, Affected::Nobody)?;
    let Some(oldest) = context.fleet.members().first().cloned() else { return Err("there is no worker".into()) };
    context.fleet.add().await?;
    context.figure("new_worker_ready_after_ms", now_ms().saturating_sub(told))?;
    let code = oldest.retire(&["TERM"]).await?;
    expect_code(context, "a replaced worker", code, 0)?;
    context.over(Fault::Replace)
}

/// Makes a supervisor replace its children by HUP; the supervisor must stay.
pub(super) async fn hup(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let member = busy_member(context).await?;
    let before = member.family();
    let Some(parent) = before.first().copied() else { return Err("the worker has no process".into()) };
    context.struck(Fault::Hup, Affected::Nobody)?;
    let begun = Instant::now();
    signal(parent, "HUP")?;
    let replaced = |_: &StrikeContext<'_>| {
        let now = member.family();
        let old = now.iter().skip(1).any(|pid| before.contains(pid));
        (now.first() == Some(&parent) && now.len() >= before.len() && !old).then_some(())
    };
    match context.until(MOMENT_BOUND * 2, replaced).await {
        Some(()) => context.figure("rolled_after_ms", begun.elapsed().as_millis() as u64)?,
        None => context.wrong("a minute after HUP the old processes are still there, or the supervisor is not")?,
    }
    context.over(Fault::Hup)
}

/// Starts a worker that crashes whenever it starts; its supervisor must give up.
pub(super) async fn crash_loop(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let mut broken = context.fleet.recipe().clone();
    broken.variables.push((CRASH_AT_START, "1".to_owned().into()));
    let begun = Instant::now();
    let member = context.fleet.start(broken)?;
    let Some(pid) = context.until(MOMENT_BOUND, |_| member.pid()).await else {
        return Err("the worker that cannot start was not even tried".into());
    };
    context.struck(Fault::CrashLoop, Affected::Processes(vec![pid]))?;
    let code = member.retire(&[]).await?;
    context.figure("gave_up_after_ms", begun.elapsed().as_millis() as u64)?;
    if code != Some(GAVE_UP) {
        context.wrong(format!("a worker that crashes whenever it starts ended with {code:?}"))?;
    }
    context.figure("gave_up_with_code", code.unwrap_or_default() as u64)?;
    context.over(Fault::CrashLoop)
}
