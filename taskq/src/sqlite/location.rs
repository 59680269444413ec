//! Parsing of `sqlite:` URLs, and the check of whether the file may be where it is.

use std::path::{Path, PathBuf};

/// The parsed content of a `sqlite:` URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Location {
    /// The absolute path of the file, in a directory without symbolic links.
    pub(crate) path: PathBuf,
    /// Every commit waits for the disk and so survives a loss of power.
    pub(crate) full: bool,
}

impl Location {
    /// Parses `sqlite:PATH` or `sqlite:PATH?synchronous=full`. An error names the cause and the remedy.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("sqlite:").ok_or("it does not begin with `sqlite:`")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // Many would write `sqlite:///srv/taskq.db`.
        let path = path.strip_prefix("//").unwrap_or(path);
        if url.contains(char::is_control) || url.trim_end() != url {
            return Err("it contains control characters, or ends with a space; remove them".to_owned());
        }
        if path.is_empty() {
            return Err("it names no file; write sqlite:taskq.db".to_owned());
        }
        if path.contains('@') && rest.starts_with("//") && !path.starts_with('/') {
            return Err("a file has no user and no host; write sqlite:/path/to/taskq.db".to_owned());
        }
        if path == ":memory:" {
            return Err("a database in memory cannot be shared; write memory: in its place".to_owned());
        }
        let full = match query {
            "" | "synchronous=normal" => false,
            "synchronous=full" => true,
            // Not repeated: it may be a password.
            _ => {
                let why = "what follows the `?` is not known; `synchronous=full` and `synchronous=normal` are";
                return Err(why.to_owned());
            }
        };
        Ok(Self { path: absolute(Path::new(path))?, full })
    }

    /// Rejects file systems on which SQLite's locks and shared memory do not work between processes.
    pub(crate) fn check_file_system(&self) -> Result<(), String> {
        // Linux lists the type of every mount here. Without the list, nothing can be checked.
        let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
        match remote_file_system(&mounts, &self.path) {
            None => Ok(()),
            Some(kind) => Err(format!(
                "{} is on a network file system ({kind}), where SQLite's locks do not hold and messages would be lost; \
                 put it on a disk of this machine, or use a server: amqp://user:password@host:5672/vhost",
                self.path.display()
            )),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    let name = path.file_name().ok_or_else(|| format!("{} is not a file", path.display()))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = directory.canonicalize().map_err(|error| {
        format!("the directory {} cannot be used ({error}); make it (`mkdir -p`) or name another", directory.display())
    })?;
    let path = directory.join(name);
    // A symbolic link is resolved; otherwise two processes could take two different sets of locks.
    Ok(path.canonicalize().unwrap_or(path))
}

/// The type of the file system that holds `path`, if it is a network file system.
fn remote_file_system(mountinfo: &str, path: &Path) -> Option<String> {
    const REMOTE: [&str; 14] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "afs",
        "ncpfs",
        "gpfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    ];
    let mut nearest: Option<(usize, &str)> = None;
    for line in mountinfo.lines() {
        // The format is `36 35 98:0 /root /mount/point options… - type source options`, with `\040` for a space in the
        // path.
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = PathBuf::from(point.replace("\\040", " "));
        let length = point.components().count();
        // Of two mounts on one point, the later one is visible.
        if path.starts_with(&point) && nearest.is_none_or(|(longest, _)| length >= longest) {
            nearest = Some((length, kind));
        }
    }
    nearest.map(|(_, kind)| kind.to_owned()).filter(|kind| REMOTE.contains(&kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused() {
        let here = Path::new(".").canonicalize().expect("the working directory is there");
        for (url, path, full) in [
            ("sqlite:taskq.db", here.join("taskq.db"), false),
            ("sqlite:taskq.db?synchronous=full", here.join("taskq.db"), true),
            ("sqlite:///taskq.db", PathBuf::from("/taskq.db"), false),
            ("sqlite:/taskq.db?synchronous=normal", PathBuf::from("/taskq.db"), false),
        ] {
            assert_eq!(Location::parse(url), Ok(Location { path, full }), "{url}");
        }
        for (url, remedy) in [
            ("sqlite:", "sqlite:taskq.db"),
            ("sqlite::memory:", "memory:"),
            ("sqlite:a.db?synchronous=off", "synchronous=full"),
            ("sqlite:no/such/directory/a.db", "mkdir -p"),
            ("sqlite:..", "not a file"),
            ("sqlite:a.db\n", "control characters"),
            ("sqlite:a\0.db", "control characters"),
            ("sqlite:a.db ", "control characters, or ends with a space"),
            ("sqlite:a.db?synchronous=full\n", "control characters"),
        ] {
            let error = Location::parse(url).expect_err("it cannot be used");
            assert!(error.contains(remedy), "{url}: {error}");
        }
    }

    #[test]
    fn network_file_systems_are_recognized() {
        let mounts = "\
            22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            40 22 0:40 / /home rw shared:1 - nfs4 server:/home rw\n\
            41 40 0:41 / /home/my\\040disk rw - ext4 /dev/vdb rw\n";
        for (path, remote) in [
            ("/taskq.db", None),
            ("/home/taskq.db", Some("nfs4")),
            ("/homes/taskq.db", None),
            ("/home/my disk/taskq.db", None),
        ] {
            assert_eq!(remote_file_system(mounts, Path::new(path)).as_deref(), remote, "{path}");
        }
    }
}
