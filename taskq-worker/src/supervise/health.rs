//! The health of the worker, published as a file that exists while all is well, or as an answer over HTTP ([`server`]).

mod server;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::state_dir;

/// The pause between two writes of the file, whose age shows whether it is still being written.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// The place where health is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HealthTarget {
    /// This file.
    File(PathBuf),
    /// This `host:port`, over HTTP.
    Address(String),
}

/// The published state: all is well, or the reason why not.
type HealthVerdict = Result<(), String>;

/// The publisher of health.
#[derive(Debug)]
pub(super) struct Health {
    verdict: watch::Sender<HealthVerdict>,
    file: Option<PathBuf>,
    written_at: Option<Instant>,
}

impl HealthTarget {
    /// Reads a target as people write it: `HOST:PORT`, `:PORT`, or else a path.
    pub(crate) fn of(text: &str) -> Self {
        let port = text.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().map(|port| (host, port)));
        match port {
            Some(("", port)) => Self::Address(format!("0.0.0.0:{port}")),
            Some((host, _)) if !host.contains('/') => Self::Address(text.to_owned()),
            _ => Self::File(text.into()),
        }
    }
}

impl Health {
    /// Starts to publish that no process is ready yet. Fails if the address cannot be listened on.
    pub(super) async fn at(target: Option<HealthTarget>) -> io::Result<Self> {
        let (verdict, published) = watch::channel(Err("no process is ready".to_owned()));
        let mut file = None;
        match target {
            Some(HealthTarget::Address(address)) => {
                let listener = TcpListener::bind(&address).await.map_err(|error| {
                    io::Error::new(error.kind(), format!("--health cannot listen on {address}: {error}"))
                })?;
                tokio::spawn(server::serve(listener, published));
            }
            Some(HealthTarget::File(path)) => file = Some(path),
            None => {}
        }
        let mut health = Self { verdict, file, written_at: None };
        health.remove_file();
        Ok(health)
    }

    /// Publishes the state.
    pub(super) fn publish(&mut self, verdict: HealthVerdict, now: Instant) {
        let changed = self.verdict.send_if_modified(|published| {
            let changed = *published != verdict;
            *published = verdict;
            changed
        });
        if self.file.is_none() || !(changed || self.written_at.is_none_or(|at| now - at >= WRITE_EVERY)) {
            return;
        }
        self.written_at = Some(now);
        let is_well = self.verdict.borrow().is_ok();
        if !is_well {
            self.remove_file();
        } else if let Err(error) = self.write_file() {
            let file = self.file.as_deref().map(|path| path.display().to_string());
            tracing::warn!(%error, file, "the health file cannot be written");
        }
    }

    /// Returns the state that was published last.
    pub(super) fn verdict(&self) -> HealthVerdict {
        self.verdict.borrow().clone()
    }

    /// Writes the file, under another name first: a reader sees all of it or nothing.
    fn write_file(&self) -> io::Result<()> {
        let Some(path) = &self.file else { return Ok(()) };
        // Nobody can have put a link, or a file of their own, where they do not know that it will be.
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{:016x}.new", RandomState::new().build_hasher().finish()));
        let beside = PathBuf::from(beside);
        let body = body(&self.verdict.borrow()) + "\n";
        let written = state_dir::create(&beside).and_then(|mut file| file.write_all(body.as_bytes()));
        let moved = written.and_then(|()| std::fs::rename(&beside, path));
        if moved.is_err() {
            state_dir::remove(&beside);
        }
        moved
    }

    fn remove_file(&mut self) {
        if let Some(path) = &self.file
            && let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %path.display(), "the health file cannot be removed although not all is well");
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.remove_file();
    }
}

fn body(verdict: &HealthVerdict) -> String {
    let pid = std::process::id();
    match verdict {
        Ok(()) => serde_json::json!({"status": "ok", "pid": pid}),
        Err(reason) => serde_json::json!({"status": "failing", "reason": reason, "pid": pid}),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_and_addresses_are_told_apart() {
        let file = |path: &str| HealthTarget::File(path.into());
        let address = |text: &str| HealthTarget::Address(text.to_owned());
        for (text, expected) in [
            ("/run/app/health", file("/run/app/health")),
            ("health", file("health")),
            ("./health:8080", file("./health:8080")),
            (":8080", address("0.0.0.0:8080")),
            ("127.0.0.1:0", address("127.0.0.1:0")),
            ("localhost:8080", address("localhost:8080")),
            ("[::]:8080", address("[::]:8080")),
            ("health:99999", file("health:99999")),
        ] {
            assert_eq!(HealthTarget::of(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn the_file_is_there_while_all_is_well() {
        let path = std::env::temp_dir().join(format!("taskq-health-{}", std::process::id()));
        std::fs::write(&path, "of an earlier one").expect("the temporary folder can be written");
        let mut health = Health::at(Some(HealthTarget::File(path.clone()))).await.expect("nothing to listen at");
        assert!(!path.exists());
        let now = Instant::now();
        health.publish(Ok(()), now);
        assert!(std::fs::read_to_string(&path).expect("it is there").contains("\"ok\""));
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        health.publish(Err("it is tired".into()), now);
        assert!(!path.exists());
        health.publish(Ok(()), now);
        assert!(path.exists());
        drop(health);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_file_is_replaced_and_not_followed() {
        let folder = std::env::temp_dir().join(format!("taskq-health-links-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        let (path, outside) = (folder.join("health"), folder.join("outside"));
        std::fs::write(&outside, "as it was").expect("the folder can be written");
        let mut health = Health::at(Some(HealthTarget::File(path.clone()))).await.expect("nothing to listen at");
        for link in ["health", "health.new"] {
            std::os::unix::fs::symlink(&outside, folder.join(link)).expect("the folder can be written");
        }
        health.publish(Ok(()), Instant::now());
        assert_eq!(std::fs::read_to_string(&outside).expect("it is there"), "as it was");
        assert!(path.symlink_metadata().expect("it is there").is_file());
        assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 3, "nothing is left beside it");
        drop(health);
        std::fs::remove_dir_all(&folder).expect("it is there");
    }
}
