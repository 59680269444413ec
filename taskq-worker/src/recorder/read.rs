//! Reading the file that a dead process left behind.

use std::io::{self, Read};
use std::path::Path;

use super::flight::Recording;
use super::layout::{self, HEADER_BYTES, SLOT_BYTES, SLOTS_MAX};

/// Reads the recording of a process, however it ended. A file that is no recording, or of another version, is an error
/// of kind `InvalidData`; of a truncated file, the slots that are there are read.
pub(crate) fn read(path: &Path) -> io::Result<Recording> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take((HEADER_BYTES + SLOTS_MAX * SLOT_BYTES) as u64).read_to_end(&mut bytes)?;
    layout::parse(&bytes)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no recording: {why}", path.display())))
}
