//! Probes of the workers' health while a fault lasts, and clients that keep the health of a worker busy.

use std::net::SocketAddr;
use std::time::Duration;

use taskq::BoxError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::StrikeContext;
use crate::torture::catalog::Fault;
use crate::torture::ledger::Affected;

/// The pause between two probes of a worker.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The time within which a probe must be answered: Kubernetes waits that long unless it is told otherwise.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The number of slow clients.
const SLOW: usize = 200;

/// The pause before a slow client that was sent away comes back.
const BACK_AFTER: Duration = Duration::from_millis(100);

/// Lets slow clients hold the health address of a worker, while every worker is probed.
pub(super) async fn slow_probes(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let members = context.fleet.members();
    let address = members.first().and_then(|member| member.health()).ok_or("no worker publishes its health")?;
    context.struck(Fault::SlowProbes, Affected::Nobody)?;
    // They end when this is dropped.
    let mut slow = JoinSet::new();
    for _ in 0..SLOW {
        slow.spawn(be_slow(address));
    }
    probe(context).await?;
    context.over(Fault::SlowProbes)
}

/// Asks for the health of a worker without ever finishing the question, for ever.
async fn be_slow(address: SocketAddr) {
    loop {
        // A client that is refused or sent away comes back.
        if let Ok(mut stream) = TcpStream::connect(address).await
            && stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.is_ok()
        {
            drop(stream.read_u8().await);
        }
        sleep(BACK_AFTER).await;
    }
}

/// Probes every worker once a second while the fault is held. Each probe must be answered in time, and with 200.
pub(super) async fn probe(context: &StrikeContext<'_>) -> Result<(), BoxError> {
    let addresses: Vec<_> = context.fleet.members().iter().filter_map(|member| member.health()).collect();
    let until = Instant::now() + context.hold();
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut probes, mut failed) = (0, 0);
    while Instant::now() < until {
        ticks.tick().await;
        let mut asked = JoinSet::new();
        for address in &addresses {
            asked.spawn(ask(*address));
        }
        while let Some(answer) = asked.join_next().await {
            let (took, fault) = answer?;
            probes += 1;
            context.figure("slowest_probe_ms", took.as_millis() as u64)?;
            if let Some(fault) = fault {
                failed += 1;
                context.wrong(format!("a probe of a worker's health {fault}"))?;
            }
        }
    }
    context.figure("probes", probes)?;
    context.figure("probes_failed", failed)
}

/// Asks for the health of a worker. Returns how long that took, and what was wrong.
async fn ask(address: SocketAddr) -> (Duration, Option<String>) {
    let begun = Instant::now();
    let answer = timeout(ANSWER_WITHIN, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    })
    .await;
    let fault = match answer {
        Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200 ") => None,
        Ok(Ok(answer)) => Some(format!("was answered {:?}", String::from_utf8_lossy(&answer))),
        Ok(Err(error)) => Some(format!("failed: {error}")),
        Err(_) => Some(format!("was not answered within {ANSWER_WITHIN:?}")),
    };
    (begun.elapsed(), fault)
}
