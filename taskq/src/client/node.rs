//! Names of nodes: the senders of messages and the workers that run them.

use crate::hash::fnv1a;

/// The longest name of a machine in bytes, which is also Linux's. It becomes part of the names of queues, files and
/// keys, which have limits of their own.
const HOST_BYTES_MAX: usize = 64;

/// The part of a longer name that is kept; a hash of the whole takes the rest.
const HOST_BYTES_KEPT: usize = HOST_BYTES_MAX - "~0123456789abcdef".len();

/// Returns this machine's name, for node names.
pub fn host_name() -> String {
    let variable = |name: &str| std::env::var_os(name)?.into_string().ok();
    let named = variable("HOSTNAME").map(|name| fitting(&name)).filter(|name| !name.is_empty());
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| fitting(&name));
    let windows = || variable("COMPUTERNAME").map(|name| fitting(&name));
    named.or_else(kernel).or_else(windows).unwrap_or_else(|| "localhost".to_owned())
}

/// Returns the node name of a client in this process: `gen<pid>@<host>`, as Celery's clients have it.
pub(super) fn client_name() -> String {
    format!("gen{}@{}", std::process::id(), host_name())
}

/// Returns the name without spaces around it, with `-` for other spaces and control characters. A name that is too long
/// is cut, and ends in a hash by which it differs from others of the same beginning.
fn fitting(name: &str) -> String {
    let is_odd = |sign: char| sign.is_control() || sign.is_whitespace();
    let name = name.trim_matches(is_odd).replace(is_odd, "-");
    if name.len() <= HOST_BYTES_MAX {
        return name;
    }
    let kept = &name[..name.floor_char_boundary(HOST_BYTES_KEPT)];
    format!("{kept}~{:016x}", fnv1a(name.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_machines_are_short_and_plain() {
        for (name, expected) in [
            ("web-1", "web-1"),
            ("web-1.example.org\n", "web-1.example.org"),
            (" my laptop\u{7}", "my-laptop"),
            ("", ""),
            (" \n", ""),
            (&"h".repeat(64), &"h".repeat(64)),
        ] {
            assert_eq!(fitting(name), expected, "{name:?}");
        }
        let (one, two) = (fitting(&("ü".repeat(200) + "1")), fitting(&("ü".repeat(200) + "2")));
        assert!(one.starts_with("üü") && one.len() <= HOST_BYTES_MAX && two.len() <= HOST_BYTES_MAX, "{one}");
        assert_ne!(one, two);
    }
}
