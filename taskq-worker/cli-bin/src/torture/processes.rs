//! Other processes: signals, descendants, memory. Uses what Linux offers in `/proc` and what a shell can send.

use std::io;
use std::path::Path;
use std::process::Command;

/// Sends the process a signal by name: `TERM`, `KILL`, `STOP`. Fails if the process is gone or the system has no
/// signals.
pub(super) fn signal(pid: u32, name: &str) -> io::Result<()> {
    let output = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("the signal {name} could not be sent to process {pid}: {why}")))
}

/// Lists the process and all its present descendants, itself first.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(elder) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == elder).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// Lists the processes with the argument `text`, this process excepted.
pub(super) fn with_argument(text: &str) -> Vec<u32> {
    let holds = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == text.as_bytes()))
    };
    all().into_iter().filter(|pid| *pid != std::process::id()).filter(holds).collect()
}

/// Returns whether the process exists and has not ended; a zombie has ended.
pub(super) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| !matches!(fields.first().map(String::as_str), Some("Z" | "X")))
}

/// The user that owns nothing: `nobody`, on all systems that have `setpriv`.
const NOBODY: &str = "65534";

/// Returns a command that is run by a user who owns nothing. Only root may start it.
pub(super) fn as_another_user(command: &[&str]) -> Command {
    let mut other = Command::new("setpriv");
    other.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--"]).args(command);
    other
}

/// Returns whether commands can be run by another user.
pub(super) fn can_act_as_another_user() -> bool {
    as_another_user(&["true"]).output().is_ok_and(|output| output.status.success())
}

/// Returns the resident memory of the process in kilobytes.
pub(super) fn resident_kb(pid: u32) -> Option<u64> {
    status_kb(pid, "VmRSS:")
}

/// Returns the most memory in kilobytes that the process has had resident.
pub(super) fn resident_peak_kb(pid: u32) -> Option<u64> {
    status_kb(pid, "VmHWM:")
}

fn status_kb(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

fn all() -> Vec<u32> {
    // Where there is no such folder, nothing is known of other processes.
    let Ok(entries) = std::fs::read_dir(Path::new("/proc")) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Returns the fields of `/proc/PID/stat` behind the name: state, parent, group, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_and_its_end_is_seen() {
        let mark = format!("taskq-family-{}", taskq::TaskId::new());
        let script = "sleep 60 & echo $!; wait";
        let mut shell = Command::new("sh")
            .args(["-c", script, &mark])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        let stdout = shell.stdout.take().expect("it is a pipe");
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).expect("it says its child");
        let sleeper: u32 = line.trim().parse().expect("it is a number");
        assert_eq!(family(shell.id()), [shell.id(), sleeper]);
        assert_eq!(with_argument(&mark), [shell.id()]);
        let (now, peak) = (resident_kb(shell.id()), resident_peak_kb(shell.id()));
        assert!(now.is_some_and(|kb| kb > 0) && peak >= now, "{now:?} of {peak:?}");
        signal(sleeper, "KILL").expect("it is there");
        shell.wait().expect("it ends with its child");
        assert!(!is_alive(shell.id()));
        assert!(signal(shell.id(), "TERM").is_err(), "it is gone");
    }
}
