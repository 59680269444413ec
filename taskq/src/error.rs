//! What can go wrong for a user of the client.

use std::time::Duration;

use crate::backend::BackendError;
use crate::broker::{BrokerError, PublishError};
use crate::client::ConfigError;
use crate::message::{Failure, TaskId};
use crate::task::RegistryError;

/// What can go wrong with a client, by what it means to the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tasks of this program cannot be run as they are.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The broker could not be reached, or did not do what was asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A message was not accepted; the call will not run, unless it is sent again.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The result backend could not be reached, or did not do what was asked.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Results, progress and unique keys need a place.
    #[error("no result backend is configured; set TASKQ_RESULT_URL=redis://host:6379/0, or `result_url` in taskq.toml")]
    NoResultBackend,
    /// The call was made wrongly.
    #[error("the call of {task} cannot be sent: {mistake}")]
    Call {
        /// The task.
        task: String,
        /// What is wrong and how to mend it.
        mistake: String,
    },
    /// The task did not end in time. It may still; ask again.
    #[error("task {id} has no result after {}", humantime::format_duration(*after))]
    NoResultYet {
        /// The task.
        id: TaskId,
        /// How long was waited.
        after: Duration,
    },
    /// The task failed for good.
    #[error("task {id} failed: {failure}")]
    Failed {
        /// The task.
        id: TaskId,
        /// Why.
        failure: Failure,
    },
    /// The task was cancelled, or expired.
    #[error("task {id} was revoked: {failure}")]
    Revoked {
        /// The task.
        id: TaskId,
        /// Why.
        failure: Failure,
    },
    /// The result is not of the type that was asked for.
    #[error("the result of task {id} is no {expected}: {source}")]
    ResultType {
        /// The task.
        id: TaskId,
        /// The type that was asked for.
        expected: &'static str,
        /// What the decoder says.
        source: serde_json::Error,
    },
    /// There is nothing of that id in the dead set.
    #[error("the dead set has no task {id}")]
    NotDead {
        /// The task.
        id: TaskId,
    },
}

/// What stands where a password was.
const HIDDEN: &str = "***";

/// `url` as it may be shown to people: the password before `@` and the values of `password=` in the query are hidden.
///
/// It takes any text, since what it is given may be the very thing that is wrong. When in doubt it hides too much: a
/// password may hold any character, written as it is, so everything up to the last `@` counts as user and password.
pub(crate) fn without_password(url: &str) -> String {
    // These name files and nothing else; an `@` in a path is no secret.
    if url.starts_with("sqlite:") || url.starts_with("memory:") {
        return url.to_owned();
    }
    let start = url.find("://").map_or(0, |at| at + "://".len());
    let mut shown = url.to_owned();
    if let Some(at) = url[start..].rfind('@').map(|at| at + start)
        && let Some(colon) = url[start..at].find(':').map(|colon| colon + start)
    {
        shown.replace_range(colon + 1..at, HIDDEN);
    }
    match shown.split_once('?') {
        Some((before, query)) => {
            let query: Vec<String> = query.split('&').map(without_secret).collect();
            format!("{before}?{}", query.join("&"))
        }
        None => shown,
    }
}

/// One `key=value` of a query, the value hidden if the key speaks of a password.
fn without_secret(pair: &str) -> String {
    match pair.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().contains("pass") => format!("{key}={HIDDEN}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (url, shown) in [
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://:secret@localhost:6379/0", "redis://:***@localhost:6379/0"),
            ("redis://anna:secret@localhost", "redis://anna:***@localhost"),
            ("amqp://anna@localhost/%2f", "amqp://anna@localhost/%2f"),
            ("amqp://anna:secret@[::1]:5672/%2f?heartbeat=5", "amqp://anna:***@[::1]:5672/%2f?heartbeat=5"),
            // Characters that should have been escaped and were not.
            ("redis://:sec@ret@host/0", "redis://:***@host/0"),
            ("redis://:sec/ret?x#y@host/0", "redis://:***@host/0"),
            ("redis://:sec:ret@host", "redis://:***@host"),
            ("redis://:sécrèt@hôst", "redis://:***@hôst"),
            // In the query.
            ("redis://host/0?password=secret", "redis://host/0?password=***"),
            (
                "redis+unix:///run/redis.sock?db=1&Password=secret&x=1",
                "redis+unix:///run/redis.sock?db=1&Password=***&x=1",
            ),
            ("redis://host/0?password=sec@ret", "redis://host/0?password=***"),
            ("redis://host/0?password=sec?ret", "redis://host/0?password=***"),
            // Not URLs.
            ("", ""),
            ("@", "@"),
            (":@", ":***@"),
            ("://", "://"),
            ("://:@?", "://:***@?"),
            ("anna:secret@host", "anna:***@host"),
            ("redis:anna:secret@host", "redis:***@host"),
            ("localhost:6379", "localhost:6379"),
            ("sqlite:/srv/a:b@c/taskq.db", "sqlite:/srv/a:b@c/taskq.db"),
            ("memory:name", "memory:name"),
        ] {
            assert_eq!(without_password(url), shown, "{url:?}");
        }
    }
}
