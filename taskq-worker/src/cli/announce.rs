//! What a worker says on stdout: one line when it takes work, and one when it has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::output::Output;

/// What a process that runs tasks is, once it takes work.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    pub(super) node: String,
    pub(super) broker: String,
    pub(super) queues: Vec<String>,
    pub(super) tasks: usize,
    pub(super) concurrency: usize,
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    #[serde(flatten)]
    facts: &'a Facts,
    processes: usize,
    pid: u32,
}

#[derive(Serialize)]
struct Ended<'a> {
    event: &'static str,
    node: &'a str,
    #[serde(flatten)]
    counts: &'a BTreeMap<String, u64>,
}

/// Says that this worker takes work, in so many processes that are each as the facts say.
pub(super) fn ready(output: Output, facts: &Facts, processes: usize) {
    output.announce(&Ready { event: "ready", facts, processes, pid: std::process::id() }, |_| {
        let Facts { node, broker, queues, tasks, concurrency } = facts;
        let queues = queues.join(", ");
        let each = if processes == 1 { String::new() } else { format!(" in each of {processes} processes") };
        format!("{node} is ready: {broker}, queues {queues}, {tasks} tasks, {concurrency} at once{each}")
    });
}

/// Says what this worker did.
pub(super) fn ended(output: Output, node: &str, counts: &BTreeMap<String, u64>) {
    output.announce(&Ended { event: "ended", node, counts }, |_| {
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        let [succeeded, failed, retried, revoked, interrupted] =
            ["succeeded", "failed", "retried", "revoked", "interrupted"].map(count);
        format!("{node} ended: {succeeded} succeeded, {failed} failed, {retried} retried, {revoked} revoked, {interrupted} given back")
    });
}
