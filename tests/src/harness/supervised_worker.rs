//! A supervised worker under test: the embedded file, its state folder and its processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::state_of;
use super::{App, Folder, Process, wait_until};

/// A folder with a copy of a program, whose workers have the embedded file and their state there.
#[derive(Debug)]
pub struct SupervisedWorker {
    folder: Folder,
    original: PathBuf,
    /// The copy.
    pub app: App,
}

impl SupervisedWorker {
    /// With the program at `original`, `env!("CARGO_BIN_EXE_shop")`.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    pub fn new(original: &str) -> Self {
        let folder = Folder::new("group");
        let app = App::new(folder.path().join("app")).folder(&folder);
        let supervised = Self { folder, original: original.into(), app };
        supervised.build();
        supervised
    }

    /// Starts a worker, with these arguments, that is ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub fn worker(&self, arguments: &[&str]) -> Process {
        self.worker_of(&self.app, arguments)
    }

    /// Starts a worker of a changed [`app`](Self::app), with these arguments, that is ready.
    ///
    /// # Panics
    ///
    /// If it does not become ready.
    pub fn worker_of(&self, app: &App, arguments: &[&str]) -> Process {
        let mut worker = app.start(&[&["worker", "--state-dir", "state"], arguments].concat());
        worker.wait_until_ready();
        worker
    }

    /// Puts a new build in the place of the program, as linkers do: another file under the same name.
    ///
    /// # Panics
    ///
    /// If it cannot be copied.
    pub fn build(&self) {
        build(&self.original, &self.path("app"));
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends a task, and gives its id.
    ///
    /// # Panics
    ///
    /// If it is not accepted.
    pub fn send(&self, arguments: &[&str]) -> String {
        let sent = self.app.run(&[&["call"], arguments].concat()).expect_exit(0).json();
        sent["id"].as_str().expect("a call answers with an id").to_owned()
    }

    /// Waits until a task runs.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn wait_until_started(&self, id: &str) {
        wait_until(&format!("{id} has started"), || {
            let status = self.app.run(&["status", id]).expect_exit(0).json();
            (status["state"] == "STARTED").then_some(())
        });
    }

    /// Starts a worker, lets it run a long task, and kills it with all its processes. Returns the task's id.
    ///
    /// # Panics
    ///
    /// If it does not start, or does not die.
    pub fn killed_at_work(&self) -> String {
        let worker = self.worker(&["-c", "1"]);
        let id = self.send(&["shop.slow", "600000"]);
        self.wait_until_started(&id);
        let children = worker.children();
        worker.kill();
        wait_until("all are gone", || children.iter().all(|pid| is_gone(*pid)).then_some(()));
        id
    }

    /// The folders of supervisors in the state folder.
    pub fn states(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Puts a copy of `original` in the place of `program`, as linkers do: another file under the same name.
///
/// # Panics
///
/// If it cannot be copied.
pub fn build(original: impl AsRef<Path>, program: &Path) {
    let built = program.with_extension("new");
    // By another process: a file that this one has open for writing is open in whatever another test starts meanwhile,
    // and cannot be run.
    let copied = Command::new("cp").arg(original.as_ref()).arg(&built).status().expect("cp can be started");
    assert!(copied.success(), "{} cannot be copied", original.as_ref().display());
    std::fs::rename(&built, program).expect("it can be renamed");
}

/// Sends a signal to a process, by its id.
///
/// # Panics
///
/// If it cannot be sent.
pub fn signal(pid: u32, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -s {signal} {pid}")]).status();
    assert!(status.expect("a shell can be started").success(), "{signal} could not be sent to {pid}");
}

/// Whether a process has ended: it is gone, or waits for somebody to notice.
pub fn is_gone(pid: u32) -> bool {
    state_of(pid).is_none_or(|state| state == 'Z')
}
