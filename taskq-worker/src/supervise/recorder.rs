//! The flight recorder: a small memory-mapped file with a slot for each task that runs at once.

use std::io;
use std::path::Path;

use super::flight::Recording;

/// Reads what a child left behind, however it ended.
pub(crate) fn read(_path: &Path) -> io::Result<Recording> {
    Err(io::ErrorKind::NotFound.into())
}

pub(crate) struct Recorder;

impl Recorder {
    pub(crate) fn create(_path: &Path, _slots: usize) -> io::Result<std::sync::Arc<Self>> {
        Ok(std::sync::Arc::new(Self))
    }
}
