//! The files to examine.

use std::error::Error;
use std::path::Path;

/// Whether a file belongs to the embedded store, which changes while it is read.
fn is_the_store(name: &str) -> bool {
    name.starts_with("taskq.db")
}

/// Whether a folder is left out: build output, and hidden folders.
fn is_left_out(name: &str) -> bool {
    name == "target" || name.starts_with('.')
}

/// Returns the regular files below `folder`, in order. Links are not followed.
pub(crate) fn below(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let name = name.to_string_lossy();
            if kind.is_dir() && !is_left_out(&name) {
                folders.push(entry.path());
            } else if kind.is_file() && !is_the_store(&name) {
                // A path that is not UTF-8 is sent with replacement characters, and its task fails under that name: no
                // file is left out silently.
                files.push(entry.path().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
