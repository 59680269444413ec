//! Names of nodes: the senders of messages and the workers that run them.

/// Returns this machine's name, for node names.
pub fn host_name() -> String {
    let named = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let windows = || std::env::var("COMPUTERNAME").ok();
    named.or_else(kernel).or_else(windows).unwrap_or_else(|| "localhost".to_owned())
}

/// Returns the node name of a client in this process: `gen<pid>@<host>`, as Celery's clients have it.
pub(super) fn client_name() -> String {
    format!("gen{}@{}", std::process::id(), host_name())
}
