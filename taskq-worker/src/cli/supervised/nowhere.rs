//! Where there is no supervisor there are no children.

use super::super::announce::Facts;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::session::Session;
use super::super::signals::Stops;
use super::super::worker::Worker;
use crate::engine::{WorkerBuilder, WorkerControl, WorkerSummary};

/// Nobody.
pub(in super::super) enum Child {}

fn none() -> Failure {
    Failure::new(Exit::Usage, "this system has no supervised workers")
}

pub(in super::super) fn run(_worker: &Worker, _session: &Session) -> Result<Exit, Failure> {
    Err(none())
}

impl Child {
    pub(in super::super) fn connect(_descriptors: &str) -> Result<Self, Failure> {
        Err(none())
    }

    pub(in super::super) fn has_terminal(&self) -> bool {
        match *self {}
    }

    pub(in super::super) fn is_first(&self) -> bool {
        match *self {}
    }

    pub(in super::super) fn obey(&self, _stops: Stops) {
        match *self {}
    }

    pub(in super::super) fn build(
        &self,
        _builder: WorkerBuilder,
        _concurrency: usize,
    ) -> Result<WorkerBuilder, Failure> {
        match *self {}
    }

    pub(in super::super) async fn ready(
        &self,
        _facts: &Facts,
        _kept_in: String,
        _client: &taskq::Client,
        _control: WorkerControl,
    ) -> Result<(), Failure> {
        match *self {}
    }

    pub(in super::super) async fn ended(&self, _summary: &WorkerSummary) {
        match *self {}
    }
}
