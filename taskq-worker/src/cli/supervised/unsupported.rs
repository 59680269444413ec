//! The stand-in where there is no supervisor: on systems other than Unix, and without the feature `supervise`.

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::host::Unsupervised;
use super::super::session::Session;
use super::super::worker_options::WorkerOptions;

fn unsupported() -> Failure {
    Failure::new(Exit::Usage, "this build has no supervisor; run the worker with --unsupervised")
}

pub(in super::super) fn run(_options: &WorkerOptions, _session: &Session) -> Result<Exit, Failure> {
    Err(unsupported())
}

pub(in super::super) fn with_child(
    _descriptors: &str,
    _work: impl FnOnce(Unsupervised) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    Err(unsupported())
}
