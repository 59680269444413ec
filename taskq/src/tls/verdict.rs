//! The meaning of a failure of TLS, with its remedy. Pure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, OtherError};

use super::{TlsFault, TlsOptions};

/// The server at the other end, as far as the meaning of a failure depends on it.
#[derive(Debug)]
pub(super) struct TlsPeer {
    /// The name that its certificate must be for.
    pub(super) name: String,
    pub(super) options: TlsOptions,
    /// Whether it has asked for a certificate of the client.
    pub(super) asked: Arc<AtomicBool>,
}

impl TlsPeer {
    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

const NO_TLS: &str = "it does not speak TLS; name its port for TLS (5671 of RabbitMQ, `tls-port` of Redis), or write \
                      amqp:// or redis://";

/// Returns the error for a failure before the server has sent anything of the protocol inside. One that has nothing to
/// do with TLS stays as it is.
pub(super) fn of_failure(error: io::Error, peer: &TlsPeer) -> io::Error {
    let inner = error.get_ref();
    if inner.and_then(|inner| inner.downcast_ref::<TlsFault>()).is_some() {
        return error;
    }
    let cause = inner.and_then(|inner| inner.downcast_ref::<Error>());
    let why = match cause {
        Some(cause) => of_protocol(cause, peer),
        None => of_end(error.kind(), peer),
    };
    why.map_or(error, |why| TlsFault(why).into())
}

/// The meaning of the end of a connection: a server that refuses a client's certificate may just hang up.
fn of_end(kind: io::ErrorKind, peer: &TlsPeer) -> Option<String> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if ![BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&kind) {
        return None;
    }
    Some(if peer.was_asked() {
        of_client_certificate(peer, "it hangs up")
    } else {
        format!("it hangs up at the TLS handshake; does this port speak TLS? If it does not: {NO_TLS}")
    })
}

fn of_protocol(error: &Error, peer: &TlsPeer) -> Option<String> {
    Some(match error {
        Error::InvalidCertificate(error) => of_certificate(error, peer),
        Error::AlertReceived(alert) => of_alert(*alert, peer),
        Error::InvalidMessage(_) => NO_TLS.to_owned(),
        Error::PeerIncompatible(why) => {
            format!("it speaks no TLS that is safe ({why:?}); let it allow TLS 1.2 or 1.3")
        }
        error => format!("the TLS handshake failed: {error}; see the server's log"),
    })
}

/// The meaning of a server's certificate that was refused here.
fn of_certificate(error: &CertificateError, peer: &TlsPeer) -> String {
    let name = &peer.name;
    match error {
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = presented.iter().map(|name| plain_name(name)).collect::<Vec<_>>().join(", ");
            let presented = if presented.is_empty() { "no name at all".to_owned() } else { presented };
            format!(
                "its certificate is for {presented}, not for {name}; correct the host, or name the server by \
                 `tls_server_name`"
            )
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for {name}; correct the host, or name the server by `tls_server_name`")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &peer.options.ca_file {
            Some(path) => format!(
                "its certificate is signed by no CA in {}; name the file of the CA that has signed it by `tls_ca_file`",
                path.display()
            ),
            None => "its certificate is signed by no CA that this system trusts; name the file of that CA by \
                     `tls_ca_file`"
                .to_owned(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let since = match error {
                CertificateError::ExpiredContext { time, not_after } => {
                    format!(" {} ago", days(time.as_secs().saturating_sub(not_after.as_secs())))
                }
                _ => String::new(),
            };
            format!("its certificate has expired{since}; renew it on the server, or correct the clock of this machine")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; correct the clock of this machine, or that of its CA".to_owned()
        }
        CertificateError::Other(OtherError(other)) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is one of a CA; make one for the server, signed by that CA".to_owned()
        }
        other => format!("its certificate cannot be accepted ({other}); make another, for this server and its CA"),
    }
}

/// The meaning of what the server has said.
fn of_alert(alert: AlertDescription, peer: &TlsPeer) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => of_client_certificate(peer, "it wants one"),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
        | Alert::HandshakeFailure
            if peer.was_asked() =>
        {
            of_client_certificate(peer, &format!("it says {alert:?}"))
        }
        Alert::ProtocolVersion => "it speaks neither TLS 1.2 nor TLS 1.3; let it allow one of them".to_owned(),
        Alert::UnrecognisedName => {
            format!(
                "it does not know the name {}; correct the host, or name the server by `tls_server_name`",
                peer.name
            )
        }
        alert => format!("it refuses the TLS handshake ({alert:?}); see the server's log"),
    }
}

/// The refusal of a client's certificate, or of its absence.
fn of_client_certificate(peer: &TlsPeer, how: &str) -> String {
    match &peer.options.certificate_file {
        None => format!(
            "it wants a certificate of the client ({how}); name one by `tls_certificate_file`, and its key by \
             `tls_key_file`"
        ),
        Some(path) => format!(
            "it does not accept the certificate in {} ({how}); see whether it is valid, and signed by a CA that the server \
             trusts",
            path.display()
        ),
    }
}

/// The fault of a server that has said nothing for so long.
pub(super) fn silence(time: Duration) -> TlsFault {
    let time = humantime::format_duration(time);
    TlsFault(format!("it says nothing to a TLS handshake within {time}; probably {NO_TLS}"))
}

/// The warning of a server's certificate that ends soon.
pub(super) fn end_of_validity(name: &str, seconds: u64) -> String {
    format!("the certificate of the server {name} ends in {}; renew it on the server before", days(seconds))
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A name as a certificate has it, which rustls shows as in Rust: `DnsName("x")`.
fn plain_name(shown: &str) -> String {
    let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(shown);
    let inner = inner.trim_matches('"');
    // What is no name is the server's to say, and shown as it is.
    ServerName::try_from(inner).map_or_else(|_| shown.to_owned(), |_| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::InvalidMessage;
    use tokio_rustls::rustls::pki_types::UnixTime;

    use super::*;

    fn peer(ca: bool, certificate: bool, asked: bool) -> TlsPeer {
        let options = TlsOptions {
            ca_file: ca.then(|| "/ca".into()),
            certificate_file: certificate.then(|| "/mine".into()),
            ..TlsOptions::default()
        };
        TlsPeer { name: "rabbit".to_owned(), options, asked: Arc::new(AtomicBool::new(asked)) }
    }

    #[test]
    fn each_failure_has_its_remedy() {
        let day = |days: u64| UnixTime::since_unix_epoch(Duration::from_secs(days * 86_400));
        let certificate = Error::InvalidCertificate;
        let other_name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("rabbit").expect("it is one"),
            presented: vec!["DnsName(\"other\")".to_owned(), "*.example".to_owned()],
        };
        let expired = CertificateError::ExpiredContext { time: day(20), not_after: day(17) };
        let (asked, plain) = (peer(true, false, true), peer(true, false, false));
        for (error, peer, expected) in [
            (certificate(other_name), &plain, "is for other, *.example, not for rabbit; correct the host, or name"),
            (certificate(CertificateError::UnknownIssuer), &plain, "signed by no CA in /ca; name the file"),
            (certificate(CertificateError::BadSignature), &peer(false, false, false), "no CA that this system trusts"),
            (certificate(expired), &plain, "has expired 3 days ago; renew it"),
            (certificate(CertificateError::NotValidYet), &plain, "correct the clock"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), &plain, "does not speak TLS; name its port"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), &asked, "name one by `tls_certificate_file`"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), &asked, "wants a certificate of the client"),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                &peer(true, true, true),
                "not accept the certificate in /mine",
            ),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), &plain, "refuses the TLS handshake"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), &plain, "neither TLS 1.2 nor TLS 1.3"),
        ] {
            let told = of_failure(io::Error::new(io::ErrorKind::InvalidData, error), peer);
            let fault = TlsFault::in_error(&told).expect("it is one").to_string();
            assert!(fault.contains(expected) && !fault.contains('\n'), "{fault}");
        }
        assert!(silence(Duration::from_secs(5)).to_string().contains("within 5s; probably it does not speak TLS"));
    }

    #[test]
    fn an_end_is_a_refusal_where_a_certificate_was_asked_for() {
        let ended = |kind: io::ErrorKind, peer: &TlsPeer| of_failure(kind.into(), peer);
        let shown = |error: io::Error| TlsFault::in_error(&error).map(ToString::to_string).unwrap_or_default();
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe] {
            assert!(
                shown(ended(kind, &peer(true, false, true)))
                    .contains("wants a certificate of the client (it hangs up)")
            );
            assert!(shown(ended(kind, &peer(true, true, true))).contains("not accept the certificate in /mine"));
            assert!(shown(ended(kind, &peer(true, true, false))).contains("does this port speak TLS?"));
        }
        assert_eq!(shown(ended(io::ErrorKind::TimedOut, &peer(true, false, true))), "");
        // What was told once is not told otherwise.
        let fault = TlsFault("no".to_owned());
        assert_eq!(shown(of_failure(fault.clone().into(), &peer(true, false, true))), "no");
    }

    #[test]
    fn the_end_of_validity_is_told_in_days() {
        for (seconds, expected) in [(86_400 * 12 + 5, "in 12 days; renew"), (86_400, "in 1 day;"), (7200, "in 2h;")] {
            assert!(end_of_validity("rabbit", seconds).contains(expected));
        }
    }
}
