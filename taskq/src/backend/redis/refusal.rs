//! Error texts of the Redis backend: the meaning of a connection error, with its remedy, and the operation that
//! failed. Pure.

use redis::{ErrorKind, RedisError};

use crate::backend::BackendError;
use crate::fault::BoxError;
use crate::redact;
use crate::shortage;

/// The error for a URL that cannot be parsed.
pub(super) fn of_url(url: &str, error: &RedisError) -> BackendError {
    let why = if url.starts_with("rediss:") {
        "TLS is not built into this program; write redis:// and let a tunnel encrypt".to_owned()
    } else {
        // Only the description is shown: the detail might repeat a part of the URL.
        let description = error.to_string();
        let description = description.split(" - ").next().unwrap_or_default().to_ascii_lowercase();
        format!(
            "{description}; write redis://user:password@host:6379/0 (a password with special characters \
             percent-encoded), or redis+unix:///path/to/socket?db=0"
        )
    };
    BackendError::Url { url: redact::url(url), why }
}

/// The error for a server at `url` (as it is shown) that does not answer, or refuses the connection.
pub(super) fn of_server(url: &str, error: &RedisError) -> BackendError {
    let url = url.to_owned();
    let error = &first(error);
    let detail = error.detail().unwrap_or_default();
    let refused = |why: &str| BackendError::Refused { url: url.clone(), why: why.to_owned() };
    let unreachable = |why: String| BackendError::Unreachable { url: url.clone(), why };
    match error.code() {
        Some("NOAUTH") => return refused(PASSWORD_WANTED),
        Some("WRONGPASS") => return refused(PASSWORD_WRONG),
        Some("NOPERM") => {
            return refused(&format!("the user may not do what is needed ({detail}); see ACL SETUSER"));
        }
        Some("DENIED") => {
            return refused("it is in protected mode; set a password (requirepass) or bind it to this network");
        }
        Some("LOADING") => return unreachable("it is still loading its data; try again in a moment".to_owned()),
        _ => {}
    }
    // A refused SELECT keeps the server's text, not its code.
    if detail.contains("uthentication required") {
        return refused(PASSWORD_WANTED);
    }
    if detail.contains("DB index is out of range") || detail.contains("invalid DB index") {
        return refused("it has no such database; write a smaller number at the end of the URL (most have 0 to 15)");
    }
    if detail.contains("cluster mode") {
        return refused("it is a cluster, which has database 0 only and is not supported; name a single server");
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => refused(PASSWORD_WRONG),
        ErrorKind::Parse => unreachable("what answers there is not Redis; check host and port".to_owned()),
        _ if shortage::is_cause_of(error) => unreachable(format!("{error}; {}", shortage::REMEDY)),
        _ if error.is_connection_refusal() => {
            unreachable("the connection was refused; start redis-server, or check host and port".to_owned())
        }
        _ if error.is_timeout() => unreachable("no answer in time; check host, port and firewall".to_owned()),
        _ if error.is_io_error() => unreachable(format!("{error}; check host and port")),
        _ => refused(&error.to_string()),
    }
}

/// The first error of a pipeline. If the connection is refused, all its commands are, for the same reason.
fn first(error: &RedisError) -> RedisError {
    let refusals = error.clone().into_server_errors();
    let first = refusals.and_then(|refusals| refusals.first().map(|(_, refusal)| refusal.clone()));
    first.map_or_else(|| error.clone(), RedisError::from)
}

const PASSWORD_WANTED: &str =
    "it wants a password; write redis://:password@host:6379/0, or redis://user:password@host:6379/0";
const PASSWORD_WRONG: &str = "the user or the password is wrong (special characters in a URL are percent-encoded)";

/// Returns a function that wraps a cause into an error which names the operation that failed.
pub(super) fn failed(what: impl FnOnce() -> String) -> impl FnOnce(BoxError) -> BackendError {
    move |source| BackendError::Failed { what: what(), source }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ServerErrorKind;

    use super::*;

    #[test]
    fn each_error_has_its_remedy() {
        let select = |detail: &str| {
            let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
            RedisError::from((kind, "Redis server refused to switch database", detail.to_owned()))
        };
        for (error, text) in [
            (RedisError::from((ErrorKind::AuthenticationFailed, "no")), "refused the connection: the user or"),
            (select("Authentication required."), "refused the connection: it wants a password"),
            (select("DB index is out of range"), "refused the connection: it has no such database"),
            (select("SELECT is not allowed in cluster mode"), "refused the connection: it is a cluster"),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), "answers at redis://host: the connection was"),
            (io::Error::from(io::ErrorKind::TimedOut).into(), "answers at redis://host: no answer in time"),
            (io::Error::from_raw_os_error(24).into(), "raise the limit of open files (`ulimit -n`"),
            (RedisError::from((ErrorKind::Parse, "odd")), "answers at redis://host: what answers there is not"),
        ] {
            let shown = of_server("redis://host", &error).to_string();
            assert!(shown.contains(text), "{shown}");
        }
    }

    #[test]
    fn no_url_shows_its_password() {
        for url in [
            "redis://:secret@host/abc",
            "redis://:secret@",
            "redis://:secret@host:99999/0",
            "redis://:secret@[/0",
            "rediss://:secret@host/0",
            "redis+unix://:secret@?pass=secret&db=one",
            "redis:secret@",
        ] {
            let Err(error) = redis::Client::open(url) else { continue };
            let refusal = of_url(url, &error);
            assert!(!format!("{refusal} {refusal:?}").contains("secret"), "{refusal:?}");
            assert!(matches!(refusal, BackendError::Url { .. }));
        }
    }
}
