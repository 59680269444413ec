//! Error texts of the Redis backend: the meaning of a connection error, with its remedy, and the operation that
//! failed. Pure.

use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

use crate::backend::BackendError;
use crate::fault::BoxError;
use crate::redact;
use crate::shortage;
use crate::tls::TlsFault;

/// The reason why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum DialError {
    /// The network or the server is at fault.
    #[error(transparent)]
    Server(#[from] RedisError),
    /// A server answers and cannot be used; with the remedy.
    #[error("{0}")]
    Unfit(String),
    /// No server that can be used is known at the moment; with the remedy.
    #[error("{0}")]
    Nowhere(String),
}

/// No answer came within the timeout.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("there is no connection to {url}")]
    Away {
        url: Arc<str>,
        #[source]
        source: Option<DialError>,
    },
    #[error("{url} did not answer within {timeout:?}")]
    Silent { url: Arc<str>, timeout: Duration },
}

/// The error for a URL that cannot be parsed.
pub(super) fn of_url(url: &str, error: &DialError) -> BackendError {
    let why = if let DialError::Unfit(why) = error {
        why.clone()
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
pub(super) fn of_server(url: &str, error: &DialError) -> BackendError {
    let url = url.to_owned();
    let error = match error {
        DialError::Server(error) => error,
        DialError::Unfit(why) => return BackendError::Refused { url, why: why.clone() },
        DialError::Nowhere(why) => return BackendError::Unreachable { url, why: why.clone() },
    };
    let error = &first(error);
    let detail = error.detail().unwrap_or_default();
    let refused = |why: &str| BackendError::Refused { url: url.clone(), why: why.to_owned() };
    let unreachable = |why: String| BackendError::Unreachable { url: url.clone(), why };
    if let Some(fault) = TlsFault::in_error(error) {
        return unreachable(fault.to_string());
    }
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
        _ if error.is_connection_dropped() => {
            unreachable("it hangs up; check host and port, and write rediss:// if that port speaks TLS".to_owned())
        }
        _ if error.is_io_error() => unreachable(format!("{error}; check host and port")),
        _ => refused(&error.to_string()),
    }
}

/// The error for a Sentinel, in the form in which it is shown, that does not answer the question for the primary.
pub(super) fn of_sentinel(shown: &str, error: &DialError) -> DialError {
    let DialError::Server(error) = error else { return error.clone() };
    match error.code() {
        Some("NOAUTH") => {
            let why = format!("the Sentinel {shown} wants a password; append ?sentinel_password=… to the URL");
            return DialError::Unfit(why);
        }
        Some("ERR") => {
            let why = format!("what answers at {shown} is not a Sentinel; check its port, which is mostly 26379");
            return DialError::Unfit(why);
        }
        _ => {}
    }
    match of_server(shown, &DialError::Server(error.clone())) {
        BackendError::Unreachable { why, .. } => DialError::Nowhere(format!("the Sentinel {shown}: {why}")),
        BackendError::Refused { why, .. } => DialError::Unfit(format!("the Sentinel {shown}: {why}")),
        other => DialError::Nowhere(format!("the Sentinel {shown}: {other}")),
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
    move |source| {
        let what = what();
        if source.is::<NoAnswer>() {
            BackendError::Away { what, source }
        } else {
            BackendError::Failed { what, source }
        }
    }
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
            (io::Error::from(io::ErrorKind::UnexpectedEof).into(), "answers at redis://host: it hangs up"),
            (io::Error::from(TlsFault("no TLS".to_owned())).into(), "answers at redis://host: no TLS"),
            (RedisError::from((ErrorKind::Parse, "odd")), "answers at redis://host: what answers there is not"),
        ] {
            let shown = of_server("redis://host", &error.into()).to_string();
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
            "redis+sentinel://:secret@h1,h2/my master/0",
            "redis+sentinel://h1,h2/main/0?password=secret",
            "sentinel://:secret@h1",
        ] {
            let Err(error) = super::super::route::Route::new(url, None) else { continue };
            let refusal = of_url(url, &error);
            assert!(!format!("{refusal} {refusal:?}").contains("secret"), "{refusal:?}");
            assert!(matches!(refusal, BackendError::Url { .. }));
        }
    }
}
