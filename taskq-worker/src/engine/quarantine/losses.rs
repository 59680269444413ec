//! Losses: the processes that died while they ran a task, as they are kept in Kv.
//!
//! A supervisor reads from a dead child's flight recorder what was running, and has a living child report it here. A
//! report may be made twice, since supervisors take over from each other; the name of the process that died makes
//! that harmless.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskq::backend::kv::{Versioned, first_version, from_versioned_json, to_json};
use taskq::backend::{BackendError, Put, SharedKv};
use taskq::{Client, TaskId};

use super::super::claims::{LeaseTimes, mark_gone};
use crate::recorder::flight::{Death, Flight, Loss, recorded_id};

/// The time for which losses are remembered after the last one: longer than any queue should take to bring the task
/// back.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// The number of losses of a task that are kept, more than any judgement needs.
const KEPT_MAX: usize = 16;

/// A process that died while it ran a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// The process, by a name that no other process ever has. It is the owner of the claims that the process made.
    pub(crate) process: String,
    /// The machine it ran on.
    pub(crate) host: String,
    /// The cause of its death, for people.
    pub(crate) cause: String,
    /// Whether the thread that crashed was running this task.
    #[serde(default)]
    pub(crate) culprit: bool,
    /// Whether no other task ran there, and the process was seen to die of it.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Whether a signal ended it that others send, and a crash does not raise.
    #[serde(default)]
    pub(crate) killed: bool,
    /// When the task began and when the process was found dead, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    pub(crate) at_ms: u64,
}

/// The version of [`Losses`] that this release writes, and the newest that it reads. Absent in a stored value, it is 1.
const LOSSES_VERSION: u32 = 1;

/// The losses of one generation of a task, as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Losses {
    #[serde(default = "first_version")]
    v: u32,
    pub(crate) losses: Vec<Lost>,
}

impl Losses {
    /// Adds a loss. Returns `false` if it was known.
    fn add(&mut self, lost: Lost) -> bool {
        if let Some(known) = self.losses.iter_mut().find(|known| known.process == lost.process) {
            // Two copies of a task may have run there; what speaks against either counts, once.
            let merged =
                Lost { culprit: known.culprit || lost.culprit, alone: known.alone || lost.alone, ..known.clone() };
            return std::mem::replace(known, merged.clone()) != merged;
        }
        if self.losses.len() < KEPT_MAX {
            self.losses.push(lost);
            return true;
        }
        false
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self { v: LOSSES_VERSION, losses: Vec::new() }
    }
}

/// The key of the losses of a task. The id comes last: it may contain anything.
fn key(id: &str, generation: u32) -> String {
    format!("loss/{generation}/{}", recorded_id(id))
}

/// Reads the losses of a generation of a task. Losses that a newer release has written are not judged, so the task
/// runs.
pub(crate) async fn read(kv: &SharedKv, id: &TaskId, generation: u32) -> Result<Losses, BackendError> {
    let key = key(id.as_str(), generation);
    let Some(value) = kv.get(&key).await? else { return Ok(Losses::default()) };
    Ok(decode(&key, &value)?.unwrap_or_default())
}

/// Notes the loss for each task that was running when a process died, and then that the process is gone. May be
/// repeated. Without a Kv store there is nothing to note it in, and the broker's count of returns is all there is.
pub(crate) async fn report(client: &Client, loss: &Loss) -> Result<(), taskq::Error> {
    let Some(kv) = client.kv() else { return Ok(()) };
    for flight in &loss.recording.flights {
        note(kv, flight, loss).await?;
    }
    let times = LeaseTimes::of(client.settings().claim_lease);
    Ok(mark_gone(kv, &loss.process(), times.gone_for).await?)
}

/// Decodes stored losses; `None` if a newer release has written them.
fn decode(key: &str, value: &[u8]) -> Result<Option<Losses>, BackendError> {
    match from_versioned_json(key, value, LOSSES_VERSION)? {
        Versioned::Known(losses) => Ok(Some(losses)),
        Versioned::Newer(version) => {
            tracing::warn!(key, version, "a newer release of taskq has noted losses of this task; they are left to it");
            Ok(None)
        }
    }
}

async fn note(kv: &SharedKv, flight: &Flight, loss: &Loss) -> Result<(), BackendError> {
    let key = key(&flight.id, flight.generation);
    let lost = Lost {
        process: loss.process(),
        host: loss.death.host.clone(),
        cause: cause(&loss.death),
        culprit: flight.culprit,
        // Where nobody saw the end, the supervisor died too, which no task can bring about: that proves nothing.
        alone: flight.in_quarantine && was_seen(&loss.death),
        killed: loss.death.signal.is_some_and(|signal| !is_crash(signal)),
        since_ms: flight.since_ms,
        at_ms: loss.death.at_ms,
    };
    let mut there = kv.get(&key).await?;
    loop {
        let mut losses = match &there {
            None => Losses::default(),
            Some(value) => match decode(&key, value)? {
                Some(losses) => losses,
                None => return Ok(()),
            },
        };
        if !losses.add(lost.clone()) {
            return Ok(());
        }
        match kv.compare_and_put(&key, there, to_json(&losses), Some(KEPT_FOR)).await? {
            Put::Done => return Ok(()),
            // Another process has noted a loss of this task meanwhile; in each round one of them gets on.
            Put::Refused(newer) => there = newer,
        }
    }
}

/// Whether a supervisor lived to see how the process died.
fn was_seen(death: &Death) -> bool {
    death.signal.is_some() || death.code.is_some()
}

/// The cause of a death, in Celery's words where it has any.
fn cause(death: &Death) -> String {
    match (death.signal, death.code) {
        (Some(signal), _) => match signal_name(signal) {
            Some(name) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, Some(code)) => format!("exitcode {code}"),
        (None, None) => "by a cause that nobody saw".to_owned(),
    }
}

/// Whether a process raises this signal by its own doing.
fn is_crash(signal: i32) -> bool {
    matches!(signal_name(signal), Some("SIGILL" | "SIGTRAP" | "SIGABRT" | "SIGBUS" | "SIGFPE" | "SIGSEGV" | "SIGSYS"))
}

/// The names of signals that end processes. Two of them have other numbers elsewhere than on Linux.
fn signal_name(signal: i32) -> Option<&'static str> {
    const BUS: i32 = if cfg!(target_os = "linux") { 7 } else { 10 };
    const SYS: i32 = if cfg!(target_os = "linux") { 31 } else { 12 };
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        BUS => "SIGBUS",
        SYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::flight::Recording;

    async fn client() -> Client {
        let url = format!("memory:{}", TaskId::new());
        Client::builder().broker(&url).results(&url).build().await.expect("the memory broker is always there")
    }

    fn flight(id: &TaskId) -> Flight {
        Flight {
            id: recorded_id(id.as_str()).into_owned(),
            task: "shop.buy".into(),
            generation: 0,
            attempt: 0,
            in_quarantine: false,
            since_ms: 1000,
            culprit: false,
        }
    }

    fn loss(pid: u32, flights: Vec<Flight>) -> Loss {
        Loss {
            recording: Recording { pid, began_ms: 7, flights },
            death: Death { code: None, signal: Some(9), host: "web-1".into(), at_ms: 2500 },
        }
    }

    async fn losses(client: &Client, id: &TaskId, generation: u32) -> Vec<Lost> {
        let kv = client.kv().expect("memory has a Kv store");
        read(kv, id, generation).await.expect("memory does not fail").losses
    }

    #[tokio::test]
    async fn a_report_counts_once_however_often_it_is_made() {
        let (client, id) = (client().await, TaskId::new());
        for _ in 0..3 {
            report(&client, &loss(1, vec![flight(&id)])).await.expect("memory does not fail");
        }
        let lost = Lost {
            process: "web-1/1/7".into(),
            host: "web-1".into(),
            cause: "signal 9 (SIGKILL)".into(),
            killed: true,
            culprit: false,
            alone: false,
            since_ms: 1000,
            at_ms: 2500,
        };
        assert_eq!(losses(&client, &id, 0).await, [lost]);
        report(&client, &loss(2, vec![flight(&id)])).await.expect("memory does not fail");
        assert_eq!(losses(&client, &id, 0).await.len(), 2, "another process is another loss");
    }

    #[tokio::test]
    async fn only_what_was_running_is_charged() {
        let (client, one, two, bystander) = (client().await, TaskId::new(), TaskId::new(), TaskId::new());
        let flights = vec![Flight { culprit: true, ..flight(&one) }, flight(&two)];
        report(&client, &loss(1, flights)).await.expect("memory does not fail");
        assert!(losses(&client, &one, 0).await[0].culprit);
        assert!(!losses(&client, &two, 0).await[0].culprit);
        assert_eq!(losses(&client, &bystander, 0).await, []);
        assert_eq!(losses(&client, &one, 1).await, [], "another generation is another life");
    }

    #[tokio::test]
    async fn reports_at_the_same_time_all_count() {
        let (client, id) = (client().await, TaskId::new());
        let reports = (0..10).map(|pid| {
            let (client, loss) = (client.clone(), loss(pid % 5, vec![flight(&id)]));
            tokio::spawn(async move { report(&client, &loss).await.expect("memory does not fail") })
        });
        for report in reports.collect::<Vec<_>>() {
            report.await.expect("a report does not panic");
        }
        let mut processes: Vec<_> = losses(&client, &id, 0).await.into_iter().map(|lost| lost.process).collect();
        processes.sort();
        assert_eq!(processes, ["web-1/0/7", "web-1/1/7", "web-1/2/7", "web-1/3/7", "web-1/4/7"]);
    }

    #[tokio::test]
    async fn long_ids_are_found_again() {
        let (client, id) = (client().await, TaskId::parse(&"x".repeat(200)).expect("an id"));
        report(&client, &loss(1, vec![flight(&id)])).await.expect("memory does not fail");
        assert_eq!(losses(&client, &id, 0).await.len(), 1);
    }

    #[tokio::test]
    async fn two_copies_in_one_process_are_one_loss() {
        let (client, id) = (client().await, TaskId::new());
        let flights = vec![flight(&id), Flight { culprit: true, ..flight(&id) }];
        report(&client, &loss(1, flights)).await.expect("memory does not fail");
        let lost = losses(&client, &id, 0).await;
        assert_eq!((lost.len(), lost[0].culprit), (1, true));
    }

    #[tokio::test]
    async fn the_end_of_a_whole_group_proves_nothing_against_a_task_in_quarantine() {
        let (client, id) = (client().await, TaskId::new());
        let alone = || vec![Flight { in_quarantine: true, ..flight(&id) }];
        let mut unseen = loss(1, alone());
        unseen.death.signal = None;
        report(&client, &unseen).await.expect("memory does not fail");
        report(&client, &loss(2, alone())).await.expect("memory does not fail");
        let seen: Vec<bool> = losses(&client, &id, 0).await.iter().map(|lost| lost.alone).collect();
        assert_eq!(seen, [false, true]);
    }

    #[tokio::test]
    async fn losses_of_a_newer_release_are_left_alone() {
        let (client, id) = (client().await, TaskId::new());
        let kv = client.kv().expect("memory has a Kv store");
        let newer = bytes::Bytes::from_static(br#"{"v":2,"deaths":[]}"#);
        kv.put(&key(id.as_str(), 0), newer.clone(), None).await.expect("memory");
        report(&client, &loss(1, vec![flight(&id)])).await.expect("it is not an error");
        assert_eq!(losses(&client, &id, 0).await, []);
        assert_eq!(kv.get(&key(id.as_str(), 0)).await.expect("memory"), Some(newer));
    }

    #[test]
    fn causes_have_names() {
        let death = |signal, code| Death { code, signal, host: String::new(), at_ms: 0 };
        assert_eq!(cause(&death(Some(11), None)), "signal 11 (SIGSEGV)");
        assert_eq!(cause(&death(Some(64), None)), "signal 64");
        assert_eq!(cause(&death(None, Some(3))), "exitcode 3");
        assert_eq!(cause(&death(None, None)), "by a cause that nobody saw");
    }
}
