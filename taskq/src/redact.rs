//! Hiding secrets in texts for people.

/// The text in place of a password.
const HIDDEN: &str = "***";

/// Returns `url` as it may be shown to people: the password before `@` and the values of `password=` in the query are
/// hidden.
///
/// Takes any text, since a URL with a mistake may be the reason for showing it. When in doubt it hides too much: a
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

/// Returns one `key=value` of a query, with the value hidden if the key names a password.
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
