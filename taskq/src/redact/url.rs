//! URLs as they may be shown to people: scheme, hosts, ports and paths, and of the rest only what cannot be a secret.
//!
//! Takes any text, since a URL with a mistake may be the reason for showing it, and hides too much when in doubt. A
//! password may hold any character, written as it is; a user without a password may be a token; a text that has no
//! scheme may be nothing but a password.

use super::HIDDEN;

/// The schemes that are known, and so tell where another URL of a list begins.
const SCHEMES: [&str; 11] = [
    "amqp",
    "amqps",
    "redis",
    "rediss",
    "redis+unix",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "sentinel",
    "sqlite",
    "memory",
];

/// The longest scheme that is shown.
const SCHEME_BYTES_MAX: usize = 20;

/// The parameters whose values are shown. Names of secrets (`pass`, `token`, `sig`, `auth`, …) cannot all be known.
const SHOWN_PARAMETERS: [&str; 21] = [
    "auth_mechanism",
    "cacertfile",
    "certfile",
    "channel_max",
    "connection_timeout",
    "db",
    "frame_max",
    "heartbeat",
    "keyfile",
    "locale",
    "protocol",
    "server_name_indication",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
    "ssl_server_hostname",
    "synchronous",
    "timeout",
    "verify",
];

/// Returns a URL, or a list of URLs separated by `;` or `,`, as it may be shown.
pub(crate) fn url(text: &str) -> String {
    // Spaces and line breaks around it are a frequent mistake, which has to be seen.
    let is_blank = |letter: char| letter.is_whitespace() || letter.is_control();
    let list = text.trim_matches(is_blank);
    let Some((before, after)) = text.split_once(list).filter(|_| !list.is_empty()) else { return text.to_owned() };
    let mut shown = before.to_owned();
    let mut end = 0;
    for part in self::list(list) {
        if end > 0 {
            shown.push_str(&list[end..=end]);
            end += 1;
        }
        shown.push_str(&single(part));
        end += part.len();
    }
    format!("{shown}{after}")
}

/// Returns the URLs of a list, with the spaces around them; all of the text if it is one URL. At least one.
pub(crate) fn list(text: &str) -> Vec<&str> {
    let (mut urls, mut rest) = (Vec::new(), text);
    while let Some(end) = first_of_list(rest) {
        urls.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    urls.push(rest);
    urls
}

/// Returns the fault in a URL that is a list of URLs; `None` if it is one URL.
pub(crate) fn several(text: &str) -> Option<String> {
    first_of_list(text).map(|_| "it is a list, and one address is understood; write that of one server".to_owned())
}

/// Returns the value of any setting as it may be shown: a value that looks like a URL as one.
pub fn given(text: &str) -> String {
    if text.contains("://") || text.contains('@') { url(text) } else { text.to_owned() }
}

/// Returns the scheme of a URL; `None` if there is none, or if it may be anything else.
fn scheme(url: &str) -> Option<&str> {
    let of_authority = url.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| is_scheme(scheme));
    of_authority.or_else(|| url.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| SCHEMES.contains(scheme)))
}

fn is_scheme(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.len() <= SCHEME_BYTES_MAX
        && text.chars().all(fits)
}

/// Returns the fault in a URL whose scheme is not known.
pub(crate) fn unknown_scheme(url: &str) -> String {
    match scheme(url) {
        Some(scheme) => format!("the scheme {scheme:?} is not known"),
        None => "it begins with no scheme".to_owned(),
    }
}

/// Returns the end of the first URL of a list; `None` if there is no other one.
fn first_of_list(text: &str) -> Option<usize> {
    let begins_another = |(end, _): &(usize, &str)| {
        let next = text[end + 1..].trim_start();
        next.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
    };
    text.match_indices([';', ',']).find(begins_another).map(|(end, _)| end)
}

fn single(text: &str) -> String {
    let url = text.trim_start();
    let space = &text[..text.len() - url.len()];
    let shown = match scheme(url) {
        _ if is_path(url) => match url.split_once('?') {
            Some((path, query)) => format!("{path}?{}", parameters(query)),
            None => url.to_owned(),
        },
        Some(scheme) => match url[scheme.len()..].strip_prefix("://") {
            Some(rest) => format!("{scheme}://{}", with_authority(rest).unwrap_or_else(|| HIDDEN.to_owned())),
            None => format!("{scheme}:{HIDDEN}"),
        },
        None => HIDDEN.to_owned(),
    };
    format!("{space}{shown}")
}

/// Returns whether the URL names a file or a name in this process, and nothing else; an `@` in a path is no secret.
fn is_path(url: &str) -> bool {
    let path = url.strip_prefix("sqlite:").or_else(|| url.strip_prefix("memory:"));
    path.is_some_and(|path| !path.contains("://") && (path.starts_with("///") || !path.starts_with("//")))
}

/// Returns what follows the `://` of a URL, as it may be shown; `None` if it is not sure where its secrets end.
fn with_authority(text: &str) -> Option<String> {
    let path_from = |text: &str| text.find(['/', '?', '#']).unwrap_or(text.len());
    let authority = &text[..path_from(text)];
    let (user, place) = match text.rfind('@') {
        // Either the password holds a `/`, or something in the path or the query holds an `@`.
        Some(at) if at > authority.len() && (authority.is_empty() || ends_in_hosts(authority)) => return None,
        // The host has a mistake, and the `@` is that of a parameter.
        Some(at) if text[..at].split_once('?').is_some_and(|(_, query)| query.contains('=')) => return None,
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    };
    let (hosts, path) = place.split_at(path_from(place));
    let is_absent = hosts.is_empty() && user.is_none();
    (is_absent || are_hosts(hosts)).then(|| {
        let user = user.map_or_else(String::new, |user| format!("{}@", user_info(user)));
        format!("{user}{hosts}{}", path_and_query(path))
    })
}

/// Returns the user with the password hidden; all of it is hidden if there is no password, since it may be one then.
fn user_info(text: &str) -> String {
    match text.split_once(':') {
        Some((user, password)) if !password.is_empty() && is_plain(user) => format!("{user}:{HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

fn ends_in_hosts(authority: &str) -> bool {
    are_hosts(authority.rsplit('@').next().unwrap_or_default())
}

/// Returns whether the text is a host with an optional port, or a list of those.
fn are_hosts(text: &str) -> bool {
    text.split([',', ';']).all(|host| {
        let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, port)) => (address.replace(':', ""), port),
            None => {
                let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
                (name.to_owned(), port)
            }
        };
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        !name.is_empty() && is_plain(&name) && is_port
    })
}

/// Returns whether the text has letters and digits only, and the signs that names have.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_alphanumeric() || "-_.%+".contains(letter))
}

fn path_and_query(text: &str) -> String {
    let (text, fragment) = text.split_once('#').map_or((text, None), |(text, rest)| (text, Some(rest)));
    let fragment = fragment.map_or_else(String::new, |_| format!("#{HIDDEN}"));
    match text.split_once('?') {
        Some((path, query)) => format!("{path}?{}{fragment}", parameters(query)),
        None => format!("{text}{fragment}"),
    }
}

/// Returns a query.
fn parameters(query: &str) -> String {
    query.split('&').map(parameter).collect::<Vec<_>>().join("&")
}

/// Returns one `key=value` of a query.
fn parameter(text: &str) -> String {
    match text.split_once('=') {
        _ if text.is_empty() => String::new(),
        Some((key, value)) if SHOWN_PARAMETERS.contains(&key) && value.split('/').all(is_plain) => text.to_owned(),
        Some((key, _)) if is_plain(key) => format!("{key}={HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HIDDEN, given, scheme, url};

    #[test]
    fn secrets_are_hidden_and_what_helps_is_shown() {
        for (text, shown) in [
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://:secret@localhost:6379/0", "redis://:***@localhost:6379/0"),
            ("redis://anna:secret@localhost", "redis://anna:***@localhost"),
            ("amqp://anna:secret@[::1]:5672/%2f?heartbeat=5", "amqp://anna:***@[::1]:5672/%2f?heartbeat=5"),
            ("amqp://u:secret@host:5672/prod", "amqp://u:***@host:5672/prod"),
            // A user without a password may be a token.
            ("amqp://secret@host/%2f", "amqp://***@host/%2f"),
            ("redis://secret:@host", "redis://***@host"),
            ("amqp://sec ret:x@host", "amqp://***@host"),
            // No host, or none that can be one.
            ("amqp://guest:secret", "amqp://***"),
            ("amqp://guest:secret@", "amqp://***"),
            ("amqp://guest:secret@host:port/", "amqp://***"),
            ("amqp://:secret@/v", "amqp://***"),
            ("amqp://h1:5672;guest:secret", "amqp://***"),
            // Characters that should have been escaped and were not.
            ("redis://:sec@ret@host/0", "redis://:***@host/0"),
            ("redis://:sec/ret?x#y@host/0", "redis://:***@host/0"),
            ("redis://:sec:ret@host", "redis://:***@host"),
            ("redis://:sécrèt@hôst", "redis://:***@hôst"),
            ("redis://sec/ret@host", "redis://***"),
            ("redis://:sec@re/t@host", "redis://***"),
            ("redis+unix:///run/sec@ret", "redis+unix://***"),
            // In the query, and behind it.
            ("redis://host/0?password=secret", "redis://host/0?password=***"),
            ("redis://host/0?sig=secret&db=1&secret", "redis://host/0?sig=***&db=1&***"),
            (
                "amqps://u:secret@h/v?certfile=/c/d.pem&password=secret",
                "amqps://u:***@h/v?certfile=/c/d.pem&password=***",
            ),
            (
                "rediss://:secret@h/0?ssl_ca_certs=%2Fca&ssl_password=secret",
                "rediss://:***@h/0?ssl_ca_certs=%2Fca&ssl_password=***",
            ),
            ("redis+unix:///run/redis.sock?db=1&Password=secret", "redis+unix:///run/redis.sock?db=1&Password=***"),
            ("redis://host/0?db=1;password=secret", "redis://host/0?db=***"),
            ("redis://host/0?password=sec@ret", "redis://***"),
            ("redis://ho st/0?password=se@cret", "redis://***"),
            ("amqp://[::1:5672/prod?password=s@ecret", "amqp://***"),
            ("redis://host/0?password=sec?ret", "redis://host/0?password=***"),
            ("redis://host/0?password=sec#ret", "redis://host/0?password=***#***"),
            // Lists.
            ("amqp://u:secret@h1;amqp://secret@h2/v", "amqp://u:***@h1;amqp://***@h2/v"),
            ("redis://:secret@h1, redis://:secret@h2", "redis://:***@h1, redis://:***@h2"),
            ("redis://:secret@h1:6379,h2:6379/0", "redis://:***@h1:6379,h2:6379/0"),
            ("amqp://u:secret@h1,u:secret@h2", "amqp://u:***@h2"),
            ("amqp://u:secret@h1/v;u:secret@h2/v", "amqp://***"),
            ("sqlite:a.db;amqp://u:secret@h", "sqlite:a.db;amqp://u:***@h"),
            ("redis+sentinel://:secret@h1,h2:26379/main/0", "redis+sentinel://:***@h1,h2:26379/main/0"),
            ("redis+sentinel://u:secret@h1,u:secret@h2/main", "redis+sentinel://u:***@h2/main"),
            ("redis+sentinel://h1/main/0?sentinel_password=secret", "redis+sentinel://h1/main/0?sentinel_password=***"),
            ("sentinel://:secret@h1:1;sentinel://:secret@h2:1", "sentinel://:***@h1:1;sentinel://:***@h2:1"),
            // Mistakes around it are seen.
            (" redis://u:secret@h\n", " redis://u:***@h\n"),
            // Not URLs.
            ("", ""),
            ("@", "***"),
            ("://", "***"),
            ("secret", "***"),
            ("secret://host", "secret://host"),
            ("anna:secret@amqp://host", "***"),
            ("anna:secret@host", "***"),
            ("redis:anna:secret@host", "redis:***"),
            ("amqp:/u:secret@host", "amqp:***"),
            ("localhost:6379", "***"),
            ("sqlite:/srv/a:b@c/taskq.db", "sqlite:/srv/a:b@c/taskq.db"),
            ("sqlite:///srv/a@b.db", "sqlite:///srv/a@b.db"),
            ("sqlite://u:secret@host/x", "sqlite://u:***@host/x"),
            ("sqlite:a.db?synchronous=full&key=secret", "sqlite:a.db?synchronous=full&key=***"),
            ("memory:name", "memory:name"),
        ] {
            assert_eq!(url(text), shown, "{text:?}");
        }
    }

    #[test]
    fn values_of_other_settings_are_shown_unless_they_look_like_urls() {
        for (text, shown) in [("soon", "soon"), ("amqp://u:secret@h", "amqp://u:***@h"), ("u:secret@h", "***")] {
            assert_eq!(given(text), shown);
        }
    }

    #[test]
    fn a_scheme_is_told_from_a_secret() {
        for (text, expected) in [
            ("ampq://host", Some("ampq")),
            ("amqp:host", Some("amqp")),
            ("secret", None),
            ("secret:x", None),
            ("u:secret@x://h", None),
            ("a-secret-of-more-than-twenty-letters://h", None),
        ] {
            assert_eq!(scheme(text), expected, "{text}");
        }
    }

    /// A secret without a character that has a meaning in URLs, and not to be confused with what is shown beside it.
    fn secret() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["[A-Za-z0-9]", "[-_.~!$'()*+%^|<> äß€]"], 3..40)
            .prop_map(|letters| format!("S{}3", letters.concat()))
    }

    proptest! {
        #[test]
        fn no_secret_is_shown_wherever_it_stands(secret in secret(), end in "[@/?#:&;,=]{0,3}") {
            // Before a `:` it would be a user with a password.
            let tail = end.replace(':', "");
            for text in [
                format!("amqp://{secret}@host"),
                format!("amqp://{secret}{tail}@host"),
                format!("amqp://guest:{secret}"),
                format!("amqp://guest:{secret}@"),
                format!("amqp://guest:{secret}@host:5672/v"),
                format!("amqp://guest:{secret}{end}@host:5672/v"),
                format!("amqp://guest:{end}{secret}@host:5672/v"),
                format!("redis://:{secret}@host/0"),
                format!("redis://{secret}:@host/0"),
                format!("redis://host/0?password={secret}"),
                format!("redis://host/0?db=1&x={secret}{end}"),
                format!("redis://host/0?{secret}"),
                format!("redis://host/0#{secret}"),
                format!("amqp://a:{secret}@h1;amqp://{secret}@h2,redis://:{secret}@h3"),
                format!("amqp://h1:5672,guest:{secret}"),
                format!("amqp:{secret}@host"),
                format!("guest:{secret}@host"),
                secret.clone(),
                format!(" amqp://{secret}@host\n"),
            ] {
                let shown = url(&text);
                prop_assert!(!shown.contains(&secret), "{text:?}: {shown:?}");
            }
        }

        #[test]
        fn any_text_can_be_shown(text in ".*") {
            let shown = url(&text);
            prop_assert!(shown == text || shown.contains(HIDDEN), "{text:?}: {shown:?}");
        }

        #[test]
        fn hosts_and_virtual_hosts_are_shown(host in "[a-z][a-z0-9.-]{0,20}", port in 1u16.., vhost in "[a-z]{0,8}") {
            let shown = url(&format!("amqp://anna:secret@{host}:{port}/{vhost}"));
            prop_assert_eq!(shown, format!("amqp://anna:***@{host}:{port}/{vhost}"));
        }
    }
}
