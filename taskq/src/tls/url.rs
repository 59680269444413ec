//! The TLS of a URL: its scheme, and parameters in the words of RabbitMQ's URIs and of redis-py and Celery. Pure.

use std::path::PathBuf;

use super::TlsOptions;

/// A URL with what it says about TLS taken out of its query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Understood {
    /// The URL without parameters of TLS.
    pub(crate) url: String,
    /// The options of its connections; `None` if they are not encrypted.
    pub(crate) tls: Option<TlsOptions>,
}

/// The schemes of encrypted connections.
const SECURE: [&str; 3] = ["amqps:", "rediss:", "rediss+sentinel:"];

/// Parameters that are about TLS and that nothing here heeds, with the reason.
const REFUSED: [(&str, &str); 4] = [
    ("ssl_password", "keys that are encrypted cannot be read; decrypt it: `openssl pkey -in KEY -out PLAIN`"),
    ("ssl_ca_path", "CAs are read from one file; write ssl_ca_certs=FILE"),
    ("ssl_ca_data", "CAs are read from a file; write ssl_ca_certs=FILE"),
    ("ssl", "TLS is asked for by the scheme, amqps:// or rediss://"),
];

/// Reads what a URL says about TLS; what it does not say is as in `settings`. An error is the reason why it cannot be
/// used, with the remedy.
pub(crate) fn understand(url: &str, settings: &TlsOptions) -> Result<Understood, String> {
    let is_secure = SECURE.iter().any(|scheme| url.starts_with(scheme));
    let mut tls = settings.clone();
    let (place, query) = url.rsplit_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    let mut others = Vec::new();
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !take(&mut tls, name, value)? {
            others.push(parameter);
        } else if !is_secure {
            return Err(format!("{name}= is of use with TLS only; write amqps:// or rediss://, or leave it out"));
        }
    }
    if is_secure && !cfg!(feature = "tls") {
        return Err(
            "TLS needs the feature `tls` of taskq, without which this program was built; add it, or name a port \
                    without TLS"
                .to_owned(),
        );
    }
    let url = if others.is_empty() { place.to_owned() } else { format!("{place}?{}", others.join("&")) };
    Ok(Understood { url, tls: is_secure.then_some(tls) })
}

/// Takes a parameter if it is one of TLS.
fn take(tls: &mut TlsOptions, name: &str, value: &str) -> Result<bool, String> {
    let file = |place: &mut Option<PathBuf>| {
        let path = decoded(value).filter(|path| !path.is_empty());
        *place = Some(path.ok_or_else(|| format!("{name}= takes the path of a file"))?.into());
        Ok(true)
    };
    match name {
        "cacertfile" | "ssl_ca_certs" => file(&mut tls.ca_file),
        "certfile" | "ssl_certfile" => file(&mut tls.certificate_file),
        "keyfile" | "ssl_keyfile" => file(&mut tls.key_file),
        "server_name_indication" | "ssl_server_hostname" if value != "disable" => {
            let server = decoded(value).filter(|server| !server.is_empty());
            tls.server_name =
                Some(server.ok_or_else(|| format!("{name}= takes the name in the server's certificate"))?);
            Ok(true)
        }
        "verify" | "ssl_cert_reqs" if ["verify_peer", "required", "CERT_REQUIRED"].contains(&value) => Ok(true),
        "ssl_check_hostname" if ["true", "True", "1"].contains(&value) => Ok(true),
        "verify" | "ssl_cert_reqs" | "ssl_check_hostname" | "server_name_indication" => Err(format!(
            "{name}= would take any server for the right one, and passwords with it; name the CA of the server's \
             certificate by cacertfile= or ssl_ca_certs=, and its name by server_name_indication=, in place of it"
        )),
        _ => match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, why)) => Err(format!("{name}=: {why}")),
            None => Ok(false),
        },
    }
}

/// Decodes `%2F` and the like; `None` if that is not text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok());
        match escaped {
            Some(digits) => {
                bytes.push(u8::from_str_radix(digits?, 16).ok()?);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(ca: &str, certificate: &str, key: &str, name: &str) -> TlsOptions {
        let file = |path: &str| Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
        let server_name = Some(name.to_owned()).filter(|name| !name.is_empty());
        TlsOptions { ca_file: file(ca), certificate_file: file(certificate), key_file: file(key), server_name }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn parameters_of_both_vocabularies_win_over_settings() {
        let settings = files("/s/ca", "", "", "s");
        for (url, expected, tls) in [
            ("amqp://h/v?heartbeat=5", "amqp://h/v?heartbeat=5", None),
            ("amqps://h", "amqps://h", Some(files("/s/ca", "", "", "s"))),
            (
                "amqps://u:p@h/v?cacertfile=/ca&heartbeat=5&certfile=%2Fc%20x&keyfile=/k&server_name_indication=n&verify=verify_peer",
                "amqps://u:p@h/v?heartbeat=5",
                Some(files("/ca", "/c x", "/k", "n")),
            ),
            (
                "rediss://h/0?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k&ssl_cert_reqs=required",
                "rediss://h/0",
                Some(files("/ca", "/c", "/k", "s")),
            ),
            ("rediss://:p?w@h/0", "rediss://:p?w@h/0", Some(settings.clone())),
        ] {
            let found = understand(url, &settings).expect(url);
            assert_eq!(found, Understood { url: expected.to_owned(), tls }, "{url}");
        }
    }

    #[test]
    fn what_would_weaken_it_is_refused() {
        for (url, expected) in [
            ("amqps://h?verify=verify_none", "verify= would take any server"),
            ("amqps://h?server_name_indication=disable", "server_name_indication= would take any server"),
            ("rediss://h?ssl_cert_reqs=none", "ssl_cert_reqs= would take any server"),
            ("rediss://h?ssl_check_hostname=false", "would take any server"),
            ("rediss://h?ssl_password=secret", "openssl pkey"),
            ("amqps://h?cacertfile=", "takes the path of a file"),
            ("amqps://h?cacertfile=%F", "takes the path of a file"),
            ("amqp://h?cacertfile=/ca", "is of use with TLS only"),
            ("amqp://h?ssl=true", "by the scheme"),
        ] {
            let error = understand(url, &TlsOptions::default()).expect_err(url);
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn a_program_without_it_names_the_feature() {
        for url in ["amqps://h", "rediss://h/0?ssl_ca_certs=/ca"] {
            let error = understand(url, &TlsOptions::default()).expect_err(url);
            assert!(error.contains("the feature `tls` of taskq"), "{error}");
        }
    }
}
