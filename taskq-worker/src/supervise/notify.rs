//! Notifications to systemd, over the socket that it names: ready, reloading, stopping, alive.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::Instant;

use super::unix;

/// The environment variables that are for this process only; children do not inherit them.
pub(super) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The connection to systemd, if systemd started this process.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<UnixDatagram>,
    /// The interval within which systemd expects to hear that the worker is alive.
    watchdog: Option<Duration>,
    fed_at: Option<Instant>,
}

impl Notify {
    /// Connects as the environment says. If that fails, it is logged once, and the worker runs without.
    pub(super) fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let socket = std::env::var_os(VARIABLES[0]).filter(|name| !name.is_empty()).and_then(|name| {
            let connected = connect(name.as_bytes());
            connected.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used")).ok()
        });
        let watchdog = watchdog(variable(VARIABLES[1]).as_deref(), variable(VARIABLES[2]).as_deref());
        Self { watchdog: socket.as_ref().and(watchdog), socket, fed_at: None }
    }

    /// Reports that the worker is up, or that a reload is over.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that a reload begins.
    pub(super) fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", unix::monotonic_us()));
    }

    /// Reports that the worker is stopping.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Reports a status line for `systemctl status`.
    pub(super) fn status(&self, status: &str) {
        // Behind the end of a line there would be another message, such as the id of another main process.
        let status: String = status.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
        self.send(&format!("STATUS={status}"));
    }

    /// Reports that the worker is alive, twice in each interval of the watchdog.
    pub(super) fn alive(&mut self, now: Instant) {
        let Some(every) = self.watchdog else { return };
        if self.fed_at.is_none_or(|at| now - at >= every / 2) {
            self.fed_at = Some(now);
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, text, "a notification could not be sent to NOTIFY_SOCKET");
        }
    }
}

/// Connects to a socket by its path, or by an abstract name that begins with `@`.
fn connect(name: &[u8]) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A reader that does not read must not stop the worker.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address(name)?)?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))
}

/// Returns the interval of `WATCHDOG_USEC`, unless `WATCHDOG_PID` names another process.
fn watchdog(us: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let us = us?.parse().ok().filter(|us| is_ours && *us > 0)?;
    Some(Duration::from_micros(us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_of_another_process_is_left_alone() {
        let mine = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some(&mine)), second);
        assert_eq!(watchdog(Some("1000000"), Some("1")), None);
        assert_eq!(watchdog(Some("0"), None), None);
        assert_eq!(watchdog(Some("soon"), None), None);
        assert_eq!(watchdog(None, None), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_that_is_no_file_is_reached() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("taskq-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("it is a good name");
        let systemd = UnixDatagram::bind_addr(&address).expect("it is free");
        let socket = connect(format!("@{name}").as_bytes()).expect("somebody is there");
        let mut notify = Notify { socket: Some(socket), watchdog: Some(Duration::from_secs(10)), fed_at: None };
        let now = Instant::now();
        notify.ready();
        for seconds in [0, 1, 4, 5, 6] {
            notify.alive(now + Duration::from_secs(seconds));
        }
        notify.status("task a\nMAINPID=1 waits");
        notify.stopping();
        let heard = [(); 5].map(|()| {
            let mut word = [0; 100];
            let length = systemd.recv(&mut word).expect("it was said");
            String::from_utf8_lossy(&word[..length]).into_owned()
        });
        assert_eq!(heard, ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STATUS=task a MAINPID=1 waits", "STOPPING=1"]);
    }
}
