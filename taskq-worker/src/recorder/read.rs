//! Reading the file that a dead process left behind.

use std::io::{self, Read};
use std::path::Path;

use super::flight::Recording;
use super::layout::{self, HEADER_BYTES, SLOT_BYTES, SLOTS_MAX};

/// Reads what a process left behind, however it ended. A file that is no recorder's, or of another version, is an error
/// of kind `InvalidData`; of a file that was cut off, what is there is read.
pub(crate) fn read(path: &Path) -> io::Result<Recording> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take((HEADER_BYTES + SLOTS_MAX * SLOT_BYTES) as u64).read_to_end(&mut bytes)?;
    layout::parse(&bytes)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no recording: {why}", path.display())))
}
