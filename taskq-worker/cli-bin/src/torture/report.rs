//! The verdict as it is printed: a JSON document for programs, a page for people.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::checker::Findings;
use super::options::TortureOptions;

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Verdict {
    event: &'static str,
    /// Whether everything that was promised was kept, and every fault could strike.
    pub held: bool,
    seed: u64,
    faults: Vec<&'static str>,
    #[serde(flatten)]
    findings: Findings,
    workers: usize,
    /// The number of processes of each worker; `None` without a supervisor.
    processes: Option<u16>,
    /// The number of tasks that each process runs at the same time.
    concurrency: u16,
    /// The duration of the run in milliseconds.
    took_ms: u64,
    versions: Versions,
    /// Why faults could not strike; the run then says nothing about the promise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hindered: Vec<String>,
    /// The folder of the ledger and the logs, if they were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
}

/// The versions that a verdict holds for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Versions {
    pub(super) taskq: &'static str,
    pub(super) broker: String,
    pub(super) results: String,
    pub(super) system: String,
}

impl Verdict {
    pub(super) fn new(
        options: &TortureOptions,
        findings: Findings,
        took: std::time::Duration,
        versions: Versions,
        hindered: Vec<String>,
    ) -> Self {
        Self {
            event: "verdict",
            held: findings.held() && hindered.is_empty(),
            seed: options.seed,
            faults: options.faults.iter().map(|fault| fault.name()).collect(),
            findings,
            workers: options.workers,
            processes: options.processes,
            concurrency: options.concurrency,
            took_ms: took.as_millis() as u64,
            versions,
            hindered,
            folder: None,
        }
    }

    /// Adds the folder that was kept.
    pub(super) fn kept(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// Returns the verdict as a page of text.
    pub fn page(&self) -> String {
        let found = &self.findings;
        let mut page = String::new();
        let mut row = |what: &str, count: u64, more: &str| {
            writeln!(page, "{what:<14}{count:>8}  {more}").expect("text can be written to");
        };
        let faults = if self.faults.is_empty() { "no fault".to_owned() } else { self.faults.join(", ") };
        row("seed", self.seed, &faults);
        row("attempted", found.attempted, "");
        row("acknowledged", found.acknowledged, "");
        row("ok", found.ok, "");
        row("lost", found.lost, "");
        row(
            "duplicated",
            found.duplicated,
            &format!("of at most {}: {}", found.duplicated_allowed, found.duplicated_allowed_because),
        );
        row("stuck", found.stuck, "");
        row("recovered", found.recovered, "never acknowledged, and ran");
        row("unexpected", found.unexpected, "");
        row("cut off", found.cut_off, "runs, which were run again");
        row("strikes", found.strikes, &format!("{} deaths", found.deaths));
        for (name, value) in &found.figures {
            writeln!(page, "{name} {value}").expect("text can be written to");
        }
        for line in found.examples.iter().chain(&self.hindered) {
            writeln!(page, "! {line}").expect("text can be written to");
        }
        if let Some(folder) = &self.folder {
            writeln!(page, "the ledger and the logs are in {}", folder.display()).expect("text can be written to");
        }
        page.push_str(match (self.held, self.hindered.is_empty()) {
            (true, _) => "the promise held",
            (false, false) => "not every fault could strike; this run says nothing",
            (false, true) => "the promise was broken",
        });
        page
    }
}
