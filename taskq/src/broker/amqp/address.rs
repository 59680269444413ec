//! The URLs of a broker, and connection errors with their remedies.

use std::sync::Arc;

use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Error, ErrorKind};

use crate::broker::BrokerError;
use crate::redact;
use crate::shortage;
use crate::tls::{self, TlsFault, TlsOptions, Understood};

/// The frame size. lapin allocates 64 frames per connection; with the broker's default of 128 KiB an idle process
/// would take 20 MB.
pub(super) const FRAME_MAX: u32 = 16 << 10;

/// The frame size that brokers allow by default, and so the largest header table that another client may have sent.
pub(super) const FRAME_MAX_WIDE: u32 = 128 << 10;

/// The heartbeat in seconds. A peer that is silent for twice as long is considered dead.
const HEARTBEAT: u16 = 10;

/// The addresses of a broker: those of the nodes of one cluster, or of one server.
#[derive(Clone)]
pub(super) struct Addresses {
    /// At least one.
    pub(super) list: Vec<Arc<Address>>,
    /// The URLs as they may be shown.
    pub(super) shown: String,
}

/// The address of one node, and its form for display.
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    /// The URL as it may be shown.
    pub(super) shown: String,
    /// Whether the user may not be shown either.
    hides_user: bool,
    /// Whether the URL names a `frame_max`.
    frame_max_given: bool,
    /// The options of its connections, if they are encrypted.
    pub(super) tls: Option<TlsOptions>,
}

impl Addresses {
    /// Parses a list of URLs, separated by `;` or `,`. All of them must lead to the same virtual host: otherwise a
    /// message could be sent to one and awaited in another.
    pub(super) fn parse(urls: &str, tls: &TlsOptions) -> Result<Self, BrokerError> {
        let shown = redact::url(urls);
        let list = redact::list(urls).into_iter().map(|url| Address::parse(url, tls)).collect::<Result<Vec<_>, _>>()?;
        let vhost = &list[0].uri.vhost;
        if let Some(other) = list.iter().find(|address| address.uri.vhost != *vhost) {
            let (one, other) = (redact::given(vhost), redact::given(&other.uri.vhost));
            let why = format!(
                "its addresses name different virtual hosts, {one:?} and {other:?}; they must be those of one cluster, \
                 and each must end in the same virtual host"
            );
            return Err(BrokerError::Url { url: shown, why });
        }
        if list.iter().any(|address| address.tls.is_some() != list[0].tls.is_some()) {
            let why =
                "some of its addresses are encrypted by TLS and some are not; write amqps:// for each, or amqp://";
            return Err(BrokerError::Url { url: shown, why: why.to_owned() });
        }
        Ok(Self { list: list.into_iter().map(Arc::new).collect(), shown })
    }

    /// The error for a round in which no place could be connected to; `faults` has one for each, and so at least one.
    /// A refusal says more than that a place is away.
    pub(super) fn refusal(&self, mut faults: Vec<BrokerError>) -> BrokerError {
        let told = faults.iter().position(|fault| matches!(fault, BrokerError::Refused { .. })).unwrap_or_default();
        if faults.len() > 1 && matches!(faults[told], BrokerError::Unreachable { .. }) {
            let causes = faults.iter().map(|fault| match fault {
                BrokerError::Unreachable { why, .. } => why.clone(),
                other => other.to_string(),
            });
            let why = format!("none of {} addresses can be used; {}", faults.len(), distinct(causes).join("; "));
            return BrokerError::Unreachable { url: self.shown.clone(), why };
        }
        faults.swap_remove(told)
    }
}

/// The texts, each once, in their order.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

impl Address {
    /// Parses `amqp://user:password@host:port/vhost?heartbeat=…&frame_max=…`, or `amqps://` with parameters of TLS.
    fn parse(url: &str, tls: &TlsOptions) -> Result<Self, BrokerError> {
        let url = url.trim();
        let shown = redact::url(url);
        let unusable = |why: String| BrokerError::Url { url: shown.clone(), why };
        if !url.starts_with("amqp:") && !url.starts_with("amqps:") {
            let why = "only addresses of RabbitMQ can be written as a list; write amqp://user:password@host:5672/vhost \
                       for each, with `;` between them";
            return Err(unusable(why.to_owned()));
        }
        let Understood { url: plain, tls } = tls::understand(url, tls).map_err(unusable)?;
        let mut uri: AMQPUri = plain.parse().map_err(|why: String| {
            // Behind a colon the parser quotes what it was given.
            let why = why.split(':').next().unwrap_or_default();
            unusable(format!(
                "{why}; write amqp://user:password@host:5672/vhost, special characters as %40 and the like"
            ))
        })?;
        // lapin gets a socket that is encrypted already.
        uri.scheme = AMQPScheme::AMQP;
        if uri.authority.host.contains([',', ';']) {
            let why = "it has several hosts; write each as a URL, as in amqp://user:password@a/vhost;amqp://user:password@b/vhost";
            return Err(unusable(why.to_owned()));
        }
        // The parser only knows host names, and takes `[::1]` for an absent one.
        if let Some(host) = ipv6_host(&plain) {
            host.clone_into(&mut uri.authority.host);
        }
        // To people and to Celery, `amqp://host/` means the default virtual host; the empty name is never meant.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        let hides_user = shown.contains(&format!("//{}", redact::HIDDEN));
        let frame_max_given = uri.query.frame_max.is_some();
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self { uri, shown, hides_user, frame_max_given, tls })
    }

    /// The URI for a connection. `wide`: the connection has to carry larger frames.
    pub(super) fn uri(&self, wide: bool) -> AMQPUri {
        let mut uri = self.uri.clone();
        if wide && !self.frame_max_given {
            uri.query.frame_max = Some(FRAME_MAX_WIDE);
        }
        uri
    }

    /// Host and port, as they were written.
    pub(super) fn host(&self) -> (&str, u16) {
        (&self.uri.authority.host, self.uri.authority.port)
    }

    /// The error for a connection that could not be opened. `None` stands for a timeout.
    pub(super) fn refusal(&self, error: Option<&Error>) -> BrokerError {
        let (url, place) = (self.shown.clone(), format!("{}:{}", self.uri.authority.host, self.uri.authority.port));
        let user = if self.hides_user { redact::HIDDEN } else { &self.uri.authority.userinfo.username };
        match error.map(Error::kind) {
            None => BrokerError::Unreachable {
                url,
                why: format!("{place} takes the connection and says nothing; is it RabbitMQ's AMQP port?"),
            },
            Some(ErrorKind::IOError(cause)) => {
                if let Some(fault) = TlsFault::in_error(&**cause) {
                    return BrokerError::Unreachable { url, why: format!("{place}: {fault}") };
                }
                let remedy = match cause.kind() {
                    _ if shortage::is_cause_of(&**cause) => shortage::REMEDY,
                    std::io::ErrorKind::ConnectionRefused => {
                        "nothing listens there; start RabbitMQ, or correct host and port"
                    }
                    std::io::ErrorKind::ConnectionAborted
                    | std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::UnexpectedEof => "it hangs up; is it RabbitMQ's AMQP port?",
                    _ => "correct host and port, or see whether the machine is up",
                };
                BrokerError::Unreachable { url, why: format!("{place}: {cause}; {remedy}") }
            }
            Some(ErrorKind::ProtocolError(cause)) => {
                let mut text = cause.get_message().to_string();
                if self.hides_user {
                    text = text.replace(&self.uri.authority.userinfo.username, redact::HIDDEN);
                }
                let why = if text.starts_with("ACCESS_REFUSED") {
                    format!(
                        "it does not accept user {user:?} with this password; correct them, or run `rabbitmqctl change_password {user}`"
                    )
                } else if text.starts_with("NOT_ALLOWED") && text.contains("not found") {
                    format!(
                        "it has no virtual host {:?}; correct the end of the URL (the default is /%2f), or run `rabbitmqctl add_vhost`",
                        redact::given(&self.uri.vhost)
                    )
                } else if text.starts_with("NOT_ALLOWED") {
                    let vhost = redact::given(&self.uri.vhost);
                    format!("{text}; run `rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'`")
                } else {
                    text
                };
                BrokerError::Refused { url, why }
            }
            Some(_) => BrokerError::Unreachable {
                url,
                why: format!("{place}: {}; is it RabbitMQ's AMQP port?", error.expect("its kind is there")),
            },
        }
    }
}

fn ipv6_host(url: &str) -> Option<&str> {
    let authority = url.split("://").nth(1)?.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    host.strip_prefix('[')?.split(']').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(url: &str) -> Arc<Address> {
        let addresses = Addresses::parse(url, &TlsOptions::default()).expect(url);
        assert_eq!(addresses.list.len(), 1, "{url}");
        Arc::clone(&addresses.list[0])
    }

    #[test]
    fn lists_are_read_as_celery_writes_them() {
        for (urls, hosts) in [
            ("amqp://u:p@a/v;amqp://u:p@b:5673/v", vec![("a", 5672), ("b", 5673)]),
            ("amqp://a,amqp://b , amqp://c", vec![("a", 5672), ("b", 5672), ("c", 5672)]),
            ("amqp://u:p,;q@a/v;amqp://u:p@[::1]:5673/v", vec![("a", 5672), ("::1", 5673)]),
        ] {
            let addresses = Addresses::parse(urls, &TlsOptions::default()).expect(urls);
            let found: Vec<_> = addresses.list.iter().map(|address| address.host()).collect();
            assert_eq!(found, hosts, "{urls}");
        }
    }

    #[test]
    fn lists_that_cannot_be_one_cluster_are_refused() {
        for (urls, told) in [
            ("amqp://u:secret@a/x;amqp://u:secret@b/y", "different virtual hosts, \"x\" and \"y\""),
            ("amqp://u:secret@a;amqp://u:secret@b/y", "different virtual hosts, \"/\" and \"y\""),
            ("amqp://u:secret@a;redis://:secret@b", "only addresses of RabbitMQ"),
            ("amqp://u:secret@a;amqps://u:secret@b", "TLS"),
            ("amqp://u:secret@a;amqp://u:secret@b:port", "write amqp://"),
            ("amqp://u:secret@a,b/v", "it has several hosts"),
        ] {
            let error = Addresses::parse(urls, &TlsOptions::default()).err().expect(urls);
            let text = format!("{error} {error:?}");
            assert!(text.contains(told) && !text.contains("secret"), "{urls}: {text}");
        }
    }

    #[test]
    fn a_round_without_success_tells_of_every_address() {
        let addresses =
            Addresses::parse("amqp://u:secret@a;amqp://b;amqp://c", &TlsOptions::default()).expect("it is a list");
        let away = |place: &str| BrokerError::Unreachable { url: "x".to_owned(), why: format!("{place}: refused") };
        let refused = || BrokerError::Refused { url: "b".to_owned(), why: "the password is wrong".to_owned() };
        for (faults, expected) in [
            (vec![away("a")], "no broker answers at x: a: refused"),
            (
                vec![away("a"), away("b"), away("a")],
                "no broker answers at amqp://u:***@a;amqp://b;amqp://c: none of 3 addresses can be used; a: refused; \
                 b: refused",
            ),
            (vec![away("a"), refused()], "the broker at b refused the connection: the password is wrong"),
        ] {
            assert_eq!(addresses.refusal(faults).to_string(), expected);
        }
    }

    #[test]
    fn urls_are_read_as_people_mean_them() {
        for (url, host, port, vhost) in [
            ("amqp://localhost", "localhost", 5672, "/"),
            ("amqp://localhost/", "localhost", 5672, "/"),
            ("amqp://localhost//", "localhost", 5672, "/"),
            ("amqp://localhost/%2f", "localhost", 5672, "/"),
            ("amqp://u:p@10.0.0.1:5673/prod", "10.0.0.1", 5673, "prod"),
            ("amqp://u:p@[::1]:5673/prod?heartbeat=3", "::1", 5673, "prod"),
        ] {
            let uri = &one(url).uri;
            assert_eq!(
                (uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()),
                (host, port, vhost),
                "{url}"
            );
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_process_without_descriptors_does_not_blame_the_server() {
        let address = one("amqp://localhost");
        let error = Error::from(std::io::Error::from_raw_os_error(24));
        let text = address.refusal(Some(&error)).to_string();
        assert!(text.contains("ulimit -n") && !text.contains("correct host"), "{text}");
    }

    #[test]
    fn frames_are_small_unless_the_url_says_otherwise() {
        let address = one("amqp://localhost");
        assert_eq!(
            (address.uri.query.frame_max, address.uri(true).query.frame_max),
            (Some(FRAME_MAX), Some(FRAME_MAX_WIDE))
        );
        assert_eq!(address.uri.query.heartbeat, Some(HEARTBEAT));
        let address = one("amqp://localhost?frame_max=65536&heartbeat=3");
        assert_eq!((address.uri.query.frame_max, address.uri(true).query.frame_max), (Some(65_536), Some(65_536)));
        assert_eq!(address.uri.query.heartbeat, Some(3));
    }

    #[test]
    fn a_user_that_may_be_a_token_is_not_named() {
        use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError};
        let of_server = |text: &str| {
            let kind = AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED);
            Error::from(ErrorKind::ProtocolError(AMQPError::new(kind, text.into())))
        };
        let texts =
            ["ACCESS_REFUSED - Login was refused", "NOT_ALLOWED - access to vhost 'x' refused for user 'secret'"];
        for (url, is_named) in [("amqp://secret@h", false), ("amqp://secret:p@h", true)] {
            let address = one(url);
            for text in texts {
                let shown = address.refusal(Some(&of_server(text))).to_string();
                assert_eq!(shown.contains("secret"), is_named, "{shown}");
            }
        }
    }

    #[test]
    fn errors_do_not_show_passwords() {
        for url in [
            "amqp://u:secret@host:port/",
            "amqps://u:secret@host?verify=verify_none",
            "amqp://u:secret@host?heartbeat=x",
            "amqp://host?auth_mechanism=secret@",
            "amqp:u:secret@host",
            "amqp://secret@host:port",
            "amqp://u:secret",
        ] {
            let error = Addresses::parse(url, &TlsOptions::default()).err().expect(url).to_string();
            assert!(!error.contains("secret") && error.lines().count() <= 2, "{error}");
        }
    }
}
