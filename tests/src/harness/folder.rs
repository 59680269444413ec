//! A folder of a test's own.

use std::path::{Path, PathBuf};

use super::unique;

/// An empty folder that no other test uses. Deleted, with all that is in it, when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder; `what` becomes part of its name.
    ///
    /// # Panics
    ///
    /// If the temporary folder cannot be written.
    pub fn new(what: &str) -> Self {
        let path = std::env::temp_dir().join(unique(&format!("taskq-{what}")));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{} cannot be made: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that is just ending may still write into it; what is left then is in the temporary folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
