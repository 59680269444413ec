//! The lines that a worker or a beat writes to stdout: one when it is ready, and one when it has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use taskq_beat::BeatSummary;

use super::output::Output;

/// The properties of a process that runs tasks, known once it takes work.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WorkerFacts {
    pub(super) node: String,
    pub(super) broker: String,
    pub(super) queues: Vec<String>,
    pub(super) tasks: usize,
    pub(super) concurrency: usize,
}

#[derive(Serialize)]
struct WorkerReady<'a> {
    event: &'static str,
    #[serde(flatten)]
    facts: &'a WorkerFacts,
    processes: usize,
    pid: u32,
}

#[derive(Serialize)]
struct WorkerEnded<'a> {
    event: &'static str,
    node: &'a str,
    #[serde(flatten)]
    counts: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct BeatReady<'a> {
    event: &'static str,
    node: &'a str,
    entries: usize,
    pid: u32,
}

#[derive(Serialize)]
struct BeatEnded<'a> {
    event: &'static str,
    node: &'a str,
    #[serde(flatten)]
    summary: BeatSummary,
}

/// Announces that a worker takes work, in this many processes with these properties.
pub(super) fn worker_ready(output: Output, facts: &WorkerFacts, processes: usize) {
    output.announce(&WorkerReady { event: "ready", facts, processes, pid: std::process::id() }, |_| {
        let WorkerFacts { node, broker, queues, tasks, concurrency } = facts;
        let queues = queues.join(", ");
        let each = if processes == 1 { String::new() } else { format!(" in each of {processes} processes") };
        format!("{node} is ready: {broker}, queues {queues}, {tasks} tasks, {concurrency} at once{each}")
    });
}

/// Announces that a worker has ended, with the numbers of its tasks by outcome.
pub(super) fn worker_ended(output: Output, node: &str, counts: &BTreeMap<String, u64>) {
    output.announce(&WorkerEnded { event: "ended", node, counts }, |_| {
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let [succeeded, failed, retried, revoked, interrupted] =
            ["succeeded", "failed", "retried", "revoked", "interrupted"].map(count);
        format!("{node} ended: {succeeded} succeeded, {failed} failed, {retried} retried, {revoked} revoked, {interrupted} given back")
    });
}

/// Announces that a beat sends its entries.
pub(super) fn beat_ready(output: Output, node: &str, entries: usize) {
    output.announce(&BeatReady { event: "ready", node, entries, pid: std::process::id() }, |_| {
        format!("{node} is ready: {entries} entries")
    });
}

/// Announces that a beat has ended.
pub(super) fn beat_ended(output: Output, node: &str, summary: BeatSummary) {
    output.announce(&BeatEnded { event: "ended", node, summary }, |ended| {
        format!("{} ended: {} slots fired, {} found missed", ended.node, ended.summary.fired, ended.summary.missed)
    });
}
