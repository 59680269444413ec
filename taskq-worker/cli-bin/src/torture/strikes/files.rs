//! Another user of the machine, who can reach the folders of the workers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taskq::BoxError;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{StrikeContext, health};
use crate::torture::catalog::Fault;
use crate::torture::ledger::Affected;
use crate::torture::processes;

/// The pause between two rounds over all files.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The name of a file that everybody may read, by which a round shows that it reaches the folder.
const OPEN_TO_ALL: &str = "open-to-all";

/// Opens each file that it is given for reading, and for writing, and says which could be opened.
const OPEN_EACH: &str = r#"for file; do
  (exec 3<"$file") 2>/dev/null && echo "$file"
  (exec 3>>"$file") 2>/dev/null && echo "$file"
done; true"#;

/// Has another user try to open the file of the broker with its companions, and all files of the workers, while the
/// fault is held.
pub(super) async fn other_user(context: &mut StrikeContext<'_>) -> Result<(), BoxError> {
    let url = context.client.settings().broker_url();
    let file = PathBuf::from(url.strip_prefix("sqlite:").ok_or("the broker is no file")?);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let control = folder.join(OPEN_TO_ALL);
    fs::write(&control, "")?;
    fs::set_permissions(&control, fs::Permissions::from_mode(0o644))?;
    context.struck(Fault::OtherUser, Affected::Nobody)?;
    let ((), ()) = tokio::try_join!(look(context, &folder, &control), health::probe(context))?;
    fs::remove_file(&control)?;
    context.over(Fault::OtherUser)
}

async fn look(context: &StrikeContext<'_>, folder: &Path, control: &Path) -> Result<(), BoxError> {
    let own = &context.fleet.recipe().folder.join("state");
    let until = Instant::now() + context.hold();
    let (mut tried, mut opened) = (0, 0);
    while Instant::now() < until {
        let mut files = Vec::new();
        collect(folder, &mut files)?;
        collect(own, &mut files)?;
        tried += files.len() as u64 - 1;
        let found = spawn_blocking(move || {
            let mut command = processes::as_another_user(&["sh", "-c", OPEN_EACH, "sh"]);
            command.args(files).output()
        })
        .await??;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        if !found.lines().any(|opened| Path::new(opened) == control) {
            return Err(
                format!("another user cannot reach {}; name a folder that is open to all", control.display()).into()
            );
        }
        for path in found.lines().filter(|opened| Path::new(opened) != control) {
            opened += 1;
            context.wrong(format!("another user could open {path}"))?;
        }
        sleep(LOOK_EVERY).await;
    }
    context.figure("files_tried", tried)?;
    context.figure("files_opened", opened)
}

/// Adds all files in a folder and in those within it.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), BoxError> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files)?,
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}
