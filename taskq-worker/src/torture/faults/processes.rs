//! What is done to processes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use taskq::BoxError;

use super::{Fault, Field, MOMENT_BOUND};
use crate::torture::fleet::Member;
use crate::torture::ledger::{Whom, now_ms};
use crate::torture::processes::{is_alive, signal};
use crate::torture::story::Story;
use crate::torture::tasks::CRASH_AT_START;

/// After a worker was told to stop, nothing may begin any more. Its log and ours are two processes' clocks, and a
/// signal takes its time.
const STILL_MS: u64 = 100;

/// How long the children of a killed supervisor may live on.
const ORPHAN_BOUND: Duration = Duration::from_secs(30);

/// The exit code of a worker that has given up starting.
const GAVE_UP: i32 = 9;

/// Kills a process that is running something.
pub(super) async fn kill(field: &mut Field<'_>) -> Result<(), BoxError> {
    let Some((victim, member)) = busy_process(field).await else {
        return Err("no process of the workers ran anything for half a minute".into());
    };
    // A supervisor takes its children with it.
    let whom = if member.pid() == Some(victim) { member.family() } else { vec![victim] };
    field.struck(Fault::Kill, Whom::Processes(whom.clone()))?;
    signal(victim, "KILL")?;
    gone(field, &whom).await?;
    field.over(Fault::Kill)
}

/// A random process of the workers, parents included, of which some process at or below it is running a body.
async fn busy_process(field: &mut Field<'_>) -> Option<(u32, Arc<Member>)> {
    let mut dice = field.dice.clone();
    let found = field
        .until(MOMENT_BOUND, |field| {
            let member = dice.pick(&field.fleet.members()).cloned()?;
            let family = member.family();
            let victim = *dice.pick(&family)?;
            let touched = if member.pid() == Some(victim) { family } else { vec![victim] };
            let busy = field.look(|story| touched.iter().any(|pid| story.running(*pid) > 0));
            busy.then_some((victim, member))
        })
        .await;
    field.dice = dice;
    found
}

/// A random worker that is running something.
async fn busy_member(field: &mut Field<'_>) -> Result<Arc<Member>, BoxError> {
    let mut dice = field.dice.clone();
    let found = field
        .until(MOMENT_BOUND, |field| {
            let member = dice.pick(&field.fleet.members()).cloned()?;
            let busy = field.look(|story| member.family().iter().any(|pid| story.running(*pid) > 0));
            busy.then_some(member)
        })
        .await;
    field.dice = dice;
    found.ok_or_else(|| "no worker ran anything for half a minute".into())
}

/// Kills all processes of a worker at once.
pub(super) async fn kill_group(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let (family, starts) = (member.family(), member.starts());
    field.struck(Fault::KillGroup, Whom::Processes(family.clone()))?;
    for pid in &family {
        // The children may have gone with their parent.
        drop(signal(*pid, "KILL"));
    }
    gone(field, &family).await?;
    field.over(Fault::KillGroup)?;
    let begun = Instant::now();
    started_again(&member, starts).await?;
    field.figure("consumes_again_after_ms", begun.elapsed().as_millis() as u64)
}

/// Kills a supervisor, and sees that its children follow.
pub(super) async fn kill_parent(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let (family, starts) = (member.family(), member.starts());
    let Some(parent) = family.first() else { return Err("the worker has no process".into()) };
    field.struck(Fault::KillParent, Whom::Processes(family.clone()))?;
    signal(*parent, "KILL")?;
    let begun = Instant::now();
    gone(field, &family).await?;
    field.figure("children_gone_after_ms", begun.elapsed().as_millis() as u64)?;
    field.over(Fault::KillParent)?;
    started_again(&member, starts).await
}

/// Waits until none of these processes is left.
async fn gone(field: &Field<'_>, family: &[u32]) -> Result<(), BoxError> {
    let alive = |pid: &u32| is_alive(*pid);
    let all = field.until(ORPHAN_BOUND, |_| (!family.iter().any(alive)).then_some(())).await;
    if all.is_none() {
        let left: Vec<u32> = family.iter().copied().filter(|pid| is_alive(*pid)).collect();
        field.wrong(format!("the processes {left:?} live on without their supervisor"))?;
        for pid in left {
            drop(signal(pid, "KILL"));
        }
    }
    Ok(())
}

async fn started_again(member: &Member, starts: u32) -> Result<(), BoxError> {
    let begun = Instant::now();
    while member.starts() == starts {
        if begun.elapsed() > MOMENT_BOUND {
            return Err("a worker that was killed was not started again".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    member.until_ready().await
}

/// Stops a worker's processes for longer than a lease, and lets them go on.
pub(super) async fn pause(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let family = member.family();
    field.struck(Fault::Pause, Whom::Processes(family.clone()))?;
    // Parents first, so that none sees its children fall silent.
    for pid in &family {
        signal(*pid, "STOP")?;
    }
    tokio::time::sleep(field.hold()).await;
    for pid in family.iter().rev() {
        // It may have been replaced meanwhile.
        drop(signal(*pid, "CONT"));
    }
    field.over(Fault::Pause)
}

/// Drains a busy worker: nothing begins any more, all that had begun ends, and a new one takes its place.
pub(super) async fn drain(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let family = member.family();
    let running = field.look(|story| family.iter().map(|pid| story.running(*pid)).sum::<usize>());
    let told = field.struck(Fault::Drain, Whom::Nobody)?;
    let begun = Instant::now();
    let code = member.retire(&["TERM"]).await?;
    field.figure("drained_after_ms", begun.elapsed().as_millis() as u64)?;
    field.figure("running_when_drained", running as u64)?;
    expect_code(field, "a drained worker", code, 0)?;
    nothing_began_late(field, &family, told)?;
    field.over(Fault::Drain)?;
    field.fleet.add().await.map(drop)
}

fn expect_code(field: &Field<'_>, what: &str, code: Option<i32>, wanted: i32) -> Result<(), BoxError> {
    match code {
        Some(code) if code == wanted => Ok(()),
        Some(code) => field.wrong(format!("{what} ended with code {code} in place of {wanted}")),
        None => field.wrong(format!("{what} was ended by a signal")),
    }
}

fn nothing_began_late(field: &Field<'_>, family: &[u32], told: u64) -> Result<(), BoxError> {
    let last = field.look(|story| family.iter().filter_map(|pid| story.last_began(*pid)).max());
    let late = last.unwrap_or(0).saturating_sub(told);
    field.figure("last_begin_after_signal_ms", late)?;
    if late > STILL_MS {
        field.wrong(format!("a worker began a task {late} ms after it was told to stop"))?;
    }
    Ok(())
}

/// Drains a worker whose tasks outlast the grace: they are told, stopped, given back, and picked up by another.
pub(super) async fn grace(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let family = member.family();
    // These runs are cut off, and begin again elsewhere.
    let told = field.struck(Fault::Grace, Whom::Processes(family.clone()))?;
    let code = member.retire(&["TERM"]).await?;
    // Some ended within the grace; if all did, there was nothing to interrupt.
    if field.look(Story::last_told) >= told {
        expect_code(field, "a worker that gave tasks back", code, INTERRUPTED)?;
    }
    nothing_began_late(field, &family, told)?;
    field.over(Fault::Grace)?;
    field.fleet.add().await.map(drop)
}

/// The exit code of a worker that was stopped before its tasks had ended.
const INTERRUPTED: i32 = 8;

/// TERM, TERM, INT: the third ends at once.
pub(super) async fn three_signals(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let family = member.family();
    field.struck(Fault::ThreeSignals, Whom::Processes(family.clone()))?;
    let begun = Instant::now();
    // One that has drained between two signals has ended as it should.
    let ended = match member.retire(&["TERM", "TERM", "INT"]).await {
        Ok(ended) => ended,
        Err(_) => member.until_gone().await?,
    };
    field.figure("ended_after_three_signals_ms", begun.elapsed().as_millis() as u64)?;
    if !matches!(ended, Some(0 | INTERRUPTED)) {
        expect_code(field, "a worker with three signals", ended, INTERRUPTED)?;
    }
    gone(field, &family).await?;
    field.over(Fault::ThreeSignals)?;
    field.fleet.add().await.map(drop)
}

/// A new worker first, then the oldest goes.
pub(super) async fn replace(field: &mut Field<'_>) -> Result<(), BoxError> {
    let told = field.struck(Fault::Replace, Whom::Nobody)?;
    let Some(oldest) = field.fleet.members().first().cloned() else { return Err("there is no worker".into()) };
    field.fleet.add().await?;
    field.figure("new_worker_ready_after_ms", now_ms().saturating_sub(told))?;
    let code = oldest.retire(&["TERM"]).await?;
    expect_code(field, "a replaced worker", code, 0)?;
    field.over(Fault::Replace)
}

/// A rolling restart: other children, the same supervisor.
pub(super) async fn hup(field: &mut Field<'_>) -> Result<(), BoxError> {
    let member = busy_member(field).await?;
    let before = member.family();
    let Some(parent) = before.first().copied() else { return Err("the worker has no process".into()) };
    field.struck(Fault::Hup, Whom::Nobody)?;
    let begun = Instant::now();
    signal(parent, "HUP")?;
    let replaced = |_: &Field<'_>| {
        let now = member.family();
        let old = now.iter().skip(1).any(|pid| before.contains(pid));
        (now.first() == Some(&parent) && now.len() >= before.len() && !old).then_some(())
    };
    match field.until(MOMENT_BOUND * 2, replaced).await {
        Some(()) => field.figure("rolled_after_ms", begun.elapsed().as_millis() as u64)?,
        None => field.wrong("a minute after HUP the old processes are still there, or the supervisor is not")?,
    }
    field.over(Fault::Hup)
}

/// A worker whose ledger is not there cannot start, however often it is tried.
pub(super) async fn crash_loop(field: &mut Field<'_>) -> Result<(), BoxError> {
    let mut broken = field.fleet.recipe().clone();
    broken.variables.push((CRASH_AT_START, "1".to_owned()));
    let begun = Instant::now();
    let member = field.fleet.start(broken)?;
    let Some(pid) = field.until(MOMENT_BOUND, |_| member.pid()).await else {
        return Err("the worker that cannot start was not even tried".into());
    };
    field.struck(Fault::CrashLoop, Whom::Processes(vec![pid]))?;
    let code = member.retire(&[]).await?;
    field.figure("gave_up_after_ms", begun.elapsed().as_millis() as u64)?;
    if code != Some(GAVE_UP) {
        field.wrong(format!("a worker that crashes whenever it starts ended with {code:?}"))?;
    }
    field.figure("gave_up_with_code", code.unwrap_or_default() as u64)?;
    field.over(Fault::CrashLoop)
}
